"""Half precision on weights whose activations go beyond float16, as those of real checkpoints do.

Published for real weights: gated MLP product 137,000, residual stream 1.36 million (XL), output of
a lyric encoder layer's down_proj 505,000; float16 ends at 65,504.
"""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers.models.transformers.ace_step_transformer import AceStepMLP

from acestep.models.checkpoint.config import read_config
from acestep.models.mlx import attention as mlx_attention
from acestep.models.mlx import linear as mlx_linear
from acestep.models.mlx.condition_convert import load_mlx_condition_encoder
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXSwiGLUMLP
from acestep.models.pytorch import half as torch_half
from acestep.models.pytorch.half import to_half
from acestep.models.pytorch.loading import load_condition_encoder, load_decoder
from tests.checkpoint_forms import Tensors, rewrite
from tests.fork_helper import random_conditions
from tests.loop_helper import by_mlx, by_torch, load_mlx_decoder
from tests.parity_helper import assert_near, relative_l2

GATED, RESIDUAL, DOWN = 137_000.0, 1_400_000.0, 505_000.0
BOUND = 1e-2  # relative L2 of the final latents
BOUND_OF_STATES = {"float16": 1e-2, "bfloat16": 4e-2}  # of the encoder's, where bfloat16 is 8 times as coarse
HALF_DTYPES = ("float16", "bfloat16")
GUIDANCE_SCALES = (1.0, 7.0)
STEPS = 8
LAYER = 1  # of the decoder's three
CONSTANT, LARGE = 5, 9  # channels of the residual stream


