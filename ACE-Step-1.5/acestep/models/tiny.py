"""A tiny random checkpoint in upstream's layout: the whole path runs on it in seconds, on any machine.

It makes noise, not music. Its shapes are chosen so that every branch of the decoder is reached: a window
shorter than the shortest context, both layer types, fewer key/value heads than heads, and, in the XL shape, a
condition encoder narrower than the DiT. The same seed writes the same bytes.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from diffusers.pipelines.ace_step.pipeline_ace_step import SFT_GEN_PROMPT, TASK_INSTRUCTIONS
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from acestep.constants import TRACK_NAMES
from acestep.models.checkpoint.layout import TEXT_ENCODER_FOLDER, VAE_FOLDER
from acestep.models.checkpoint.weights import DECODER_PREFIX, ENCODER_PREFIX, NULL_CONDITION, upstream_name

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


def _random_tensors(module: torch.nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random values for every tensor of a module, by upstream's names, at the scale that keeps signals near 1."""
    tensors = {}
    for key, template in sorted(module.state_dict().items()):
        value = torch.randn(template.shape, generator=generator)
        if "norm" in key:
            value = 1.0 + 0.1 * value
        elif template.dim() < 2:
            value = 0.1 * value
        elif "scale_shift_table" in key or "special_token" in key or key == NULL_CONDITION:
            value = 0.3 * value
        else:
            value = value / math.sqrt(template[0].numel())
        tensors[upstream_name(key)] = value
    return tensors


def _dit_tensors(config: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """model.safetensors of the DiT folder."""
    shared = {"rope_theta", "rms_norm_eps", "sliding_window", "attention_bias", "head_dim"}
    encoder = {key: config[key] for key in shared} | {
        key: config.get(f"encoder_{key}", config[key])
        for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    }
    audio_codes = encoder | {
        key: config[key]
        for key in ("audio_acoustic_hidden_dim", "pool_window_size", "num_attention_pooler_hidden_layers")
    }
    of_decoder = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "in_channels", "audio_acoustic_hidden_dim", "patch_size", "layer_types",
    )  # fmt: skip
    with torch.device("meta"):
        decoder = AceStepTransformer1DModel(
            **{key: config[key] for key in (*of_decoder, *shared)}, encoder_hidden_size=encoder["hidden_size"]
        )
        condition = AceStepConditionEncoder(
            **encoder,
            text_hidden_dim=config["text_hidden_dim"],
            timbre_hidden_dim=config["timbre_hidden_dim"],
            num_lyric_encoder_hidden_layers=config["num_lyric_encoder_hidden_layers"],
            num_timbre_encoder_hidden_layers=config["num_timbre_encoder_hidden_layers"],
        )
        tokenizer = AceStepAudioTokenizer(
            **audio_codes, fsq_dim=config["fsq_dim"], fsq_input_levels=config["fsq_input_levels"]
        )
        detokenizer = AceStepAudioTokenDetokenizer(**audio_codes)
    del condition.silence_latent  # has a file of its own
    tensors = {DECODER_PREFIX + key: value for key, value in _random_tensors(decoder, generator).items()}
    for key, value in _random_tensors(condition, generator).items():
        tensors[key if key == NULL_CONDITION else ENCODER_PREFIX + key] = value
    for prefix, module in (("tokenizer.", tokenizer), ("detokenizer.", detokenizer)):
        tensors |= {prefix + key: value for key, value in _random_tensors(module, generator).items()}
    return tensors


def _write_vae(folder: Path, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderOobleck(
            encoder_hidden_size=2 * LATENT_CHANNELS,  # mean and scale
            downsampling_ratios=[10, 6, 4, 4, 2],  # the largest first: what follows is on fewer samples
            channel_multiples=[1, 1, 1, 1, 1],
            decoder_channels=4,
            decoder_input_channels=LATENT_CHANNELS,
            audio_channels=2,
            sampling_rate=48000,
        )
    vae.save_pretrained(folder)


def _prompt_texts() -> list[str]:
    """What the tokenizer is trained on: every LEGO prompt and a few words of lyrics."""
    instructions = [TASK_INSTRUCTIONS["lego"].format(TRACK_NAME=track.upper()) for track in TRACK_NAMES]
    metas = "- bpm: 120\n- timesignature: 4\n- keyscale: C major\n- duration: 30 seconds\n"
    lyrics = "# Languages\nen\n\n# Lyric\n[Verse]\nla la la\n[Chorus]\noh oh oh\n"
    return [
        SFT_GEN_PROMPT.format(text, "warm lead vocals over a soft groove", metas) for text in instructions
    ] + [lyrics]


def _write_text_encoder(folder: Path, width: int, seed: int) -> None:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_prompt_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=4096,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Qwen3Model(config)
    encoder.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Upstream pins transformers below 4.58, which knows the class by this name alone; later versions know both.
    path = folder / "tokenizer_config.json"
    named = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


def write_tiny_checkpoint(root: Path, kind: Kind = "base", shape: Shape = "plain", seed: int = 0) -> Path:
    """Writes checkpoints/ below `root` and returns the DiT folder, checkpoints/acestep-v15-{kind}.

    Under 5 MB, in upstream's layout; the language model's folder holds an empty file, which keeps upstream from
    downloading what LEGO never loads.
    """
    checkpoints = root / "checkpoints"
    dit = checkpoints / f"acestep-v15-{kind}"
    dit.mkdir(parents=True, exist_ok=True)
    config = tiny_config(kind, shape)
    generator = torch.Generator().manual_seed(seed)
    (dit / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(_dit_tensors(config, generator), dit / "model.safetensors", metadata={"format": "pt"})
    silence = 0.1 * torch.randn(1, config["timbre_hidden_dim"], SILENCE_FRAMES, generator=generator)
    torch.save(silence, dit / "silence_latent.pt")
    _write_vae(checkpoints / VAE_FOLDER, seed)
    _write_text_encoder(checkpoints / TEXT_ENCODER_FOLDER, config["text_hidden_dim"], seed)
    (checkpoints / LM_FOLDER).mkdir(exist_ok=True)
    (checkpoints / LM_FOLDER / "model.safetensors").touch()
    return dit
