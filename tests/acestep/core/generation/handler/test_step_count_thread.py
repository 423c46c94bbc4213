"""The way of the step count and the model kind through the three patch sites, seen at the decoder.

Nothing on the way is believed: what counts is how often, and with which t, the decoder was called.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acestep.core.generation.handler.diffusion import DiffusionMixin
from acestep.core.generation.handler.service_generate_execute import ServiceGenerateExecuteMixin
from tests.fork_helper import CountingDecoder, float32, linspace_and_shift

FRAMES, CHANNELS, WIDTH = 5, 8, 16
FORTY = [(1 - i / 40) ** 1.5 for i in range(40)]


class Model:
    """The part of a model that the three sites touch."""

    null_condition_emb = torch.zeros(1, 1, WIDTH)

    def prepare_condition(
        self, *, src_latents: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor, None, torch.Tensor]:
        return (
            torch.zeros(len(src_latents), 3, WIDTH),
            None,
            torch.zeros(len(src_latents), FRAMES, 2 * CHANNELS),
        )

    def generate_audio(self, **_: Any) -> None:
        raise AssertionError("PyTorch was run")


class Host(ServiceGenerateExecuteMixin, DiffusionMixin):
    """All three sites, and a decoder that only counts."""

    device, dtype = "cpu", torch.float32
    use_mlx_dit = True

    def __init__(self, **attributes: Any) -> None:
        self.model: Any = Model()
        self.mlx_decoder = CountingDecoder()
        vars(self).update(attributes)


BASE = {"config": SimpleNamespace(is_turbo=False)}
TURBO = {"config": SimpleNamespace(is_turbo=True)}
NO_KEY = {"config": SimpleNamespace()}
CONFIG_IS_NONE = {"config": None}
NO_CONFIG: dict[str, Any] = {}
EVERY_HOST = {
    "base": BASE,
    "config_without_the_key": NO_KEY,
    "turbo": TURBO,
    "no_config": NO_CONFIG,
    "config_is_none": CONFIG_IS_NONE,
}
BASE_HOSTS = [pytest.param(BASE, id="base"), pytest.param(NO_KEY, id="config_without_the_key")]
TURBO_HOSTS = [
    pytest.param(TURBO, id="turbo"),
    pytest.param(NO_CONFIG, id="no_config"),
    pytest.param(CONFIG_IS_NONE, id="config_is_none"),
]


def payload() -> dict[str, torch.Tensor]:
    names = (
        "text_hidden_states", "text_attention_mask", "lyric_hidden_states", "lyric_attention_mask",
        "refer_audio_acoustic_hidden_states_packed", "refer_audio_order_mask", "chunk_mask",
    )  # fmt: skip
    return {**dict.fromkeys(names, torch.zeros(1)), "src_latents": torch.zeros(1, FRAMES, CHANNELS)}


def evaluated(
    host: Host, steps: Any, shift: float = 1.0, timesteps: list[float] | None = None
) -> list[float]:
    """Runs E's builder and executor on the host; the t of every evaluation."""
    request: dict[str, Any] = {"seed_param": [1], "infer_method": "ode", "shift": shift}
    kwargs = host._build_service_generate_kwargs(
        payload=payload(),
        infer_steps=steps,
        guidance_scale=1.0,
        cfg_interval_start=0.0,
        cfg_interval_end=1.0,
        timesteps=timesteps,
        **request,
    )
    host._execute_service_generate_diffusion(payload=payload(), generate_kwargs=kwargs, **request)
    return host.mlx_decoder.timesteps


def run_diffusion(host: Host, *further: Any, **options: Any) -> list[float]:
    """Calls D as old callers do: by position up to the seed."""
    states, _, context = Model().prepare_condition(src_latents=torch.zeros(1, FRAMES, CHANNELS))
    host._mlx_run_diffusion(states, None, context, torch.zeros(1, FRAMES, CHANNELS), 1, *further, **options)
    return host.mlx_decoder.timesteps


