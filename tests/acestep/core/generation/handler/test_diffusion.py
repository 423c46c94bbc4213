"""Tensors to the MLX loop and back."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from acestep.core.generation.handler.diffusion import DiffusionMixin, to_numpy
from tests.fork_helper import CountingDecoder, random_conditions
from tests.parity_helper import assert_equal


class Host(DiffusionMixin):
    def __init__(self, pair: SimpleNamespace) -> None:
        self.config = pair.config
        self.mlx_decoder = CountingDecoder(pair.mlx)


@pytest.fixture
def host(load_pair: Any) -> Host:
    return Host(load_pair())


def run(host: Any, batch: int = 1, **changes: Any) -> dict[str, Any]:
    c = random_conditions(host.config, batch, 9)
    inputs: dict[str, Any] = {
        "encoder_hidden_states": c.states,
        "encoder_attention_mask": None,
        "context_latents": c.context,
        "src_latents": c.noise,
        "seed": 3,
        "null_condition_emb": c.null,
        "infer_steps": 4,
        "disable_tqdm": True,
    }
    return host._mlx_run_diffusion(**{**inputs, **changes})


def test_latents_come_back_in_float32(host: Host) -> None:
    result = run(host, batch=2)
    for name in ("target_latents", "noise"):
        assert result[name].dtype == np.float32
        assert result[name].shape == (2, 9, host.config.audio_acoustic_hidden_dim)


def test_tensors_of_any_precision_are_taken(host: Host) -> None:
    """Rounded on the way in, computed in float32."""
    c = random_conditions(host.config, 1, 9)
    rounded: dict[str, Any] = {
        "encoder_hidden_states": c.states.bfloat16(),
        "context_latents": c.context.bfloat16(),
    }
    in_float32: dict[str, Any] = {name: tensor.float() for name, tensor in rounded.items()}
    assert_equal(run(host, **rounded)["target_latents"], run(host, **in_float32)["target_latents"])


def test_tensors_with_gradients_are_taken() -> None:
    array = to_numpy(torch.ones(2, requires_grad=True) * 3)
    assert array.dtype == np.float32
    assert_equal(array, [3.0, 3.0])


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor], ids=["list", "tuple", "tensor"])
def test_custom_timesteps_of_any_kind(host: Host, kind: Any) -> None:
    run(host, timesteps=kind([1.0, 0.5, 0.25]))
    assert host.mlx_decoder.timesteps == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"seed": 4}, id="seed"),
        pytest.param({"shift": 1.0}, id="shift"),
        pytest.param({"guidance_scale": 4.0}, id="guidance_scale"),
    ],
)
def test_options_reach_the_loop(host: Host, changes: dict[str, Any]) -> None:
    assert not np.array_equal(run(host, **changes)["target_latents"], run(host)["target_latents"])


def test_guidance_interval_reaches_the_loop(host: Host) -> None:
    """Steps at 1, .75, .5, .25."""
    run(host, guidance_scale=4.0, shift=1.0, cfg_interval_start=0.3, cfg_interval_end=0.8)
    assert host.mlx_decoder.batches == [1, 2, 2, 1]


def test_method_reaches_the_loop(host: Host) -> None:
    assert not np.array_equal(run(host, infer_method="sde")["target_latents"], run(host)["target_latents"])
    with pytest.raises(ValueError, match="infer_method is 'heun'"):
        run(host, infer_method="heun")


@pytest.mark.parametrize("name", ["encoder_hidden_states", "context_latents"])
def test_batch_sizes_that_differ_are_refused_before_anything_runs(host: Host, name: str) -> None:
    c = random_conditions(host.config, 1, 9)
    one = {"encoder_hidden_states": c.states, "context_latents": c.context}[name]
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole message follows
        run(host, batch=2, **{name: one})
    assert str(refused.value) == (
        f"{name} holds a batch of 1, src_latents one of 2; give all of them the same batch size"
    )
    assert host.mlx_decoder.evaluations == 0
