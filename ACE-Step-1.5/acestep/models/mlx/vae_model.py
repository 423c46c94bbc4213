"""The audio VAE in MLX: stereo audio at 48 kHz to latents at 25 frames a second, and back.

Equal to diffusers' AutoencoderOobleck on the same weights, to the last digits of float32. Arrays have their channels
last. Source: Evans et al. 2024, "Stable Audio Open" (the Oobleck autoencoder, without its discriminators).
"""

import itertools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from acestep.models.mlx.cpu_math import is_on_cpu
from acestep.models.mlx.tiling import in_tiles, limited_cache, round_up
from acestep.models.mlx.vae_cpu import function, tile_threads, tiled
from acestep.models.mlx.vae_layers import (
    KERNEL,
    Conv1d,
    DownsamplingConv1d,
    Layer,
    OobleckResidualUnit,
    Snake1d,
    UpsamplingConv1d,
)

DILATIONS = (1, 3, 9)
# Latent frames of one tile, overlap aside. An activation of the widest stage has 12 MB a second.
TILE_FRAMES = 250
# The same on the CPU, where whole tiles are held between two stages alone.
CPU_TILE_FRAMES = 500
# Values of an activation that a core computes at once on the CPU.
CPU_TILE_VALUES = 2**21


@dataclass(frozen=True)
class VAEConfig:
    """The vae folder's config.json, by its own key names."""

    encoder_hidden_size: int
    downsampling_ratios: tuple[int, ...]
    channel_multiples: tuple[int, ...]
    decoder_channels: int
    decoder_input_channels: int
    audio_channels: int
    sampling_rate: int

    @property
    def hop_length(self) -> int:
        """Samples for one latent frame."""
        return math.prod(self.downsampling_ratios)


class OobleckEncoderBlock(nn.Module):
    """Three residual units, then fewer positions of more channels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.res_unit1, self.res_unit2, self.res_unit3 = (OobleckResidualUnit(inputs, d) for d in DILATIONS)
        self.snake1 = Snake1d(inputs)
        self.conv1 = DownsamplingConv1d(inputs, outputs, stride)

    def layers(self) -> list[Layer]:
        return [self.res_unit1, self.res_unit2, self.res_unit3, self.snake1, self.conv1]


class OobleckDecoderBlock(nn.Module):
    """More positions of fewer channels, then three residual units."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.snake1 = Snake1d(inputs)
        self.conv_t1 = UpsamplingConv1d(inputs, outputs, stride)
        self.res_unit1, self.res_unit2, self.res_unit3 = (OobleckResidualUnit(outputs, d) for d in DILATIONS)

    def layers(self) -> list[Layer]:
        return [self.snake1, self.conv_t1, self.res_unit1, self.res_unit2, self.res_unit3]


@dataclass(frozen=True)
class Stage:
    """Layers between two changes of the rate. values: of its widest activation, for one position of the input."""

    layers: Sequence[Layer]
    values: int

    @property
    def ratio(self) -> Fraction:
        """Positions of the output for one of the input."""
        return math.prod((layer.ratio for layer in self.layers), start=Fraction(1))

    def margin(self, outputs: int) -> int:
        for layer in reversed(self.layers):
            outputs = layer.margin(outputs)
        return outputs

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.layers:
            x = layer(x)
        return x

    def on_cpu(self, x: np.ndarray, start: int, pool: ThreadPoolExecutor) -> np.ndarray:
        """x [length, channels], from position `start` of the whole input on, in tiles of their own."""
        group = self.ratio.denominator
        tile = max(1, CPU_TILE_VALUES // (self.values * group)) * group
        overlap = round_up(self.margin(0), group)
        return tiled(function(self.layers, pool), x, start, tile, overlap, self.ratio, pool)


class OobleckEncoder(nn.Module):
    """Audio [batch, samples, channels] -> [batch, frames, 2 x latent channels]"""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.encoder_hidden_size * multiple for multiple in (1, *config.channel_multiples)]
        self.conv1 = Conv1d(config.audio_channels, widths[0], KERNEL)
        self.block = [
            OobleckEncoderBlock(*pair, stride)
            for pair, stride in zip(itertools.pairwise(widths), config.downsampling_ratios, strict=True)
        ]
        self.snake1 = Snake1d(widths[-1])
        self.conv2 = Conv1d(widths[-1], config.encoder_hidden_size, 3)

    def stages(self) -> list[Stage]:
        layers = [block.layers() for block in self.block]
        layers[0] = [self.conv1, *layers[0]]
        layers[-1] = [*layers[-1], self.snake1, self.conv2]
        return [
            Stage(inner, block.snake1.alpha.size) for inner, block in zip(layers, self.block, strict=True)
        ]


