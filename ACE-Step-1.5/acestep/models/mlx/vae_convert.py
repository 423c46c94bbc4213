"""The MLX VAE out of a checkpoint's vae folder, strictly, weight norm folded into the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from acestep.constants import LATENT_FRAMES_PER_SECOND, SAMPLE_RATE
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, check_library_config, read_json
from acestep.models.checkpoint.weights import DIFFUSERS_STEM
from acestep.models.mlx.loading import check_shapes, read_model
from acestep.models.mlx.vae_layers import Conv1d, DownsamplingConv1d, Snake1d, UpsamplingConv1d
from acestep.models.mlx.vae_model import MLXAutoencoderOobleck, VAEConfig

CONVERTED_AT_ONCE = 2**20  # bytes


def _stored_shapes(name: str, module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The keys of a layer in the checkpoint and their shapes there."""
    if isinstance(module, Snake1d):
        shape = (1, module.alpha.size, 1)
        return {f"{name}.alpha": shape, f"{name}.beta": shape}
    if isinstance(module, Conv1d):
        kernel, inputs, outputs = module.weight.shape
        shape = (outputs, inputs, kernel)
    elif isinstance(module, DownsamplingConv1d):
        shape = (module.weight.shape[2], module.weight.shape[1] // module.stride, 2 * module.stride)
    elif isinstance(module, UpsamplingConv1d):
        shape = (module.weight.shape[1], module.bias.size, 2 * module.stride)
    else:
        return {}
    bias = {f"{name}.bias": module.bias.shape} if "bias" in module else {}
    return {f"{name}.weight_v": shape, f"{name}.weight_g": (shape[0], 1, 1), **bias}


def _kernel(module: nn.Module, weight: mx.array) -> mx.array:
    """A convolution's weight as PyTorch has it -> as the layer has it."""
    if isinstance(module, Conv1d):
        return weight.transpose(2, 1, 0)
    if isinstance(module, DownsamplingConv1d):
        return weight.transpose(2, 1, 0).reshape(module.weight.shape)
    # Position t of the output is made of input t by the first half of the kernel, of input t - 1 by the second.
    halves = mx.stack(list(reversed(mx.split(weight, 2, axis=2))))
    return halves.transpose(0, 1, 3, 2).reshape(module.weight.shape)


def _convert(name: str, module: nn.Module, weights: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """The parameters of one layer, float32, by this model's names."""
    found = {key: weights[key].astype(mx.float32) for key in _stored_shapes(name, module)}
    if isinstance(module, Snake1d):
        alpha, beta = (mx.exp(found[f"{name}.{key}"].flatten()) for key in ("alpha", "beta"))
        return {f"{name}.alpha": alpha, f"{name}.inverse_beta": 1.0 / (beta + 1e-9)}
    v, g = found.pop(f"{name}.weight_v"), found.pop(f"{name}.weight_g")
    norm = mx.sqrt(mx.sum(v * v, axis=(1, 2), keepdims=True))
    return {f"{name}.weight": mx.contiguous(_kernel(module, v * (g / norm))), **found}


def read_vae_config(folder: Path, config: ModelConfig) -> VAEConfig:
    """The configuration of a vae folder; CheckpointError where it is not the VAE that the DiT beside it expects."""
    path = folder / "config.json"
    check_library_config(path)
    found = read_json(path)
    names = VAEConfig.__dataclass_fields__
    if missing := [name for name in names if name not in found]:
        raise CheckpointError(
            f"{path} is not the configuration of an AutoencoderOobleck: it lacks {', '.join(missing)}; "
            f"copy the checkpoint again"
        )
    for name in names:
        sizes = found[name] if name in ("downsampling_ratios", "channel_multiples") else [found[name]]
        if (
            not isinstance(sizes, list)
            or not sizes
            or any(type(size) is not int or size < 1 for size in sizes)
        ):
            raise CheckpointError(
                f"{path}: '{name}' is {found[name]!r}, expected whole numbers of at least 1; copy the checkpoint again"
            )
    if len(found["downsampling_ratios"]) != len(found["channel_multiples"]):
        raise CheckpointError(
            f"{path}: 'downsampling_ratios' and 'channel_multiples' differ in length; copy the checkpoint again"
        )
    values: dict[str, Any] = {name: tuple(v) if isinstance(v := found[name], list) else v for name in names}
    vae = VAEConfig(**values)
    rates = (vae.sampling_rate, vae.audio_channels, vae.decoder_input_channels, vae.hop_length)
    expected = (SAMPLE_RATE, 2, config.audio_acoustic_hidden_dim, SAMPLE_RATE // LATENT_FRAMES_PER_SECOND)
    if rates != expected:
        raise CheckpointError(
            f"{folder} is another model's VAE: sample rate, channels, latent channels and samples a frame are "
            f"{rates}, the DiT beside it expects {expected}; give the vae folder of the same checkpoint"
        )
    return vae


def load_layers(model: nn.Module, weights: Mapping[str, mx.array], source: str) -> None:
    """Fills the layers of a VAE or of a part; a missing, unexpected or misshapen key is a CheckpointError."""
    layers = [(name, module) for name, module in model.named_modules() if _stored_shapes(name, module)]
    expected = {key: shape for layer in layers for key, shape in _stored_shapes(*layer).items()}
    check_shapes(expected, weights, source)
    converted: dict[str, mx.array] = {}
    for name, module in layers:
        converted |= _convert(name, module, weights)
        # A few layers at a time: all at once, every weight would be held in both forms.
        if sum(value.nbytes for value in converted.values()) > CONVERTED_AT_ONCE or module is layers[-1][1]:
            mx.eval(converted)
            model.load_weights(list(converted.items()), strict=False)
            converted = {}
    mx.clear_cache()


def load_mlx_vae(folder: Path, config: ModelConfig) -> MLXAutoencoderOobleck:
    """The VAE of a vae folder, float32."""
    vae = MLXAutoencoderOobleck(read_vae_config(folder, config))
    load_layers(vae, read_model(folder, DIFFUSERS_STEM), str(folder))
    return vae
