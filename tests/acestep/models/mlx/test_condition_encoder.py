"""The MLX condition encoder against diffusers' on the same weights."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
import torch
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepEncoderLayer, _ace_step_rotary_freqs
from mlx.utils import tree_flatten

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config
from acestep.models.checkpoint.silence import load_silence_latent
from acestep.models.checkpoint.weights import upstream_name
from acestep.models.mlx.condition_convert import load_mlx_condition_encoder
from acestep.models.mlx.condition_encoder import MLXEncoderLayer
from acestep.models.mlx.loading import load_strictly
from acestep.models.mlx.rope import rotary_tables
from acestep.models.pytorch.loading import load_condition_encoder
from tests.parity_helper import assert_equal, assert_near

TEXT, LYRICS = 21, 43  # tokens; the window of the tiny checkpoint is 16


@pytest.fixture(scope="module", params=["plain", "xl"])
def pair(request: pytest.FixtureRequest, tiny_root: Callable[..., Path]) -> SimpleNamespace:
    """One checkpoint's condition encoder twice."""
    folder = tiny_root("base", request.param) / "checkpoints" / "acestep-v15-base"
    config = read_config(folder)
    return SimpleNamespace(
        folder=folder,
        config=config,
        mlx=load_mlx_condition_encoder(folder, config),
        torch=load_condition_encoder(folder, config),
        silence=load_silence_latent(folder, config),
    )


def conditions(config: ModelConfig, text: int, lyrics: int) -> dict[str, torch.Tensor]:
    """A batch of 2; of the second item's text and lyrics so many tokens are there, the rest is padding."""
    draw = torch.Generator().manual_seed(0)
    text_mask, lyric_mask = torch.ones(2, TEXT, dtype=torch.bool), torch.ones(2, LYRICS, dtype=torch.bool)
    text_mask[1, text:], lyric_mask[1, lyrics:] = False, False
    return {
        "text_hidden_states": torch.randn(2, TEXT, config.text_hidden_dim, generator=draw),
        "text_attention_mask": text_mask,
        "lyric_hidden_states": torch.randn(2, LYRICS, config.text_hidden_dim, generator=draw),
        "lyric_attention_mask": lyric_mask,
    }


@pytest.mark.parametrize(
    ("text", "lyrics"), [(TEXT, LYRICS), (9, 3)], ids=["all there", "padding beyond the window"]
)
def test_states_are_diffusers(pair: SimpleNamespace, text: int, lyrics: int) -> None:
    given = conditions(pair.config, text, lyrics)
    silence = pair.torch.silence_latent[:, : pair.config.timbre_fix_frame].expand(2, -1, -1)
    with torch.inference_mode():
        want, want_mask = pair.torch(
            **given,
            refer_audio_acoustic_hidden_states_packed=silence,
            refer_audio_order_mask=torch.arange(2),
        )
    got, mask = pair.mlx(
        **{key: mx.array(value.numpy()) for key, value in given.items()},
        timbre=pair.mlx.encode_timbre(mx.array(silence.contiguous().numpy())),
    )
    assert_near(got, want, largest=1e-5)
    assert_equal(mask, want_mask)
    assert mask.sum(axis=1).tolist() == [TEXT + LYRICS + 1, text + lyrics + 1]


def test_silence_and_null_condition(pair: SimpleNamespace) -> None:
    assert_equal(pair.silence, pair.torch.silence_latent)
    assert_equal(pair.mlx.null_condition_emb, pair.torch.null_condition_emb)


def test_layer_of_real_width_is_diffusers(tiny_root: Callable[..., Path]) -> None:
    """One layer of the published condition encoder, over more positions than its window."""
    config = replace(
        read_config(tiny_root() / "checkpoints" / "acestep-v15-base"),
        hidden_size=2048,
        intermediate_size=6144,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
    )
    with torch.device("meta"):  # no random weights that would be overwritten
        reference = AceStepEncoderLayer(2048, 16, 8, 128, 6144, sliding_window=4).requires_grad_(False)
    reference.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for value in reference.state_dict().values():
        value.uniform_(-0.02, 0.02, generator=draw) if value.dim() == 2 else value.uniform_(
            0.5, 1.5, generator=draw
        )
    layer = MLXEncoderLayer(config)
    weights = {upstream_name(key): mx.array(value.numpy()) for key, value in reference.state_dict().items()}
    load_strictly(layer, weights, "random weights")
    x = torch.randn(1, 11, 2048, generator=draw)
    position = torch.arange(11)
    mask = torch.where((position[:, None] - position).abs() <= 4, 0.0, torch.finfo(torch.float32).min)
    rotary = _ace_step_rotary_freqs(11, 128, 1e6, torch.device("cpu"), torch.float32)
    want = reference(x, rotary, mask[None, None])
    got = layer(mx.array(x.numpy()), rotary_tables(11, 128, 1e6), mx.array(mask.numpy()))
    assert_near(got, want, largest=1e-5)


def test_weights_that_do_not_fit(pair: SimpleNamespace) -> None:
    config = replace(pair.config, num_lyric_encoder_hidden_layers=1)
    with pytest.raises(CheckpointError, match=r"11 unexpected \(lyric_encoder\.layers\.1\.") as refused:
        load_mlx_condition_encoder(pair.folder, config)
    assert str(pair.folder) in str(refused.value)


def test_silence_of_another_model(pair: SimpleNamespace) -> None:
    with pytest.raises(CheckpointError) as refused:
        load_silence_latent(pair.folder, replace(pair.config, timbre_fix_frame=751))
    assert str(refused.value) == (
        f"{pair.folder / 'silence_latent.pt'} holds (1, 8, 750), expected a tensor [1, 8, 751 or more]; "
        f"copy the checkpoint again"
    )


def test_both_layouts_hold_the_same(pair: SimpleNamespace, tmp_path: Path) -> None:
    from tests.checkpoint_forms import to_diffusers

    folder = to_diffusers(pair.folder, tmp_path / "pipeline")
    config = read_config(folder)
    other = dict(tree_flatten(load_mlx_condition_encoder(folder, config).parameters()))
    for name, value in tree_flatten(pair.mlx.parameters()):
        assert_equal(other[name], value, name)
    assert_equal(load_silence_latent(folder, config), pair.silence)
