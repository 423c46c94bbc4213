"""The MLX text encoder and its tokenizer against transformers' on the same weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from mlx.utils import tree_flatten
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from acestep.core.generation.handler.prompts import format_prompt
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config
from acestep.models.checkpoint.text_config import TextEncoderConfig
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.mlx.loading import load_strictly
from acestep.models.mlx.text_convert import load_mlx_text_encoder
from acestep.models.mlx.text_encoder import MLXTextEncoder
from tests.parity_helper import assert_equal, assert_near

PROMPT = format_prompt("Generate the VOCALS track:", "warm lead, soft", 120, "C major", "4", 12.0)


@pytest.fixture
def config(tiny_root: Callable[..., Path]) -> ModelConfig:
    return read_config(tiny_root() / "checkpoints" / "acestep-v15-base")


@pytest.fixture
def folder(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A text encoder's folder that a test may change."""
    copy = tmp_path / "text_encoder"
    shutil.copytree(tiny_root() / "checkpoints" / "Qwen3-Embedding-0.6B", copy)
    return copy


def test_states_are_transformers(folder: Path, config: ModelConfig) -> None:
    tokens = load_tokenizer(folder, 400)(PROMPT)
    reference = Qwen3Model.from_pretrained(folder).requires_grad_(False)
    want = reference(input_ids=torch.tensor([tokens])).last_hidden_state
    assert_near(load_mlx_text_encoder(folder, config)(mx.array([tokens])), want, largest=1e-5)


@pytest.mark.slow
def test_layer_of_real_width_is_transformers() -> None:
    """One layer of Qwen3-Embedding-0.6B, with few words."""
    sizes: dict[str, Any] = {
        "vocab_size": 7,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 1,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
    }
    reference = Qwen3Model(
        Qwen3Config(**sizes, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    ).requires_grad_(False)
    encoder = MLXTextEncoder(TextEncoderConfig(**sizes, rope_theta=1e6))
    weights = {key: mx.array(value.numpy()) for key, value in reference.state_dict().items()}
    load_strictly(encoder, weights, "random weights")
    tokens = torch.tensor([[0, 3, 6, 2, 5]])
    want = reference(input_ids=tokens).last_hidden_state
    assert_near(encoder(mx.array(tokens.numpy())), want, largest=1e-5)


@pytest.mark.parametrize("text", [PROMPT, "# Lyric\nla <|endoftext|> née 音楽 🎵", ""])
def test_tokens_are_transformers(folder: Path, text: str) -> None:
    assert load_tokenizer(folder, 400)(text) == AutoTokenizer.from_pretrained(folder)(text).input_ids


def test_a_language_models_prefix_is_read(folder: Path, config: ModelConfig) -> None:
    path = folder / "model.safetensors"
    before = load_mlx_text_encoder(folder, config)
    weights: Any = mx.load(str(path))
    mx.eval(weights)
    mx.save_safetensors(str(path), {f"model.{key}": value for key, value in weights.items()})
    after = dict(tree_flatten(load_mlx_text_encoder(folder, config).parameters()))
    for name, value in tree_flatten(before.parameters()):
        assert_equal(after[name], value, name)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_hidden_layers": 1}, "11 unexpected (layers.1."),
        ({"intermediate_size": 65}, "'layers.0.mlp.gate_proj.weight' has the shape (64, 32)"),
        ({"hidden_size": 33}, "is 33 wide, the DiT's config.json asks for text_hidden_dim 32"),
        ({"vocab_size": "400"}, "'vocab_size' is '400', expected a whole number above 0"),
        ({"attention_bias": 0}, "'attention_bias' is 0, expected true or false"),
        ({"rope_parameters": None}, "it lacks rope_theta"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "'rope_type' is 'yarn'"),
        ({"use_sliding_window": True}, "'use_sliding_window' is True, expected False"),
        ({"hidden_act": "gelu"}, "'hidden_act' is 'gelu', expected 'silu'"),
    ],
)
def test_config_that_does_not_fit(folder: Path, config: ModelConfig, changes: Any, named: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError) as refused:
        load_mlx_text_encoder(folder, config)
    assert str(folder) in str(refused.value)
    assert named in str(refused.value)


def test_rope_theta_where_earlier_versions_write_it(folder: Path, config: ModelConfig) -> None:
    path = folder / "config.json"
    before = load_mlx_text_encoder(folder, config)(mx.array([[1, 2, 3]]))
    found = json.loads(path.read_text())
    found["rope_theta"] = found.pop("rope_parameters")["rope_theta"]
    path.write_text(json.dumps(found | {"rope_scaling": None}))
    assert_equal(load_mlx_text_encoder(folder, config)(mx.array([[1, 2, 3]])), before)


def test_tokenizer_of_something_else(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        load_tokenizer(folder, 400)
