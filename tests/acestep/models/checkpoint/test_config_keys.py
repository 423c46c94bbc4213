"""Every key that a config.json can have is honoured, refused, or without effect on what LEGO computes."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from transformers import Qwen3Config

from acestep.errors import CheckpointError
from acestep.handler import AceStepHandler
from acestep.models.checkpoint.config import read_config
from acestep.models.mlx.text_convert import load_mlx_text_encoder
from acestep.models.mlx.vae_convert import load_mlx_vae
from acestep.models.pytorch.loading import load_text_encoder, load_vae
from tests.checkpoint_forms import DIT, TEXT, VAE, rewrite_json
from tests.parity_helper import assert_near

HONOURED, REFUSED, NO_EFFECT = "honoured", "refused", "no effect"
# Of each key another value than the tiny checkpoint's, and what becomes of it. Where a key sets a size, the weights,
# which have the old one, are refused.
TEXT_ENCODER: dict[str, tuple[Any, str]] = {
    "vocab_size": (401, HONOURED),
    "hidden_size": (33, HONOURED),
    "intermediate_size": (65, HONOURED),
    "num_hidden_layers": (1, HONOURED),
    "num_attention_heads": (2, HONOURED),
    "num_key_value_heads": (4, HONOURED),
    "head_dim": (4, HONOURED),
    "rms_norm_eps": (0.5, HONOURED),
    "rope_theta": (10.0, REFUSED),  # the tiny file has another beside it, in rope_parameters
    "rope_parameters": ({"rope_type": "default", "rope_theta": 10.0}, HONOURED),
    "attention_bias": (True, HONOURED),
    "hidden_act": ("gelu", REFUSED),
    "use_sliding_window": (True, REFUSED),
    "layer_types": (["sliding_attention", "full_attention"], REFUSED),
    "rope_scaling": ({"type": "yarn", "factor": 4.0}, REFUSED),
    "model_type": ("qwen2", REFUSED),
    "quantization_config": ({"quant_method": "fp8"}, REFUSED),
    "sliding_window": (8, NO_EFFECT),  # of use_sliding_window
    "max_window_layers": (1, NO_EFFECT),  # of use_sliding_window
    "max_position_embeddings": (77, NO_EFFECT),  # of rotary types that are refused
    "attention_dropout": (0.5, NO_EFFECT),  # of training
    "initializer_range": (0.5, NO_EFFECT),  # of training
    "tie_word_embeddings": (True, NO_EFFECT),  # there is no head
    "use_cache": (False, NO_EFFECT),
    "pad_token_id": (3, NO_EFFECT),  # nothing is padded
    "bos_token_id": (3, NO_EFFECT),  # tokenizer.json says what is added
    "eos_token_id": (3, NO_EFFECT),
    "dtype": ("float16", NO_EFFECT),  # the weights say how they are stored
    "torch_dtype": ("float16", NO_EFFECT),
    "architectures": (["Qwen3ForCausalLM"], NO_EFFECT),
    "auto_map": ({"AutoModel": "own_code.Model"}, NO_EFFECT),  # no code of a checkpoint is run
    "transformers_version": ("4.0.0", NO_EFFECT),
    "output_attentions": (False, NO_EFFECT),
    "output_hidden_states": (True, NO_EFFECT),
    "return_dict": (True, NO_EFFECT),
    "is_encoder_decoder": (False, NO_EFFECT),
    "chunk_size_feed_forward": (1, NO_EFFECT),
    "id2label": ({"0": "a"}, NO_EFFECT),
    "label2id": ({"a": 0}, NO_EFFECT),
    "problem_type": (None, NO_EFFECT),
    "_name_or_path": ("somewhere", NO_EFFECT),
}
DECODER: dict[str, tuple[Any, str]] = {
    **{
        name: (value, HONOURED)
        for name, value in {
            "hidden_size": 128, "intermediate_size": 97, "num_attention_heads": 8, "num_key_value_heads": 4,
            "head_dim": 8, "text_hidden_dim": 33, "timbre_hidden_dim": 9, "encoder_hidden_size": 48,
            "encoder_intermediate_size": 80, "encoder_num_attention_heads": 3, "encoder_num_key_value_heads": 1,
            "patch_size": 4, "sliding_window": 8, "layer_types": ["full_attention"] * 3, "rope_theta": 10.0,
            "rms_norm_eps": 0.5, "attention_bias": True, "num_lyric_encoder_hidden_layers": 1,
            "num_timbre_encoder_hidden_layers": 1,
        }.items()
    },
    "is_turbo": (True, HONOURED),
    "num_hidden_layers": (2, REFUSED),  # layer_types has three
    "in_channels": (25, REFUSED),
    "audio_acoustic_hidden_dim": (9, REFUSED),  # in_channels
    "timbre_fix_frame": (1, REFUSED),
    "hidden_act": ("gelu", REFUSED),
    "use_sliding_window": (False, REFUSED),
    "rope_scaling": ({"type": "linear", "factor": 2.0}, REFUSED),
    "rope_parameters": ({"rope_type": "yarn", "rope_theta": 1000000.0}, REFUSED),
    "quantization_config": ({"quant_method": "fp8"}, REFUSED),
    "model_version": ("turbo", REFUSED),  # beside is_turbo false
    "attention_dropout": (0.5, NO_EFFECT),  # of training, like the next three and initializer_range
    "timestep_mu": (-1.0, NO_EFFECT),
    "timestep_sigma": (2.0, NO_EFFECT),
    "data_proportion": (0.1, NO_EFFECT),
    "initializer_range": (0.5, NO_EFFECT),
    "pool_window_size": (7, NO_EFFECT),  # of the cover task's audio codes, like the next four
    "fsq_dim": (7, NO_EFFECT),
    "fsq_input_levels": ([7], NO_EFFECT),
    "fsq_input_num_quantizers": (7, NO_EFFECT),
    "num_attention_pooler_hidden_layers": (7, NO_EFFECT),
    "max_position_embeddings": (77, NO_EFFECT),
    "vocab_size": (7, NO_EFFECT),  # upstream's configuration has it, its model does not
    "tie_word_embeddings": (False, NO_EFFECT),
    "use_cache": (False, NO_EFFECT),
    "output_attentions": (True, NO_EFFECT),
    "output_hidden_states": (True, NO_EFFECT),
    "model_type": ("other", NO_EFFECT),
    "dtype": ("float16", NO_EFFECT),
    "auto_map": ({"AutoModel": "own_code.Model"}, NO_EFFECT),
}  # fmt: skip
OF_VAE: dict[str, tuple[Any, str]] = {
    "encoder_hidden_size": (17, HONOURED),
    "downsampling_ratios": ([2, 4, 4, 6, 10], HONOURED),
    "channel_multiples": ([1, 1, 1, 1, 2], HONOURED),
    "decoder_channels": (5, HONOURED),
    "decoder_input_channels": (9, HONOURED),
    "audio_channels": (1, HONOURED),
    "sampling_rate": (44100, HONOURED),
    "quantization_config": ({"quant_method": "fp8"}, REFUSED),
    "auto_map": ({"AutoModel": "own_code.Model"}, NO_EFFECT),
}
SIZES = {*list(TEXT_ENCODER)[:7], "attention_bias"}
TOKENS = [1, 2, 3, 5, 8]


@pytest.fixture
def checkpoints(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """checkpoints/ that a test may change."""
    return Path(shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints"))


def text_states(checkpoints: Path) -> tuple[np.ndarray, np.ndarray]:
    """Of MLX and of PyTorch."""
    folder, config = checkpoints / TEXT, read_config(checkpoints / DIT)
    on_mlx = load_mlx_text_encoder(folder, config)(mx.array([TOKENS]))
    with torch.inference_mode():
        on_torch = load_text_encoder(folder, config)(input_ids=torch.tensor([TOKENS]), return_dict=True)
    return np.array(on_mlx), on_torch.last_hidden_state.numpy()


@pytest.fixture(scope="module")
def unchanged(tiny_root: Callable[..., Path]) -> tuple[np.ndarray, np.ndarray]:
    """`text_states` of the tiny checkpoint itself."""
    return text_states(tiny_root() / "checkpoints")


def parameters(cls: Any) -> set[str]:
    return set(inspect.signature(cls.__init__).parameters) - {"self"}


def test_no_key_of_the_libraries_is_missing_from_the_tables() -> None:
    assert set(Qwen3Config().to_dict()) <= TEXT_ENCODER.keys()
    assert parameters(AutoencoderOobleck) <= OF_VAE.keys()
    assert parameters(AceStepTransformer1DModel) | parameters(AceStepConditionEncoder) <= DECODER.keys()


@pytest.mark.parametrize(
    ("key", "value", "decision"), [(key, *rest) for key, rest in TEXT_ENCODER.items()], ids=TEXT_ENCODER
)
def test_text_encoder(
    checkpoints: Path, unchanged: tuple[np.ndarray, np.ndarray], key: str, value: Any, decision: str
) -> None:
    folder, config = checkpoints / TEXT, read_config(checkpoints / DIT)
    path = folder / "config.json"
    assert json.loads(path.read_text()).get(key) != value or decision == NO_EFFECT
    rewrite_json(path, **{key: value})
    if decision == REFUSED:
        for load in (load_mlx_text_encoder, load_text_encoder):
            with pytest.raises(CheckpointError, match=f"{path}: '") as refused:
                load(folder, config)
            shown = str(refused.value)
            assert key in shown or (isinstance(value, dict) and next(iter(value)) in shown)
        return
    if key in SIZES:  # which the weights do not have
        for load in (load_mlx_text_encoder, load_text_encoder):
            with pytest.raises(CheckpointError, match=str(folder)):
                load(folder, config)
        return
    on_mlx, on_torch = text_states(checkpoints)
    assert_near(on_mlx, on_torch, largest=1e-5)
    same = [np.array_equal(*states) for states in zip((on_mlx, on_torch), unchanged, strict=True)]
    assert same == 2 * [decision == NO_EFFECT]


@pytest.mark.parametrize(
    ("key", "value", "decision"), [(key, *rest) for key, rest in DECODER.items()], ids=DECODER
)
def test_decoder_and_condition_encoder(checkpoints: Path, key: str, value: Any, decision: str) -> None:
    """Both backends are built from what `read_config` returns, and from nothing else."""
    folder = checkpoints / DIT
    before = read_config(folder)
    assert json.loads((folder / "config.json").read_text()).get(key) != value or decision == NO_EFFECT
    rewrite_json(folder / "config.json", **{key: value})
    if decision == REFUSED:
        with pytest.raises(CheckpointError, match=str(folder)):
            read_config(folder)
    else:
        assert (read_config(folder) == before) == (decision == NO_EFFECT)


@pytest.mark.parametrize(
    ("key", "value", "decision"), [(key, *rest) for key, rest in OF_VAE.items()], ids=OF_VAE
)
def test_vae(checkpoints: Path, key: str, value: Any, decision: str) -> None:
    """Each sets a size, which the weights or the decoder beside it have otherwise."""
    folder, config = checkpoints / VAE, read_config(checkpoints / DIT)
    rewrite_json(folder / "config.json", **{key: value})
    for load in (load_mlx_vae, load_vae):
        if decision == NO_EFFECT:
            load(folder, config)
            continue
        with pytest.raises(CheckpointError, match=str(folder)):
            load(folder, config)


@pytest.mark.parametrize("part", [DIT, TEXT, VAE])
def test_an_adapter_beside_the_weights(checkpoints: Path, part: str) -> None:
    """PEFT's folder: transformers would apply it where peft is installed, and leave it out where not."""
    (checkpoints / part / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    for use_mlx_dit in (True, False):
        message, loaded = AceStepHandler().initialize_service(
            checkpoints.parent, device="cpu", use_mlx_dit=use_mlx_dit
        )
        assert not loaded
        assert message == (
            f"{checkpoints / part} has adapter_config.json: LoRA and other adapters are not applied; merge it into the "
            "weights first, or remove it"
        )


def test_rope_parameters_that_repeat_the_theta_serve(checkpoints: Path) -> None:
    """As transformers 5 writes them."""
    folder = checkpoints / DIT
    before = read_config(folder)
    theta = before.rope_theta
    rewrite_json(folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": theta})
    assert read_config(folder) == before