class Peaks:
    """The largest values that a PyTorch model computed: of down_proj's inputs and outputs, and of its layers'."""

    def __init__(self, layer: Any) -> None:
        self.gated = self.down = self.residual = 0.0
        layer.mlp.down_proj.register_forward_hook(self._note_down)
        layer.register_forward_hook(self._note_layer)

    def _note_down(self, _: Any, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.gated = max(self.gated, given[0].abs().max().item())
        self.down = max(self.down, output.abs().max().item())

    def _note_layer(self, _: Any, __: Any, output: torch.Tensor) -> None:
        self.residual = max(self.residual, output.abs().max().item())


def plant(
    folder: Path, layer: str, constant: Callable[[Tensors], Any], norms: Sequence[str], size: float
) -> None:
    """Gives a layer one hidden unit whose gated MLP product is about GATED and leads channel LARGE to about `size`.

    constant: makes the layer's feed-forward part see a constant in channel CONSTANT. norms: those behind the layer; as
    trained ones do, they keep the large channel small and lift the others to where they were.
    """

    def change(tensors: Tensors) -> None:
        constant(tensors)
        for name in ("gate_proj", "up_proj"):
            tensors[f"{layer}.mlp.{name}.weight"][0] = 0.0
            tensors[f"{layer}.mlp.{name}.weight"][0, CONSTANT] = 37.0
        down = tensors[f"{layer}.mlp.down_proj.weight"]
        down[:, 0] = 0.0
        down[LARGE, 0] = 1.0
        for name in norms:
            weight = tensors[f"{name}.weight"]
            small = 0.01 * weight[LARGE]
            weight *= size / len(weight) ** 0.5
            weight[LARGE] = small
        # With the large channel in them the norms no longer limit the others; a trained model keeps them in bounds.
        tensors[f"{norms[-1]}.weight"] /= 40.0

    rewrite(folder / "model.safetensors", change)


def adjust(folder: Path, layer: str, measured: Callable[[], Peaks], target: str, size: float) -> Peaks:
    """Scales the planted unit until its gated MLP product is GATED and what it leads to is `size`."""

    def multiply(unit: float, output: float) -> None:
        def change(tensors: Tensors) -> None:
            for name in ("gate_proj", "up_proj"):
                tensors[f"{layer}.mlp.{name}.weight"][0] *= unit
            tensors[f"{layer}.mlp.down_proj.weight"][LARGE, 0] *= output

        rewrite(folder / "model.safetensors", change)

    for _ in range(2):
        multiply((GATED / measured().gated) ** 0.5, 1.0)
        multiply(1.0, size / getattr(measured(), target))
    return measured()


def constant_shift(tensors: Tensors) -> None:
    """In the modulation of the decoder's layer: the shift, and the gate behind down_proj."""
    shift, gate = 3, 5
    table = tensors[f"decoder.layers.{LAYER}.scale_shift_table"]
    width = table.shape[-1]
    table[0, shift, CONSTANT] = 10.0
    table[0, gate, LARGE] = RESIDUAL / DOWN
    # As in trained models, the large channel is large in every step and frame: where it were small, the norms behind
    # it would lift the others beyond all bounds. So neither the timestep nor the latents change it.
    tensors[f"decoder.layers.{LAYER}.mlp_norm.weight"][CONSTANT] = 0.0
    for embedding in ("time_embed", "time_embed_r"):
        for row in (shift * width + CONSTANT, gate * width + LARGE):
            tensors[f"decoder.{embedding}.time_proj.weight"][row] = 0.0
            tensors[f"decoder.{embedding}.time_proj.bias"][row] = 0.0


def constant_bias(tensors: Tensors) -> None:
    """In the lyric encoder's input."""
    tensors["encoder.lyric_encoder.embed_tokens.bias"][CONSTANT] = 30.0


@pytest.fixture(scope="module", params=["plain", "xl"])
def planted(
    request: pytest.FixtureRequest, tiny_root: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A checkpoint with large values: its DiT folder, its config, conditions to run it on, its float32 latents."""
    root = tmp_path_factory.mktemp("large")
    shutil.copytree(tiny_root("base", request.param) / "checkpoints", root / "checkpoints")
    folder = root / "checkpoints/acestep-v15-base"
    config = read_config(folder)
    conditions = random_conditions(config, 2, 75)

    def decoded() -> Peaks:
        decoder = load_decoder(folder, config)
        peaks = Peaks(decoder.layers[LAYER])
        torch_latents(decoder, conditions, 7.0)
        return peaks

    def encoded() -> Peaks:
        encoder = load_condition_encoder(folder, config)
        peaks = Peaks(encoder.lyric_encoder.layers[0])
        encoder.lyric_encoder(lyrics(config), torch.ones(1, 30, dtype=torch.bool))
        return peaks

    layer, encoder_layer = f"decoder.layers.{LAYER}", "encoder.lyric_encoder.layers.0"
    behind = [f"decoder.layers.{LAYER + 1}.{name}_norm" for name in ("self_attn", "cross_attn", "mlp")]
    plant(folder, layer, constant_shift, [*behind, "decoder.norm_out"], RESIDUAL)
    behind = [f"encoder.lyric_encoder.layers.1.{name}_layernorm" for name in ("input", "post_attention")]
    plant(folder, encoder_layer, constant_bias, [*behind, "encoder.lyric_encoder.norm"], DOWN)
    of_decoder = adjust(folder, layer, decoded, "residual", RESIDUAL)
    of_encoder = adjust(folder, encoder_layer, encoded, "down", DOWN)
    reference = load_decoder(folder, config)
    wanted = {guidance: torch_latents(reference, conditions, guidance) for guidance in GUIDANCE_SCALES}
    return SimpleNamespace(
        folder=folder,
        config=config,
        conditions=conditions,
        decoder=of_decoder,
        encoder=of_encoder,
        latents=wanted,
    )


def lyrics(config: Any) -> torch.Tensor:
    """[1, 30, text width]"""
    return torch.randn(1, 30, config.text_hidden_dim, generator=torch.Generator().manual_seed(1))


def torch_latents(decoder: Any, c: Any, guidance: float) -> np.ndarray:
    """Final latents of a run of diffusers' pipeline."""
    result = by_torch(decoder, c, infer_steps=STEPS, shift=1.0, guidance_scale=guidance)
    return result.latents.numpy()


def mlx_latents(decoder: Any, c: Any, guidance: float, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Final latents of a run on MLX from the same noise."""
    monkeypatch.setattr("acestep.models.mlx.dit_generate.draw_noise", lambda *_: mx.array(c.noise.numpy()))
    options = {"shift": 1.0, "guidance_scale": guidance, "infer_steps": STEPS, "is_turbo": False}
    return by_mlx(decoder, c, **options)["target_latents"]


def half_latents(
    backend: str, planted: SimpleNamespace, precision: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    if backend == "torch":
        decoder = load_decoder(planted.folder, planted.config)
        to_half(decoder, getattr(torch, precision), attention=True)
        return torch_latents(decoder, planted.conditions, guidance)
    decoder = MLXFastDecoder(load_mlx_decoder(planted.folder, precision))
    return mlx_latents(decoder, planted.conditions, guidance, monkeypatch)


def without_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mlx_linear, mlx_attention):
        monkeypatch.setattr(module, "scale_into_range", lambda *_, **__: mx.array(1.0))
    monkeypatch.setattr(torch_half, "scale_into_range", lambda *_, **__: torch.tensor(1.0))


def test_values_are_as_large_as_those_of_real_weights(planted: SimpleNamespace) -> None:
    assert planted.decoder.gated == pytest.approx(GATED, rel=0.02)
    assert planted.decoder.residual == pytest.approx(RESIDUAL, rel=0.02)
    assert planted.encoder.down == pytest.approx(DOWN, rel=0.02)


@pytest.mark.parametrize("guidance", GUIDANCE_SCALES, ids="guidance_{:g}".format)
@pytest.mark.parametrize("precision", HALF_DTYPES)
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_latents_are_those_of_float32(
    planted: SimpleNamespace, backend: str, precision: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = half_latents(backend, planted, precision, guidance, monkeypatch)
    want = planted.latents[guidance]
    print(f"figure: {backend} {precision} guidance {guidance:g}: {relative_l2(got, want):.2e}")
    assert_near(got, want, l2=BOUND, what="latents")


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_float16_overflows_without_scaling(
    planted: SimpleNamespace, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows that these weights need it."""
    without_scaling(monkeypatch)
    assert not np.isfinite(half_latents(backend, planted, "float16", 1.0, monkeypatch)).all()


@pytest.mark.parametrize("precision", HALF_DTYPES)
def test_encoder_states_are_those_of_float32(planted: SimpleNamespace, precision: str) -> None:
    """The lyric encoder, whose down_proj reaches DOWN."""
    x, there = lyrics(planted.config), torch.ones(1, 30, dtype=torch.bool)
    reference = load_condition_encoder(planted.folder, planted.config)
    want = reference.lyric_encoder(x, there).numpy()
    ours = load_mlx_condition_encoder(planted.folder, planted.config, precision).lyric_encoder
    to_half(reference, getattr(torch, precision))
    got = {
        "mlx": ours(mx.array(x.numpy()), mx.array(there.numpy())),
        "torch": reference.lyric_encoder(x, there),
    }
    for backend, states in got.items():
        print(f"figure: lyric encoder {backend} {precision}: {relative_l2(states, want):.2e}")
        assert_near(states, want, l2=BOUND_OF_STATES[precision], what=f"states of {backend}")


def test_encoder_overflows_without_scaling(planted: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    without_scaling(monkeypatch)
    x, there = lyrics(planted.config), torch.ones(1, 30, dtype=torch.bool)
    ours = load_mlx_condition_encoder(planted.folder, planted.config, "float16").lyric_encoder
    theirs = load_condition_encoder(planted.folder, planted.config).lyric_encoder
    to_half(theirs, torch.float16)
    assert not np.isfinite(np.array(ours(mx.array(x.numpy()), mx.array(there.numpy())))).all()
    assert not theirs(x, there).isfinite().all()


@pytest.mark.parametrize(("width", "heads"), [(2048, 16), (2560, 20)], ids=["plain", "xl"])
def test_block_of_real_width(
    tiny_root: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, width: int, heads: int
) -> None:
    """One feed-forward part of the decoder and a residual stream of RESIDUAL before it, float16 on MLX and PyTorch."""
    config = replace(
        read_config(tiny_root() / "checkpoints/acestep-v15-base"),
        hidden_size=width,
        intermediate_size=3 * width,
        num_attention_heads=heads,
        num_key_value_heads=8,
        head_dim=128,
    )
    draw = np.random.default_rng(0)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        """Large arrays repeat a million values, which takes a tenth of the time; no two rows are alike."""
        values = draw.standard_normal(min(math.prod(shape), 2**20 + 7), dtype=np.float32)
        return np.resize(values * np.float32(scale), shape)

    weights = {
        "gate_proj": normal(3 * width, width, scale=width**-0.5),
        "up_proj": normal(3 * width, width, scale=width**-0.5),
        "down_proj": normal(width, 3 * width, scale=(3 * width) ** -0.5),
    }
    x = normal(1, 2, width)
    x[..., CONSTANT] = 10.0
    for name in ("gate_proj", "up_proj"):
        weights[name][0] = 0.0
        weights[name][0, CONSTANT] = GATED**0.5 / 10
    weights["down_proj"][:, 0] = 0.0
    weights["down_proj"][LARGE, 0] = DOWN / GATED
    stream = normal(1, 2, width)
    stream[..., LARGE] = RESIDUAL

    ours = MLXSwiGLUMLP(config)
    with torch.device("meta"):  # no random weights that would be overwritten
        theirs = AceStepMLP(width, 3 * width)
    for name, weight in weights.items():
        getattr(ours, name).weight = mx.array(weight.astype(np.float16))
        getattr(theirs, name).weight = torch.nn.Parameter(torch.from_numpy(weight), requires_grad=False)
    mlx_linear.measure_rows(ours)
    want = (theirs(torch.from_numpy(x)) + torch.from_numpy(stream)).numpy()
    to_half(theirs, torch.float16)

    def results() -> dict[str, np.ndarray]:
        return {
            "mlx": np.array(ours(mx.array(x)) + mx.array(stream)),
            "torch": (theirs(torch.from_numpy(x)) + torch.from_numpy(stream)).numpy(),
        }

    assert np.abs(want[..., LARGE]).min() > 1.8e6
    others = np.arange(width) != LARGE
    for backend, got in results().items():
        assert_near(got[..., LARGE], want[..., LARGE], l2=1e-3, what=f"large channel on {backend}")
        assert_near(got[..., others], want[..., others], l2=1e-3, what=f"other channels on {backend}")
    without_scaling(monkeypatch)
    for backend, got in results().items():
        assert not np.isfinite(got).all(), backend
