"""The sampled comparison finds what the full one finds: defects put into the MLX path, one at a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderOobleck

from acestep.models.mlx import dit_generate, dit_run, guidance
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.rope import rotary_tables
from patches.harness.counted_decoder import WatchedDecoder
from patches.harness.evaluations import Calls
from smoke import sampled
from smoke.compare import FULL, NONE, SAMPLED, Comparison, distances_to_pytorch, sampled_steps
from smoke.judge import judge
from smoke.origin import reach_of_decoder
from smoke.request import Request
from smoke.run import Run
from tests.fork_helper import random_conditions

STEPS, FRAMES = 9, 40
STEM = {"rms": 0.1, "peak": 0.5, "clipped": 0.0, "samples": 1}


@pytest.fixture
def run_mlx(tmp_path: Path, load_pair: Callable[..., Any]) -> Callable[..., Run]:
    """run_mlx(scale, wrap): a recorded run of the MLX loop on the tiny checkpoint, the decoder in `wrap`."""
    pair = load_pair("plain", "base")

    def run(scale: float = 7.0, wrap: Callable[[Any], Any] = lambda decoder: decoder) -> Run:
        conditions = random_conditions(pair.config, batch=1, frames=FRAMES)
        calls, folder = Calls(batch_size=1), tmp_path / "steps"
        calls.start_over(folder)
        result = dit_generate.mlx_generate_diffusion(
            WatchedDecoder(wrap(MLXFastDecoder(pair.mlx)), calls),
            conditions.states.numpy(),
            conditions.context.numpy(),
            tuple(conditions.noise.shape),
            seed=1,
            shift=1.0,
            guidance_scale=scale,
            null_condition_emb_np=conditions.null.numpy(),
            infer_steps=STEPS,
            is_turbo=False,
            disable_tqdm=True,
        )
        tensors = {
            "noise": result["noise"],
            "context_latents": conditions.context.numpy(),
            "encoder_hidden_states": conditions.states.numpy(),
            "null_condition_emb": conditions.null.numpy(),
            "target_latents": result["target_latents"],
        }
        return Run(
            STEPS, calls.timesteps, "cpu", 0.1, {}, STEM, tensors, steps=folder, not_recorded=calls.not_recorded
        )  # fmt: skip

    return run


@pytest.fixture
def failed_checks(tiny_root: Callable[..., Path]) -> Callable[..., list[str]]:
    """failed_checks(run, comparison, scale): the names of the checks that fail."""

    def failed(run: Run, comparison: Comparison, scale: float = 7.0) -> list[str]:
        checkpoint = tiny_root() / "checkpoints" / "acestep-v15-base"
        request = Request(Path("x.wav"), checkpoint, "drums", STEPS, scale, 1.0, 1, "mlx", "cpu")
        (distances,) = distances_to_pytorch(comparison, [request], [run], [None])
        return [check.name for check in judge(run, distances, samples=1) if not check.holds]

    return failed


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_a_right_run_passes_at_every_step(
    run_mlx: Callable[..., Run], failed_checks: Callable[..., list[str]], scale: float
) -> None:
    run = run_mlx(scale)
    assert failed_checks(run, Comparison(SAMPLED, steps=STEPS), scale) == []
    assert failed_checks(run, Comparison(FULL), scale) == []


class Decoder:
    """In front of the decoder: `change` gets the number of the evaluation, the inputs and the last velocity."""

    def __init__(self, decoder: Any, change: Callable[..., Any]) -> None:
        self.decoder, self.change, self.evaluation, self.last = decoder, change, -1, None

    def __call__(self, **inputs: Any) -> Any:
        self.evaluation += 1
        plain = self.decoder(**inputs)
        changed = self.change(self, inputs, plain[0])
        self.last = plain[0]
        return changed, plain[1]


def stale(decoder: Decoder, _: Any, velocity: Any) -> Any:
    return decoder.last if decoder.evaluation >= STEPS // 2 else velocity


def one_half(_: Decoder, __: Any, velocity: Any) -> Any:
    import mlx.core as mx

    return mx.concatenate([velocity[:1], velocity[:1]])


def swapped(_: Decoder, __: Any, velocity: Any) -> Any:
    return velocity[::-1]


def one_frame_late(_: Decoder, __: Any, velocity: Any) -> Any:
    import mlx.core as mx

    return mx.roll(velocity, 1, 1)


def last_step_scaled(decoder: Decoder, _: Any, velocity: Any) -> Any:
    return velocity * 1.0001 if decoder.evaluation == STEPS - 1 else velocity


def momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "MOMENTUM", 1.0)


def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guidance, "NORM_THRESHOLD", 2.0)


def no_momentum_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = guidance.AdaptiveProjectedGuidance.__call__

    def guided(self: Any, conditional: Any, null: Any) -> Any:
        if self._running is None:
            self._running = 0.1 * conditional
        return plain(self, conditional, null)

    monkeypatch.setattr(guidance.AdaptiveProjectedGuidance, "__call__", guided)


def one_timestep(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = dit_generate.get_timestep_schedule

    def schedule(*args: Any, **kwargs: Any) -> list[float]:
        values = plain(*args, **kwargs)
        return [*values[:3], values[3] - 1e-3, *values[4:]]

    monkeypatch.setattr(dit_generate, "get_timestep_schedule", schedule)


def tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        dit_run, "rotary_tables", lambda patches, size, theta: rotary_tables(patches, size, 1.01 * theta)
    )


def window(decoder: Any) -> Any:
    object.__setattr__(
        decoder, "config", replace(decoder.config, sliding_window=decoder.config.sliding_window + 1)
    )
    return decoder


DEFECTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None] | None, Callable[[Any], Any]]] = {
    "momentum +1": (momentum, lambda decoder: decoder),
    "guidance threshold": (threshold, lambda decoder: decoder),
    "momentum not reset": (no_momentum_reset, lambda decoder: decoder),
    "one timestep": (one_timestep, lambda decoder: decoder),
    "rotary tables": (tables, lambda decoder: decoder),
    "window off by one": (None, window),
    "branches swapped": (None, lambda decoder: Decoder(decoder, swapped)),
    "velocity of the step before": (None, lambda decoder: Decoder(decoder, stale)),
    "half of the batch": (None, lambda decoder: Decoder(decoder, one_half)),
    "one frame late": (None, lambda decoder: Decoder(decoder, one_frame_late)),
    "last step": (None, lambda decoder: Decoder(decoder, last_step_scaled)),
}


@pytest.mark.parametrize(("patch", "wrap"), DEFECTS.values(), ids=DEFECTS.keys())
def test_a_defect_is_found_sampled_as_in_full(
    run_mlx: Callable[..., Run],
    failed_checks: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    patch: Callable[[pytest.MonkeyPatch], None] | None,
    wrap: Callable[[Any], Any],
) -> None:
    if patch is not None:
        patch(monkeypatch)
    run = run_mlx(7.0, wrap)
    assert failed_checks(run, Comparison(SAMPLED)) != []
    assert failed_checks(run, Comparison(FULL)) != []


def test_guidance_that_never_ran_is_found(
    run_mlx: Callable[..., Run], failed_checks: Callable[..., list[str]]
) -> None:
    assert failed_checks(run_mlx(1.0), Comparison(SAMPLED)) == ["update"]


def test_a_run_whose_steps_were_not_recorded_is_compared_in_full(
    run_mlx: Callable[..., Run], failed_checks: Callable[..., list[str]]
) -> None:
    run = replace(run_mlx(1.0), steps=None, not_recorded="disk full")
    assert Comparison(SAMPLED).evaluations(run) == STEPS
    assert failed_checks(run, Comparison(SAMPLED), 7.0) == ["latents"]


def test_a_run_that_evaluated_nothing_fails_by_name(
    run_mlx: Callable[..., Run], failed_checks: Callable[..., list[str]]
) -> None:
    run = run_mlx(1.0)
    empty = replace(run, timesteps=[], tensors={"target_latents": run.tensors["target_latents"]})
    assert failed_checks(empty, Comparison(SAMPLED)) == ["steps", "schedule", "latents"]


def test_steps_are_spread_from_the_first_to_the_last() -> None:
    assert sampled_steps(50, 3) == [0, 24, 49]
    assert sampled_steps(50, 1) == [25]
    assert sampled_steps(2, 3) == [0, 1]
    assert Comparison().chosen(tiny=True).mode == FULL
    assert Comparison().chosen(tiny=False).mode == SAMPLED
    assert Comparison(NONE).chosen(tiny=False).mode == NONE


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_steps_evaluated_at_once_have_the_velocities_of_each_alone(
    run_mlx: Callable[..., Run],
    failed_checks: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    scale: float,
) -> None:
    run = run_mlx(scale)
    branches = 1 if scale == 1 else 2
    assert sampled.batches(run, [0, 4, 8]) == [[0, 4, 8]]
    assert failed_checks(run, Comparison(SAMPLED, steps=STEPS), scale) == []
    monkeypatch.setattr(sampled, "FRAMES_AT_ONCE", 2 * branches * FRAMES)
    assert sampled.batches(run, [0, 4, 8]) == [[0, 4], [8]]
    monkeypatch.setattr(sampled, "FRAMES_AT_ONCE", 1)
    assert sampled.batches(run, [0, 4, 8]) == [[0], [4], [8]]
    assert failed_checks(run, Comparison(SAMPLED, steps=STEPS), scale) == []


@pytest.mark.parametrize(
    ("ratios", "reach"), [((2, 4, 4, 6, 10), 9), ((10, 6, 4, 4, 2), 31)], ids=["real", "tiny"]
)
def test_a_part_of_the_latents_decodes_to_the_samples_of_all(ratios: tuple[int, ...], reach: int) -> None:
    torch.manual_seed(0)
    vae = AutoencoderOobleck(
        encoder_hidden_size=16,
        downsampling_ratios=list(ratios),
        channel_multiples=[1] * 5,
        decoder_channels=4,
        decoder_input_channels=8,
        audio_channels=2,
        sampling_rate=48000,
    )
    assert reach_of_decoder(ratios) == reach
    latents, middle = torch.randn(1, 8, 80), slice(40 * 1920, 41 * 1920)
    with torch.inference_mode():
        whole = vae.decode(latents).sample[..., middle]

        def far(margin: int) -> float:
            part = vae.decode(latents[..., 40 - margin : 41 + margin]).sample
            return (part[..., margin * 1920 : (margin + 1) * 1920] - whole).abs().max().item()

        assert far(reach) < 1e-6
        assert far(reach // 2) > 1e-6, "less would not do"
