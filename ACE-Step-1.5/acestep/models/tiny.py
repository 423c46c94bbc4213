"""A tiny random checkpoint in upstream's layout: the whole path runs on it in seconds, on any machine.

It makes noise, not music. Its shapes are chosen so that every branch of the decoder is reached: a window
shorter than the shortest context, both layer types, fewer key/value heads than heads, and, in the XL shape, a
condition encoder narrower than the DiT. The same seed writes the same bytes.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from acestep.constants import SAMPLE_RATE, TRACK_NAMES
from acestep.core.generation.handler.prompts import format_lyrics, format_prompt, lego_instruction
from acestep.models.checkpoint.layout import TEXT_ENCODER_FOLDER, VAE_FOLDER
from acestep.models.checkpoint.tokenizer import TOKENIZER_FILE
from acestep.models.checkpoint.torch_file import write_torch_tensor
from acestep.models.checkpoint.weights import DIFFUSERS_STEM, NULL_CONDITION, TRANSFORMERS_STEM
from acestep.models.tiny_shapes import Shapes, dit_shapes, text_encoder_shapes, vae_shapes

Kind = Literal["base", "turbo"]
Shape = Literal["plain", "xl"]

LM_FOLDER = "acestep-5Hz-lm-1.7B"
SILENCE_FRAMES = 750
LAYERS = 3
LATENT_CHANNELS = 8
END_OF_TEXT = "<|endoftext|>"


def tiny_config(kind: Kind, shape: Shape) -> dict[str, Any]:
    """config.json of the tiny DiT folder."""
    config: dict[str, Any] = {
        "architectures": ["AceStepConditionGenerationModel"],
        "auto_map": {
            "AutoConfig": "configuration_acestep_v15.AceStepConfig",
            "AutoModel": f"modeling_acestep_v15_{kind}.AceStepConditionGenerationModel",
        },
        "model_type": "acestep",
        "model_version": kind,
        "is_turbo": kind == "turbo",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "in_channels": 3 * LATENT_CHANNELS,
        "audio_acoustic_hidden_dim": LATENT_CHANNELS,
        "timbre_hidden_dim": LATENT_CHANNELS,
        "text_hidden_dim": 32,
        "patch_size": 2,
        "use_sliding_window": True,
        "sliding_window": 16,
        "layer_types": ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(LAYERS)],
        "rope_theta": 1000000.0,
        "rms_norm_eps": 1e-06,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "num_lyric_encoder_hidden_layers": 2,
        "num_timbre_encoder_hidden_layers": 2,
        "num_attention_pooler_hidden_layers": 1,
        "timbre_fix_frame": SILENCE_FRAMES,
        "pool_window_size": 5,
        "fsq_dim": 64,
        "fsq_input_levels": [8, 8, 8, 5, 5, 5],
        "fsq_input_num_quantizers": 1,
    }
    if shape == "xl":
        config |= {
            "encoder_hidden_size": 48,
            "encoder_intermediate_size": 80,
            "encoder_num_attention_heads": 3,
            "encoder_num_key_value_heads": 1,
            "fsq_dim": 48,
        }
    return config


VAE_CONFIG = {
    "_class_name": "AutoencoderOobleck",
    "audio_channels": 2,
    "channel_multiples": [1, 1, 1, 1, 1],
    "decoder_channels": 2,
    "decoder_input_channels": LATENT_CHANNELS,
    "downsampling_ratios": [10, 6, 4, 4, 2],  # the largest first: what follows is on fewer samples
    "encoder_hidden_size": 2 * LATENT_CHANNELS,  # mean and scale
    "sampling_rate": SAMPLE_RATE,
}


def _text_encoder_config(rows: int, width: int) -> dict[str, Any]:
    """config.json of the text encoder; rows: of its embedding."""
    return {
        "architectures": ["Qwen3Model"],
        "model_type": "qwen3",
        "dtype": "float32",
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "attention_bias": False,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
    }


def _dit_values(shapes: Shapes, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values at the scale that keeps signals near 1."""
    tensors = {}
    for name, shape in shapes.items():
        value = random.standard_normal(shape, np.float32)
        if "norm" in name:
            value = 1 + 0.1 * value
        elif len(shape) < 2:
            value = 0.1 * value
        elif "scale_shift_table" in name or "special_token" in name or name == NULL_CONDITION:
            value = 0.3 * value
        else:
            value = value / math.sqrt(math.prod(shape[1:]))
        tensors[name] = value
    return tensors


