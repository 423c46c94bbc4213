"""The quantised decoder: what is quantised, how large it is, how far from float32, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from acestep.errors import BackendError, CheckpointError
from acestep.handler import AceStepHandler
from acestep.models.checkpoint.config import read_config
from acestep.models.checkpoint.memory import weights_in_memory
from acestep.models.checkpoint.precision import Precision
from acestep.models.checkpoint.quantization import resolve_mlx_precision, stored_bits
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.linear import project
from acestep.models.mlx.quantize import quantize_layers
from acestep.models.mlx.quantized_checkpoint import check_target, write_quantized
from tests.checkpoint_forms import rewrite, rewrite_json, to_diffusers
from tests.loop_helper import latents, load_mlx_decoder
from tests.parity_helper import assert_equal, assert_near, relative_l2

BITS = pytest.mark.parametrize("bits", [8, 4], ids="{}_bits".format)
BOUNDS = {
    8: 5e-2,
    4: 4e-1,
}  # relative L2 of the final latents to float32's, on the tiny checkpoint's random weights


@pytest.fixture(params=["plain", "xl"])
def folder(request: pytest.FixtureRequest, tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A DiT folder, its VAE and text encoder beside it, that a test may change."""
    root = shutil.copytree(tiny_root("base", request.param) / "checkpoints", tmp_path / "checkpoints")
    return root / "acestep-v15-base"


