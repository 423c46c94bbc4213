"""Weights out of a checkpoint: strict, whatever the files' number and precision."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from mlx.utils import tree_flatten
from safetensors.torch import load_file, save_file

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import read_config
from acestep.models.mlx.dit_convert import convert_and_load, convert_decoder_weights
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.loading import load_strictly
from tests.checkpoint_forms import split_into_shards
from tests.parity_helper import assert_equal

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A DiT folder that a test may change."""
    copy = tmp_path / "acestep-v15-base"
    shutil.copytree(tiny_root() / "checkpoints" / "acestep-v15-base", copy)
    return copy


def rewrite(folder: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def loaded(folder: Path) -> MLXDiTDecoder:
    decoder = MLXDiTDecoder.from_config(read_config(folder))
    convert_and_load(folder, decoder)
    return decoder


def parameters(decoder: MLXDiTDecoder) -> dict[str, mx.array]:
    return dict(tree_flatten(decoder.parameters()))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        loaded(folder)
    return str(refused.value)


def test_every_weight_of_the_checkpoint_arrives(folder: Path) -> None:
    """All of them, each once, with the values of the file; the convolutions' axes in MLX's order."""
    tensors = load_file(folder / "model.safetensors")
    want = {key.removeprefix("decoder."): v for key, v in tensors.items() if key.startswith("decoder.")}
    got = parameters(loaded(folder))
    want["proj_in.weight"] = want.pop("proj_in.1.weight").permute(0, 2, 1)
    want["proj_in.bias"] = want.pop("proj_in.1.bias")
    want["proj_out.weight"] = want.pop("proj_out.1.weight").permute(1, 2, 0)
    want["proj_out.bias"] = want.pop("proj_out.1.bias")
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert_equal(got[name], value, name)


def test_converted_weights_are_left_as_they_are(folder: Path) -> None:
    once = convert_decoder_weights(
        {k: mx.array(v.numpy()) for k, v in load_file(folder / "model.safetensors").items()}
    )
    twice = convert_decoder_weights(once)
    assert twice.keys() == once.keys()
    for name, value in once.items():
        assert_equal(twice[name], value, name)


def test_shards_hold_the_same(folder: Path) -> None:
    whole = parameters(loaded(folder))
    split_into_shards(folder, 3)
    for name, value in parameters(loaded(folder)).items():
        assert_equal(value, whole[name], name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_half_precision_on_disk_is_float32_in_memory(folder: Path, dtype: torch.dtype) -> None:
    want = load_file(folder / "model.safetensors")
    rewrite(folder, lambda tensors: tensors.update({key: value.to(dtype) for key, value in tensors.items()}))
    got = parameters(loaded(folder))
    assert {value.dtype for value in got.values()} == {mx.float32}
    key = "layers.1.mlp.up_proj.weight"
    assert_equal(got[key], want[f"decoder.{key}"].to(dtype).float(), key)


class TestStrictness:
    """A weight that does not fit is named, and nothing is loaded."""

    def test_missing_weights_are_named(self, folder: Path) -> None:
        rewrite(folder, lambda tensors: tensors.pop("decoder.layers.1.mlp.up_proj.weight"))
        assert refusal(folder) == (
            f"{folder}: the weights do not fit its config.json: "
            "1 missing (layers.1.mlp.up_proj.weight), none unexpected; copy the checkpoint again"
        )

    def test_many_are_counted(self, folder: Path) -> None:
        rewrite(
            folder, lambda ts: [ts.pop(key) for key in list(ts) if key.startswith("decoder.layers.2.mlp.")]
        )
        rewrite(folder, lambda ts: ts.pop("decoder.proj_out.1.bias"))
        assert "4 missing (layers.2.mlp.down_proj.weight, layers.2.mlp.gate_proj.weight, " in refusal(folder)
        assert "layers.2.mlp.up_proj.weight and 1 more), none unexpected" in refusal(folder)

    def test_unexpected_weights_are_named(self, folder: Path) -> None:
        rewrite(folder, lambda tensors: tensors.update({"decoder.layers.1.lora.weight": torch.ones(2)}))
        assert "none missing, 1 unexpected (layers.1.lora.weight)" in refusal(folder)

    def test_misshapen_weights_are_named(self, folder: Path) -> None:
        rewrite(folder, lambda tensors: tensors.update({"decoder.norm_out.weight": torch.ones(63)}))
        assert refusal(folder) == (
            f"{folder}: weight 'norm_out.weight' has the shape (63,), its config.json asks for (64,); "
            "are both of the same model?"
        )

    def test_checkpoint_of_another_model_is_named(self, folder: Path) -> None:
        save_file({"transformer.h.0.attn.weight": torch.ones(2)}, folder / "model.safetensors")
        assert refusal(folder) == (
            f"{folder} holds weights of another model: 1 unexpected (transformer.h.0.attn.weight); "
            "give the folder of acestep-v15-base or another base model"
        )

    def test_weights_of_another_part_alone_are_all_missing(self, folder: Path) -> None:
        rewrite(
            folder, lambda tensors: [tensors.pop(key) for key in list(tensors) if key.startswith("decoder.")]
        )
        count = len(parameters(MLXDiTDecoder.from_config(read_config(folder))))
        assert f"{count} missing" in refusal(folder)

    def test_file_cut_short_is_named(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        sentence = refusal(folder)
        assert sentence.startswith(f"{path} cannot be read (")
        assert sentence.endswith("; copy the checkpoint again")

    def test_nothing_is_loaded_where_one_weight_does_not_fit(self, folder: Path) -> None:
        decoder = MLXDiTDecoder.from_config(read_config(folder))
        before = {name: mx.array(value) for name, value in parameters(decoder).items()}
        weights = {name: value + 1 for name, value in before.items()} | {"norm_out.weight": mx.ones(63)}
        with pytest.raises(CheckpointError):
            load_strictly(decoder, weights, "test")
        for name, value in parameters(decoder).items():
            assert_equal(value, before[name], name)