def _text_encoder_values(shapes: Shapes, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values as transformers initialises Qwen3."""
    return {
        name: np.ones(shape, np.float32)
        if "norm" in name
        else 0.02 * random.standard_normal(shape, np.float32)
        for name, shape in shapes.items()
    }


def _vae_values(shapes: Shapes, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Values at the scale that keeps signals near 1: the stem depends on the latents, and is below full scale."""
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(".weight_v"):
            tensors[name] = random.standard_normal(shape, np.float32)
        elif name.endswith(".weight_g"):
            is_residual = "res_unit" in name and ".conv2." in name
            length = 0.1 if is_residual else 0.3 if name.startswith("decoder.conv2.") else 1
            tensors[name] = np.full(shape, length, np.float32)
        elif name.endswith(".bias"):
            tensors[name] = 0.1 * random.standard_normal(shape, np.float32)
        else:  # Snake's
            tensors[name] = np.zeros(shape, np.float32)
    return tensors


def _train_tokenizer() -> Tokenizer:
    """Trained on every LEGO prompt and a few words of lyrics."""
    prompts = [
        format_prompt(
            lego_instruction(track), "warm lead vocals over a soft groove", 120, "C major", "4", seconds=30
        )
        for track in TRACK_NAMES
    ]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(
        [*prompts, format_lyrics("[Verse]\nla la la\n[Chorus]\noh oh oh\n", "en")], trainer
    )
    return bpe


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_model(
    folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray], stem: str = TRANSFORMERS_STEM
) -> None:
    """A folder with config.json and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", config)
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def write_tiny_checkpoint(root: Path, kind: Kind = "base", shape: Shape = "plain", seed: int = 0) -> Path:
    """Writes checkpoints/ below `root` and returns the DiT folder, checkpoints/acestep-v15-{kind}.

    Under 5 MB, in upstream's layout; the language model's folder holds an empty file, which keeps upstream from
    downloading what LEGO never loads.
    """
    checkpoints = root / "checkpoints"
    dit, text_encoder = checkpoints / f"acestep-v15-{kind}", checkpoints / TEXT_ENCODER_FOLDER
    random = np.random.default_rng(seed)
    config = tiny_config(kind, shape)
    _write_model(dit, config, _dit_values(dit_shapes(config), random))
    silence = 0.1 * random.standard_normal((1, config["timbre_hidden_dim"], SILENCE_FRAMES), np.float32)
    write_torch_tensor(dit / "silence_latent.pt", silence)

    _write_model(
        checkpoints / VAE_FOLDER, VAE_CONFIG, _vae_values(vae_shapes(VAE_CONFIG), random), DIFFUSERS_STEM
    )

    tokenizer = _train_tokenizer()
    config = _text_encoder_config(tokenizer.get_vocab_size(), config["text_hidden_dim"])
    _write_model(text_encoder, config, _text_encoder_values(text_encoder_shapes(config), random))
    tokenizer.save(str(text_encoder / TOKENIZER_FILE))
    # Upstream pins transformers below 4.58, which knows the class by this name alone; later versions know both.
    special = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,
    }
    _write_json(text_encoder / "tokenizer_config.json", special)

    (checkpoints / LM_FOLDER).mkdir(exist_ok=True)
    (checkpoints / LM_FOLDER / "model.safetensors").touch()
    return dit