class OobleckDecoder(nn.Module):
    """Latents [batch, frames, latent channels] -> audio [batch, samples, channels]"""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        widths = [config.decoder_channels * multiple for multiple in (1, *config.channel_multiples)][::-1]
        self.conv1 = Conv1d(config.decoder_input_channels, widths[0], KERNEL)
        self.block = [
            OobleckDecoderBlock(*pair, stride)
            for pair, stride in zip(itertools.pairwise(widths), config.downsampling_ratios[::-1], strict=True)
        ]
        self.snake1 = Snake1d(widths[-1])
        self.conv2 = Conv1d(widths[-1], config.audio_channels, KERNEL, bias=False)

    def stages(self) -> list[Stage]:
        layers = [block.layers() for block in self.block]
        layers[0] = [self.conv1, *layers[0]]
        layers[-1] = [*layers[-1], self.snake1, self.conv2]
        return [
            Stage(inner, block.conv_t1.stride * block.conv_t1.bias.size)
            for inner, block in zip(layers, self.block, strict=True)
        ]


class MLXAutoencoderOobleck(nn.Module):
    """The VAE; `vae_convert` makes one of a checkpoint's weights."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = OobleckEncoder(config)
        self.decoder = OobleckDecoder(config)

    @property
    def frames_behind(self) -> int:
        """Latent frames behind a stem that its last samples depend on: 9 in the published VAE."""
        return margin_of(self.decoder.stages())

    def encode(self, audio: mx.array) -> tuple[mx.array, mx.array]:
        """Audio [batch, samples, channels] -> mean and standard deviation of its latents, each [batch, frames, 64]."""
        hop = self.config.hop_length
        parameters = self._in_tiles(self.encoder.stages(), audio, hop, Fraction(1, hop))
        mean, scale = mx.split(parameters, 2, axis=-1)
        return mean, mx.logaddexp(
            scale, 0
        ) + 1e-4  # softplus; mlx.nn's is compiled, which `cpu_math.silu` avoids

    def decode(self, latents: mx.array) -> mx.array:
        """Latents [batch, frames, 64] -> audio [batch, samples, channels]"""
        return self._in_tiles(self.decoder.stages(), latents, 1, Fraction(self.config.hop_length))

    def _in_tiles(self, stages: Sequence[Stage], x: mx.array, frame: int, ratio: Fraction) -> mx.array:
        """All stages on one item after another, in tiles of whole frames, `frame` positions each."""
        overlap = round_up(margin_of(stages), frame)
        run, frames = (run_on_cpu, CPU_TILE_FRAMES) if is_on_cpu() else (run_on_gpu, TILE_FRAMES)
        items = [run(stages, item, frames * frame, overlap, ratio) for item in mx.split(x, len(x))]
        return mx.concatenate(items) if len(items) > 1 else items[0]


def margin_of(stages: Sequence[Stage]) -> int:
    """Positions on either side that an output of all stages depends on."""
    margin = 0
    for stage in reversed(stages):
        margin = stage.margin(margin)
    return margin


def run_on_gpu(stages: Sequence[Stage], x: mx.array, tile: int, overlap: int, ratio: Fraction) -> mx.array:
    """All stages on [1, length, channels]."""

    def run(part: mx.array) -> mx.array:
        for stage in stages:
            part = stage(part)
        return part

    with limited_cache():
        y = in_tiles(run, x, tile, overlap, ratio)
        mx.eval(y)
    return y


def run_on_cpu(stages: Sequence[Stage], x: mx.array, tile: int, overlap: int, ratio: Fraction) -> mx.array:
    """All stages on [1, length, channels], by numpy."""
    with tile_threads() as pool:

        def run(part: np.ndarray, start: int) -> np.ndarray:
            for stage in stages:
                part = stage.on_cpu(part, start, pool)
                start = int(start * stage.ratio)
            return part

        return mx.array(tiled(run, np.asarray(x[0]), 0, tile, overlap, ratio)[None])
