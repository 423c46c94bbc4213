"""A vae folder is loaded strictly: what does not fit is one sentence with the file and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config
from acestep.models.mlx.vae_convert import load_mlx_vae

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def config(tiny_root: Callable[..., Path]) -> ModelConfig:
    return read_config(tiny_root() / "checkpoints" / "acestep-v15-base")


@pytest.fixture
def folder(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A vae folder that a test may change."""
    shutil.copytree(tiny_root() / "checkpoints" / "vae", tmp_path / "vae")
    return tmp_path / "vae"


def change_weights(folder: Path, change: Callable[[dict[str, mx.array]], Any]) -> None:
    weights: Any = mx.load(str(folder / WEIGHTS))
    change(weights)
    mx.eval(weights)
    mx.save_safetensors(str(folder / WEIGHTS), weights)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(
            lambda w: w.pop("decoder.block.1.conv_t1.weight_g"),
            "1 missing (decoder.block.1.conv_t1.weight_g)",
            id="missing",
        ),
        pytest.param(
            lambda w: w.update({"decoder.conv3.bias": mx.zeros(2)}),
            "1 unexpected (decoder.conv3.bias)",
            id="unexpected",
        ),
        pytest.param(
            lambda w: w.update({"encoder.snake1.beta": mx.zeros((1, 3, 1))}),
            "'encoder.snake1.beta' has the shape (1, 3, 1), its config.json asks for (1, 16, 1)",
            id="misshapen",
        ),
    ],
)
def test_weights_that_do_not_fit(folder: Path, config: ModelConfig, change: Any, named: str) -> None:
    change_weights(folder, change)
    with pytest.raises(CheckpointError) as refused:
        load_mlx_vae(folder, config)
    assert str(folder) in str(refused.value)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sampling_rate": 44100}, "(44100, 2, 8, 1920)"),
        ({"audio_channels": 0}, "'audio_channels' is 0"),
        ({"downsampling_ratios": 1920}, "'downsampling_ratios' is 1920"),
        ({"channel_multiples": [1, 1]}, "differ in length"),
        ({"decoder_channels": None}, "it lacks decoder_channels"),
    ],
)
def test_config_that_does_not_fit(folder: Path, config: ModelConfig, changes: Any, named: str) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    with pytest.raises(CheckpointError) as refused:
        load_mlx_vae(folder, config)
    assert named in str(refused.value)


def test_file_cut_short(folder: Path, config: ModelConfig) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="copy the checkpoint again"):
        load_mlx_vae(folder, config)


def test_half_precision_on_disk_becomes_float32(folder: Path, config: ModelConfig) -> None:
    change_weights(folder, lambda w: w.update({k: v.astype(mx.bfloat16) for k, v in w.items()}))
    vae = load_mlx_vae(folder, config)
    assert vae.decoder.conv1.weight.dtype == vae.decoder.conv1.bias.dtype == mx.float32