@pytest.fixture
def plain_folder(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    return shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints") / "acestep-v15-base"


@BITS
@pytest.mark.parametrize("guidance", [1.0, 7.0], ids="guidance_{:g}".format)
def test_latents_are_near_those_of_float32_and_the_fast_decoder_is_the_reference(
    folder: Path, bits: int, guidance: float
) -> None:
    decoder = load_mlx_decoder(folder, f"{bits}bit")
    got = latents(MLXFastDecoder(decoder), guidance)
    assert_near(got, latents(decoder, guidance), l2=2e-6, what="fast to reference")
    distance = relative_l2(got, latents(load_mlx_decoder(folder, "float32"), guidance))
    assert 1e-3 < distance <= BOUNDS[bits]


@BITS
def test_all_large_matrices_are_quantised_and_nothing_else(folder: Path, bits: int) -> None:
    """In groups of 64, scales and biases in 16 bits; rows that are no multiple of 64 stay as they are."""
    whole, decoder = load_mlx_decoder(folder, "float32"), load_mlx_decoder(folder, f"{bits}bit")
    layers = dict(decoder.named_modules())
    for name, plain in whole.named_modules():
        layer = layers[name]
        if isinstance(plain, nn.Linear) and plain.weight.shape[1] % 64 == 0:
            assert isinstance(layer, nn.QuantizedLinear), name
            assert (layer.bits, layer.group_size) == (bits if name.startswith("layers.") else 8, 64)
            assert layer.scales.dtype == layer.biases.dtype == mx.float16
        else:
            assert type(layer) is type(plain), name
    for name, value in tree_flatten(decoder.parameters()):
        if name.rpartition(".")[2] not in ("scales", "biases"):
            assert value.dtype in (mx.float32, mx.uint32), name


@BITS
def test_share_of_float32_at_real_width(plain_folder: Path, bits: int) -> None:
    """The published shape with the proportion of layers to the rest that 24 layers have, by shapes alone."""
    config = replace(
        read_config(plain_folder),
        hidden_size=2048,
        intermediate_size=6144,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        encoder_hidden_size=2048,
        in_channels=192,
        audio_acoustic_hidden_dim=64,
        num_hidden_layers=24,
        layer_types=("sliding_attention", "full_attention") * 12,
    )
    decoder = MLXDiTDecoder.from_config(config)  # its weights are never computed

    def size() -> int:
        return sum(value.nbytes for _, value in tree_flatten(decoder.parameters()))

    whole = size()
    quantize_layers(decoder, bits)
    in_float32 = sum(
        value.nbytes
        for name, value in tree_flatten(decoder.parameters())
        if name.rpartition(".")[2] in ("scales", "biases")
    )
    assert (size() - in_float32 // 2) / whole <= {8: 0.27, 4: 0.15}[bits]


@BITS
def test_what_is_stored_is_what_is_quantised_while_loading(folder: Path, bits: int) -> None:
    target = folder.with_name("converted")
    write_quantized(folder, target, bits)
    assert stored_bits(target) == bits
    stored = dict(tree_flatten(load_mlx_decoder(target, f"{bits}bit").parameters()))
    for name, value in tree_flatten(load_mlx_decoder(folder, f"{bits}bit").parameters()):
        assert_equal(stored[name], value, name)


def test_both_layouts_can_be_stored(plain_folder: Path, tmp_path: Path) -> None:
    pipeline = to_diffusers(plain_folder, tmp_path / "pipeline")
    write_quantized(pipeline, tmp_path / "converted", 8)
    stored = dict(tree_flatten(load_mlx_decoder(tmp_path / "converted", "8bit").parameters()))
    for name, value in tree_flatten(load_mlx_decoder(plain_folder, "8bit").parameters()):
        assert_equal(stored[name], value, name)
    message, loaded = AceStepHandler().initialize_service(tmp_path, str(tmp_path / "converted"), device="cpu")
    assert loaded, message


@BITS
def test_handler_loads_both(plain_folder: Path, bits: int) -> None:
    """From the original on request, from the converted by itself; the encoders are float16."""
    write_quantized(plain_folder, plain_folder.with_name("converted"), bits)
    root = plain_folder.parent.parent
    for name, asked in ((plain_folder.name, f"{bits}bit"), ("converted", "auto")):
        handler = AceStepHandler()
        message, loaded = handler.initialize_service(root, name, device="cpu", mlx_precision=asked)
        assert loaded, message
        assert handler.precision == f"{bits}bit"
        assert isinstance(handler.mlx_decoder.reference.layers[0].mlp.up_proj, nn.QuantizedLinear)
        assert handler.model.encoder.text_projector.weight.dtype == mx.float16


@BITS
def test_memory_is_counted_before_loading(plain_folder: Path, bits: int) -> None:
    """From the original and from the converted; counted as at real widths, where every matrix is quantised."""
    precision = Precision(f"{bits}bit")
    target = plain_folder.with_name("converted")
    write_quantized(plain_folder, target, bits)
    original = weights_in_memory(plain_folder, precision)
    float32 = weights_in_memory(plain_folder)
    assert 2 * original["condition encoder"] == float32["condition encoder"]
    assert original["decoder"] < {8: 0.27, 4: 0.2}[bits] * float32["decoder"]
    assert weights_in_memory(target, precision)["condition encoder"] == original["condition encoder"]
    assert weights_in_memory(target, precision)["decoder"] == pytest.approx(original["decoder"], rel=0.02)


class TestRefusals:
    """Of what is stored wrongly, and of what would be written wrongly."""

    @pytest.fixture
    def converted(self, plain_folder: Path) -> Path:
        target = plain_folder.with_name("converted")
        write_quantized(plain_folder, target, 8)
        return target

    def refusal(self, folder: Path, precision: str = "8bit") -> str:
        with pytest.raises(CheckpointError) as refused:
            load_mlx_decoder(folder, precision)
        return str(refused.value)

    def test_other_group_size(self, converted: Path) -> None:
        rewrite_json(converted / "config.json", quantization={"group_size": 32, "bits": 8})
        assert self.refusal(converted) == (
            f"{converted / 'config.json'}: 'quantization' is {{'group_size': 32, 'bits': 8}}, expected "
            f"{{'group_size': 64, 'bits': 8}} or {{'group_size': 64, 'bits': 4}}; convert the original checkpoint "
            f"with scripts/convert_checkpoint.py"
        )

    def test_other_bits_than_config_json_says(self, converted: Path) -> None:
        rewrite_json(converted / "config.json", quantization={"group_size": 64, "bits": 4})
        assert "has the shape" in self.refusal(converted, "4bit")

    @pytest.mark.parametrize(
        ("kind", "sentence"),
        [
            ("scales", "or U32 with its scales beside it; give a checkpoint that is not quantised"),
            ("biases", "1 missing (layers.0.mlp.up_proj.biases), none unexpected"),
            ("weight", "1 missing (layers.0.mlp.up_proj.weight), none unexpected"),
        ],
    )
    def test_missing_part_of_a_matrix(self, converted: Path, kind: str, sentence: str) -> None:
        path = converted / "model.safetensors"
        rewrite(path, lambda tensors: tensors.pop(f"decoder.layers.0.mlp.up_proj.{kind}"))
        assert sentence in self.refusal(converted)

    def test_wrong_shape(self, converted: Path) -> None:
        def shorten(tensors: dict[str, Any]) -> None:
            name = "decoder.layers.0.mlp.up_proj.scales"
            tensors[name] = tensors[name][:-1].clone()

        rewrite(converted / "model.safetensors", shorten)
        assert "'layers.0.mlp.up_proj.scales' has the shape (95, 1)" in self.refusal(converted)

    def test_integers_that_config_json_does_not_announce(self, converted: Path) -> None:
        rewrite_json(converted / "config.json", quantization=...)
        assert "is stored as U32, expected F32, F16, BF16; give a checkpoint that is not quantised" in (
            self.refusal(converted)
        )

    def test_missing_matrix_of_the_original(self, plain_folder: Path) -> None:
        path = plain_folder / "model.safetensors"
        rewrite(path, lambda tensors: tensors.pop("decoder.layers.0.mlp.up_proj.weight"))
        assert "1 missing (layers.0.mlp.up_proj.weight), none unexpected" in self.refusal(plain_folder)

    @pytest.mark.parametrize("asked", ["float32", "float16", "4bit"])
    def test_other_precision_than_the_stored_one(self, converted: Path, asked: str) -> None:
        with pytest.raises(BackendError, match="is stored in 8 bits; give '8bit', or the checkpoint that"):
            resolve_mlx_precision(asked, converted)

    def test_pytorch(self, converted: Path) -> None:
        message, loaded = AceStepHandler().initialize_service(
            converted.parent.parent, converted.name, device="cpu", use_mlx_dit=False
        )
        assert not loaded
        assert "give a checkpoint that is not quantised" in message

    def test_converted_checkpoint_is_not_converted_again(self, converted: Path) -> None:
        with pytest.raises(
            CheckpointError, match="is stored in 8 bits already; give the original checkpoint"
        ):
            write_quantized(converted, converted.with_name("twice"), 4)
        assert not converted.with_name("twice").exists()

    def test_nothing_is_overwritten(self, plain_folder: Path, converted: Path) -> None:
        before = (converted / "model.safetensors").read_bytes()
        with pytest.raises(CheckpointError, match="exists; nothing is overwritten"):
            write_quantized(plain_folder, converted, 4)
        assert (converted / "model.safetensors").read_bytes() == before

    def test_away_from_the_vae(self, plain_folder: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="is not beside"):
            check_target(plain_folder, tmp_path / "elsewhere")

    def test_nothing_is_left_of_a_conversion_that_fails(
        self, plain_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError("No space left on device")

        before = sorted(plain_folder.parent.iterdir())
        monkeypatch.setattr(mx, "save_safetensors", full)
        with pytest.raises(OSError, match="No space left"):
            write_quantized(plain_folder, plain_folder.with_name("converted"), 8)
        assert sorted(plain_folder.parent.iterdir()) == before


def test_large_activations_survive_quantised_weights(plain_folder: Path) -> None:
    """A gated MLP product of 137,000: what the layers take and return is float32."""
    decoder = load_mlx_decoder(plain_folder, "8bit")
    layer: Any = decoder.layers[0].mlp.gate_proj

    x = 137_000 * mx.random.normal((1, 3, 64), key=mx.random.key(0))
    assert_near(project(layer, x) / 137_000, project(layer, x / 137_000), l2=1e-6)