class TestAllThreeSites:
    """From the kwargs dict to the decoder."""

    @pytest.mark.parametrize("host", BASE_HOSTS)
    @pytest.mark.parametrize("shift", [1.0, 2.4, 3.0], ids="shift_{:g}".format)
    @pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 27, 50, 200], ids="{}_steps".format)
    def test_base_is_evaluated_once_a_step(self, host: dict[str, Any], steps: int, shift: float) -> None:
        assert evaluated(Host(**host), steps, shift) == linspace_and_shift(steps, shift)

    @pytest.mark.parametrize("host", TURBO_HOSTS)
    @pytest.mark.parametrize("shift", [1.0, 2.0, 3.0], ids="shift_{:g}".format)
    @pytest.mark.parametrize("steps", [1, 8, 50], ids="{}_steps".format)
    def test_turbo_and_unknown_kinds_keep_their_eight(
        self, host: dict[str, Any], steps: int, shift: float
    ) -> None:
        assert evaluated(Host(**host), steps, shift) == pytest.approx(linspace_and_shift(8, shift))

    @pytest.mark.parametrize("host", BASE_HOSTS)
    def test_base_takes_custom_timesteps_as_they_are(self, host: dict[str, Any]) -> None:
        assert evaluated(Host(**host), 8, 3.0, [*FORTY, 0.0]) == float32(FORTY)

    @pytest.mark.parametrize("host", TURBO_HOSTS)
    def test_turbo_snaps_custom_timesteps(self, host: dict[str, Any]) -> None:
        assert evaluated(Host(**host), 8, 3.0, [0.97, 0.52, 0.0]) == float32([21 / 22, 0.5])

    def test_kwargs_without_a_step_count_mean_eight(self) -> None:
        """A caller of an older builder; on a base model these are eight steps of its own schedule."""
        host = Host(**BASE)
        without = {"diffusion_guidance_scale": 1.0, "cfg_interval_start": 0.0, "cfg_interval_end": 1.0}
        host._execute_service_generate_diffusion(payload(), without, [1], "ode", 2.4)
        assert host.mlx_decoder.timesteps == linspace_and_shift(8, 2.4)

    @pytest.mark.parametrize("host", EVERY_HOST.values(), ids=EVERY_HOST)
    def test_the_timesteps_that_are_reported_are_those_that_ran(self, host: dict[str, Any]) -> None:
        running = Host(**host)
        states, _, context = Model().prepare_condition(src_latents=torch.zeros(1, FRAMES, CHANNELS))
        result = running._mlx_run_diffusion(
            states, None, context, torch.zeros(1, FRAMES, CHANNELS), 1, infer_steps=27, disable_tqdm=True
        )
        assert float32(result["timesteps"]) == running.mlx_decoder.timesteps


class TestExecute:
    """Site 1: what the executor hands to `_mlx_run_diffusion`."""

    @pytest.mark.parametrize("steps", [1, 27, None], ids=repr)
    def test_step_count_is_passed_by_keyword(self, steps: Any) -> None:
        received: dict[str, Any] = {}

        class Wrapping(Host):
            def _mlx_run_diffusion(self, *args: Any, **kwargs: Any) -> Any:
                assert not args, "wrappers of this method take keywords"
                received.update(kwargs)
                return {}

        evaluated(Wrapping(**BASE), steps)
        assert received["infer_steps"] == steps


class TestDiffusion:
    """Site 2: called by itself, as old callers call it."""

    @pytest.mark.parametrize("steps", [1, 27], ids="{}_steps".format)
    def test_step_count_is_forwarded(self, steps: int) -> None:
        assert run_diffusion(Host(**BASE), infer_steps=steps, shift=2.4) == linspace_and_shift(steps, 2.4)

    @pytest.mark.parametrize("host", EVERY_HOST.values(), ids=EVERY_HOST)
    def test_callers_that_say_nothing_get_eight(self, host: dict[str, Any]) -> None:
        assert run_diffusion(Host(**host)) == pytest.approx(linspace_and_shift(8, 3.0))

    def test_positional_arguments_mean_what_they_meant(self) -> None:
        assert run_diffusion(Host(**BASE), "ode", 1.0, [1.0, 0.5]) == [1.0, 0.5]

    def test_model_kind_is_read_at_each_run(self) -> None:
        host = Host(**BASE)
        assert len(run_diffusion(host, infer_steps=27)) == 27
        host.config = SimpleNamespace(is_turbo=True)
        host.mlx_decoder.timesteps.clear()
        assert len(run_diffusion(host, infer_steps=27)) == 8
