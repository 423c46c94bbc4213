"""Multiply-adds of a stem's parts, counted from the shapes; a FLOP count is twice as many."""

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from acestep.constants import LATENT_FRAMES_PER_SECOND
from acestep.core.generation.handler.prompts import format_lyrics, format_prompt
from acestep.core.generation.handler.task_utils import TaskUtilsMixin
from acestep.models.checkpoint.config import ModelConfig, read_config, read_json
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.tokenizer import load_tokenizer
from bench.stem_child import CONDITIONS, CONTEXT, DECODE, STEPS, TEXT
from bench.work import reference_step

RESIDUAL_UNIT = 7 + 1  # positions of its two kernels


def vae_work(config: dict[str, Any], frames: int) -> tuple[int, int]:
    """Of encoding to and of decoding from so many latent frames; config: the vae folder's config.json."""
    ratios, multiples = config["downsampling_ratios"], [1, *config["channel_multiples"]]
    audio = config["audio_channels"]
    encoder = [config["encoder_hidden_size"] * multiple for multiple in multiples]
    decoder = [config["decoder_channels"] * multiple for multiple in multiples]
    samples = frames * prod(ratios)
    encode = samples * 7 * audio * encoder[0] + frames * 3 * encoder[-1] * config["encoder_hidden_size"]
    decode = frames * 7 * config["decoder_input_channels"] * decoder[-1] + samples * 7 * decoder[0] * audio
    for (few, many), (small, large), ratio in zip(pairwise(encoder), pairwise(decoder), ratios, strict=True):
        # Kernels of twice the stride: each position of the slower side has 2 * ratio of them.
        encode += samples * 3 * RESIDUAL_UNIT * few**2 + samples // ratio * 2 * ratio * few * many
        decode += samples * 3 * RESIDUAL_UNIT * small**2 + samples // ratio * 2 * ratio * small * large
        samples //= ratio
    return encode, decode


def encoder_work(
    width: int, inner: int, heads: int, kv_heads: int, head_dim: int, layers: int, length: int
) -> int:
    """Of a transformer's layers over `length` positions, every one of which attends to every other."""
    projections = 2 * width * heads * head_dim + 2 * width * kv_heads * head_dim + 3 * width * inner
    return layers * length * (projections + 2 * length * heads * head_dim)


def token_counts(folder: Path, seconds: float) -> tuple[int, int]:
    """Of the prompt and of the lyrics that the benchmark asks for."""
    layout = find_layout(folder)
    rows = read_json(layout.text_encoder / "config.json")["vocab_size"]
    tokenizer = load_tokenizer(layout.tokenizer, rows)
    instruction = TaskUtilsMixin().generate_instruction("lego", track_name="vocals")
    prompt = format_prompt(instruction, "", None, "", "", seconds)
    return len(tokenizer(prompt)), len(tokenizer(format_lyrics("", "unknown")))


def stem_work(folder: Path, seconds: float, steps: int) -> dict[str, int]:
    """Multiply-adds by part; a step is counted as the reference decoder does it, with guidance."""
    config: ModelConfig = read_config(folder)
    layout = find_layout(folder)
    frames = round(seconds * LATENT_FRAMES_PER_SECOND)
    text, lyrics = token_counts(folder, seconds)
    encode, decode = vae_work(read_json(layout.vae / "config.json"), frames)
    qwen = read_json(layout.text_encoder / "config.json")
    of_text = encoder_work(
        qwen["hidden_size"],
        qwen["intermediate_size"],
        qwen["num_attention_heads"],
        qwen["num_key_value_heads"],
        qwen["head_dim"],
        qwen["num_hidden_layers"],
        text,
    )
    shape = (
        config.encoder_hidden_size,
        config.encoder_intermediate_size,
        config.encoder_num_attention_heads,
        config.encoder_num_key_value_heads,
        config.head_dim,
    )
    width, reference = config.encoder_hidden_size, config.timbre_fix_frame
    conditions = (
        encoder_work(*shape, config.num_lyric_encoder_hidden_layers, lyrics)
        + encoder_work(*shape, config.num_timbre_encoder_hidden_layers, reference)
        + (text + lyrics) * config.text_hidden_dim * width
        + reference * config.timbre_hidden_dim * width
    )
    patches = -(-frames // config.patch_size)
    step = reference_step(config, patches, text + lyrics + 1).multiply_adds
    return {
        CONTEXT: encode,
        TEXT: of_text,
        CONDITIONS: conditions,
        STEPS: steps * step,
        DECODE: decode,
    }
