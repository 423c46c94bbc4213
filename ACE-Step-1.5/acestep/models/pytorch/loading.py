"""PyTorch's parts of a checkpoint, loaded strictly into diffusers' and transformers' modules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AceStepTransformer1DModel, AutoencoderOobleck
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from transformers import Qwen3Model

from acestep.constants import LATENT_FRAMES_PER_SECOND, SAMPLE_RATE
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, check_library_config
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.silence import SILENCE, load_silence_latent
from acestep.models.checkpoint.text_config import read_text_encoder_config
from acestep.models.checkpoint.weights import (
    DECODER_PREFIX,
    DIFFUSERS_STEM,
    ENCODER_PREFIX,
    NULL_CONDITION,
    TRANSFORMERS_STEM,
    check_weights,
    diffusers_name,
    name_keys,
    read_float32,
    weight_files,
)


def _first_line(error: Exception) -> str:
    """What a library says of a file, without the lines of advice below it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _read_part(folder: Path, prefixes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The tensors of one part of a checkpoint, by diffusers' names, float32."""
    return {
        diffusers_name(key.removeprefix(DECODER_PREFIX).removeprefix(ENCODER_PREFIX)): value
        for key, value in read_float32(folder, prefixes).items()
    }


def _fill(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Gives a module made on the meta device its tensors; a key that does not fit is an error that names it."""
    expected = module.state_dict()
    missing, unexpected = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: the weights do not fit its config.json: {name_keys('missing', missing)}, "
            f"{name_keys('unexpected', unexpected)}; copy the checkpoint again"
        )
    for key, value in tensors.items():
        if value.shape != expected[key].shape:
            raise CheckpointError(
                f"{source}: weight '{key}' has the shape {tuple(value.shape)}, its config.json asks for "
                f"{tuple(expected[key].shape)}; are both of the same model?"
            )
    module.load_state_dict(dict(tensors), strict=True, assign=True)
    module.requires_grad_(False)
    module.eval()


def empty_decoder(config: ModelConfig) -> AceStepTransformer1DModel:
    """The DiT as diffusers' module on the meta device: it has no weights yet."""
    with torch.device("meta"):
        return AceStepTransformer1DModel(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            in_channels=config.in_channels,
            audio_acoustic_hidden_dim=config.audio_acoustic_hidden_dim,
            patch_size=config.patch_size,
            rope_theta=config.rope_theta,
            attention_bias=config.attention_bias,
            rms_norm_eps=config.rms_norm_eps,
            sliding_window=config.sliding_window,
            layer_types=list(config.layer_types),
            encoder_hidden_size=config.encoder_hidden_size,
            is_turbo=config.is_turbo,
        )


def load_decoder(folder: Path, config: ModelConfig) -> AceStepTransformer1DModel:
    """The DiT as diffusers' module, float32 on the CPU."""
    decoder = empty_decoder(config)
    _fill(decoder, _read_part(folder, (DECODER_PREFIX,)), str(find_layout(folder).decoder))
    return decoder


def load_condition_encoder(folder: Path, config: ModelConfig) -> AceStepConditionEncoder:
    """Text, lyrics and timbre encoder with the null condition and the silence latent, float32 on the CPU."""
    silence = torch.from_numpy(load_silence_latent(folder, config))
    with torch.device("meta"):
        encoder = AceStepConditionEncoder(
            hidden_size=config.encoder_hidden_size,
            intermediate_size=config.encoder_intermediate_size,
            text_hidden_dim=config.text_hidden_dim,
            timbre_hidden_dim=config.timbre_hidden_dim,
            num_lyric_encoder_hidden_layers=config.num_lyric_encoder_hidden_layers,
            num_timbre_encoder_hidden_layers=config.num_timbre_encoder_hidden_layers,
            num_attention_heads=config.encoder_num_attention_heads,
            num_key_value_heads=config.encoder_num_key_value_heads,
            head_dim=config.head_dim,
            rope_theta=config.rope_theta,
            attention_bias=config.attention_bias,
            rms_norm_eps=config.rms_norm_eps,
            sliding_window=config.sliding_window,
        )
        encoder.silence_latent = torch.empty_like(silence, device="meta")  # any length of at least 750 serves
    tensors = _read_part(folder, (ENCODER_PREFIX, NULL_CONDITION))
    _fill(encoder, {**tensors, SILENCE: silence}, str(find_layout(folder).condition_encoder))
    return encoder


def _key(entry: Any) -> str:
    """The key of an entry of a library's loading report, which holds shapes too where they are what is wrong."""
    return str(entry[0] if isinstance(entry, tuple) else entry)


def _load_pretrained(cls: Any, folder: Path, stem: str, **options: Any) -> Any:
    """A library's own loader, made strict: what it would only warn of is an error here."""
    check_library_config(folder / "config.json")
    for path in weight_files(folder, stem):
        check_weights(path, skip=())
    try:
        module, info = cls.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **options,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # both libraries raise a dozen types for a folder that is not theirs
        raise CheckpointError(
            f"{folder} cannot be loaded ({_first_line(error)}); copy the checkpoint again"
        ) from None
    wrong = {kind: info.get(f"{kind}_keys") or () for kind in ("missing", "unexpected", "mismatched")}
    if any(wrong.values()):
        found = ", ".join(
            name_keys(kind, [_key(entry) for entry in keys]) for kind, keys in wrong.items() if keys
        )
        raise CheckpointError(
            f"{folder}: the weights do not fit its config.json: {found}; copy the checkpoint again"
        )
    return module.requires_grad_(False).eval()


def load_vae(folder: Path, config: ModelConfig) -> AutoencoderOobleck:
    """The audio VAE, float32 on the CPU; long audio is coded in overlapping tiles."""
    vae: AutoencoderOobleck = _load_pretrained(AutoencoderOobleck, folder, DIFFUSERS_STEM)
    hop = 1
    for ratio in vae.config.downsampling_ratios:
        hop *= ratio
    rates = (vae.config.sampling_rate, vae.config.audio_channels, vae.config.decoder_input_channels, hop)
    expected = (SAMPLE_RATE, 2, config.audio_acoustic_hidden_dim, SAMPLE_RATE // LATENT_FRAMES_PER_SECOND)
    if rates != expected:
        raise CheckpointError(
            f"{folder} is another model's VAE: sample rate, channels, latent channels and samples a frame are "
            f"{rates}, the DiT beside it expects {expected}; give the vae folder of the same checkpoint"
        )
    vae.enable_tiling()
    return vae


def load_text_encoder(folder: Path, config: ModelConfig) -> Qwen3Model:
    """The text encoder, float32 on the CPU."""
    read_text_encoder_config(folder, config)
    encoder: Qwen3Model = _load_pretrained(
        Qwen3Model,
        folder,
        TRANSFORMERS_STEM,
        ignore_mismatched_sizes=True,  # they are listed then, and refused by name
        trust_remote_code=False,
    )
    return encoder
