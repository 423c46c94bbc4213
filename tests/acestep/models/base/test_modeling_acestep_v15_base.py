"""The model on the torch backend: conditions by diffusers' encoder, a run by its loop."""

from typing import Any

import numpy as np
import pytest
import torch

from acestep.errors import BackendError
from tests.parity_helper import assert_equal

FRAMES = 9


@pytest.fixture
def conditions(torch_handler: Any) -> dict[str, np.ndarray]:
    """The arguments of prepare_condition, a batch of 2; the second item's text and lyrics are shorter."""
    config, draw = torch_handler.config, torch.Generator().manual_seed(0)
    text_mask, lyric_mask = torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    text_mask[1, 4:], lyric_mask[1, 2:] = False, False
    silence = torch_handler.model.silence_latent[:, : config.timbre_fix_frame]
    tensors = {
        "text_hidden_states": torch.randn(2, 7, config.text_hidden_dim, generator=draw),
        "text_attention_mask": text_mask,
        "lyric_hidden_states": torch.randn(2, 5, config.text_hidden_dim, generator=draw),
        "lyric_attention_mask": lyric_mask,
        "refer_audio_acoustic_hidden_states_packed": torch.from_numpy(silence).repeat(2, 1, 1),
        "refer_audio_order_mask": torch.arange(2),
        "src_latents": torch.randn(2, FRAMES, config.audio_acoustic_hidden_dim, generator=draw),
        "chunk_masks": torch.ones(2, FRAMES, config.audio_acoustic_hidden_dim, dtype=torch.bool),
    }
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def generate(model: Any, conditions: dict[str, np.ndarray], **changes: Any) -> dict[str, Any]:
    request: dict[str, Any] = {
        "seed": [3, 4],
        "infer_steps": 5,
        "diffusion_guidance_scale": 1.0,
        "cfg_interval_start": 0.0,
        "cfg_interval_end": 1.0,
        "shift": 1.0,
        "disable_tqdm": True,
    }
    return model.generate_audio(**{**request, **changes}, **conditions)


def test_context_latents_are_source_and_mask(torch_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    states, mask, context = torch_handler.model.prepare_condition(**conditions)
    source, chunk_mask = np.split(context, 2, axis=-1)
    assert_equal(source, conditions["src_latents"])
    assert_equal(chunk_mask, np.ones_like(source))
    assert context.dtype == np.float32
    assert states.shape == (2, mask.shape[1], torch_handler.config.encoder_hidden_size)
    assert mask.sum(axis=1).tolist() == [7 + 5 + 1, 4 + 2 + 1], "text, lyrics and one timbre state"


def test_run_hands_out_what_it_was_made_of(torch_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    result = generate(torch_handler.model, conditions)
    assert result["target_latents"].shape == result["noise"].shape == (2, FRAMES, 8)
    assert result["timesteps"] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    costs = result["time_costs"]
    assert costs["diffusion_time_cost"] / costs["diffusion_per_step_time_cost"] == pytest.approx(5)
    assert costs["encoder_time_cost"] > 0, "the key that unmasks PyTorch behind an MLX label"
    assert costs["total_time_cost"] == pytest.approx(
        costs["encoder_time_cost"] + costs["diffusion_time_cost"]
    )


def test_each_item_has_its_own_seed(torch_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    first, second = generate(torch_handler.model, conditions)["noise"]
    swapped = generate(torch_handler.model, conditions, seed=[4, 3])["noise"]
    assert_equal(swapped, np.stack([second, first]))


def test_custom_timesteps_reach_the_loop(torch_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    result = generate(torch_handler.model, conditions, timesteps=np.array([1.0, 0.25]))
    assert result["timesteps"] == [1.0, 0.25]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"diffusion_guidance_scale": 7.0}, id="guidance"),
        pytest.param({"shift": 3.0}, id="shift"),
        pytest.param({"infer_steps": 6}, id="steps"),
    ],
)
def test_options_reach_the_loop(torch_handler: Any, conditions: Any, changes: dict[str, Any]) -> None:
    plain = generate(torch_handler.model, conditions)["target_latents"]
    assert not np.array_equal(generate(torch_handler.model, conditions, **changes)["target_latents"], plain)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [("cfg_interval_start", 0.19, 0.21), ("cfg_interval_end", 0.81, 0.79)],
    ids=["start", "end"],
)
def test_guidance_interval_reaches_the_loop_in_t(
    torch_handler: Any, conditions: Any, name: str, inside: float, outside: float
) -> None:
    """Steps at 1, .8, .6, .4, .2; what only moves between two of them changes nothing."""

    def latents(**interval: float) -> np.ndarray:
        guided = generate(torch_handler.model, conditions, diffusion_guidance_scale=7.0, **interval)
        return guided["target_latents"]

    other = {"cfg_interval_start": 0.0, "cfg_interval_end": 0.9}
    want = latents(**other)
    assert np.array_equal(latents(**{**other, name: inside}), want)
    assert not np.array_equal(latents(**{**other, name: outside}), want)


def test_without_its_decoder_the_run_says_so(mlx_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    with pytest.raises(BackendError) as refused:
        generate(mlx_handler.model, conditions)
    assert str(refused.value) == (
        "the PyTorch decoder is not loaded; initialize the service with use_mlx_dit=False"
    )


def test_other_methods_are_refused(torch_handler: Any, conditions: dict[str, np.ndarray]) -> None:
    with pytest.raises(BackendError, match="infer_method is 'sde', the torch backend runs 'ode' only"):
        generate(torch_handler.model, conditions, infer_method="sde")
