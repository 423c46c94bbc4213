"""The decoders that are compared, on one set of random weights, and one guided evaluation of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from acestep.constants import LATENT_FRAMES_PER_SECOND
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
from acestep.models.mlx.linear import measure_rows
from acestep.models.mlx.loading import matrix_in

if TYPE_CHECKING:  # it takes seconds and hundreds of MB, which a side on MLX is not to be charged with
    from diffusers import AceStepTransformer1DModel

HEAD_DIM = 128
STEPS = 50
T = 0.5  # of the evaluation that is timed
SIDES = ("reference", "fast", "torch")
Evaluation = Callable[[], np.ndarray]


def base_config(width: int, layers: int) -> ModelConfig:
    """The base model's proportions at another width and depth."""
    heads = width // HEAD_DIM
    return ModelConfig(
        is_turbo=False,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2),
        head_dim=HEAD_DIM,
        in_channels=192,
        audio_acoustic_hidden_dim=64,
        timbre_hidden_dim=64,
        text_hidden_dim=1024,
        encoder_hidden_size=width,
        patch_size=2,
        sliding_window=128,
        layer_types=tuple("full_attention" if i % 2 else "sliding_attention" for i in range(layers)),
        rope_theta=1e6,
        rms_norm_eps=1e-6,
        attention_bias=False,
        num_lyric_encoder_hidden_layers=8,
        num_timbre_encoder_hidden_layers=4,
        timbre_fix_frame=750,
        encoder_intermediate_size=3 * width,
        encoder_num_attention_heads=heads,
        encoder_num_key_value_heads=max(1, heads // 2),
    )


def random_weight(name: str, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Of a size that keeps activations near 1, as training does."""
    value = draw.standard_normal(shape, dtype=np.float32)
    if "norm" in name:
        return 1 + np.float32(0.1) * value
    if len(shape) > 1 and "table" not in name:
        return value / np.float32(np.sqrt(np.prod(shape[1:])))
    return np.float32(0.1) * value


@dataclass
class Models:
    """The decoders of one configuration; each is made when it is first asked for."""

    config: ModelConfig
    precision: str = "float32"

    @cached_property
    def reference(self) -> MLXDiTDecoder:
        """The reference in MLX, which holds the weights."""
        decoder = MLXDiTDecoder.from_config(self.config)
        draw = np.random.default_rng(0)
        for name, unset in tree_flatten(decoder.parameters()):
            value = matrix_in(self.precision, mx.array(random_weight(name, unset.shape, draw)))
            mx.eval(value)
            decoder.load_weights([(name, value)], strict=False)
        measure_rows(decoder)
        return decoder

    @cached_property
    def fast(self) -> MLXFastDecoder:
        """On the same weights."""
        return MLXFastDecoder(self.reference)

    @cached_property
    def torch(self) -> "AceStepTransformer1DModel":
        """diffusers' decoder on a copy of them."""
        import torch

        from acestep.models.checkpoint.weights import diffusers_name
        from acestep.models.pytorch.loading import empty_decoder

        decoder = empty_decoder(self.config)
        tensors = {}
        for name, value in tree_flatten(self.reference.parameters()):
            if name == "proj_in.weight":
                value = value.transpose(0, 2, 1)
            if name == "proj_out.weight":
                value = value.transpose(2, 0, 1)
            for ours in ("proj_in.", "proj_out."):
                name = name.replace(ours, f"{ours}1.")
            tensors[diffusers_name(name)] = torch.from_numpy(np.array(value))
        decoder.load_state_dict(tensors, strict=True, assign=True)
        return decoder.requires_grad_(False).eval()


@dataclass
class Inputs:
    """What a guided evaluation is given: one item in two branches, float32."""

    hidden_states: np.ndarray
    context_latents: np.ndarray
    encoder_hidden_states: np.ndarray

    @classmethod
    def random(cls, config: ModelConfig, frames: int, encoder_length: int) -> "Inputs":
        draw = np.random.default_rng(1)

        def normal(*shape: int) -> np.ndarray:
            return draw.standard_normal(shape, dtype=np.float32)

        channels, width = config.audio_acoustic_hidden_dim, config.encoder_hidden_size
        null = np.broadcast_to(normal(1, 1, width), (1, encoder_length, width))
        states = np.concatenate([normal(1, encoder_length, width), null])
        x, context = normal(1, frames, channels), normal(1, frames, 2 * channels)
        return cls(np.concatenate([x, x]), np.concatenate([context, context]), states)


def frames_of(seconds: float) -> int:
    """Latent frames of so much audio."""
    return round(seconds * LATENT_FRAMES_PER_SECOND)


def evaluations(models: Models, inputs: Inputs, names: tuple[str, ...]) -> Mapping[str, Evaluation]:
    """Each side's evaluation in the midst of a run of 50 steps; what it returns is computed."""
    arrays = {name: mx.array(value) for name, value in vars(inputs).items()}
    schedule = [1 - i / STEPS for i in range(STEPS)]

    def on_mlx(decoder: MLXDiTDecoder | MLXFastDecoder) -> Evaluation:
        cache = MLXCrossAttentionCache(schedule, guided=True)
        t = mx.full((2,), T)

        def evaluate() -> np.ndarray:
            velocity, _ = decoder(timestep=t, timestep_r=t, cache=cache, use_cache=True, **arrays)
            return np.array(velocity)

        return evaluate

    def on_torch() -> np.ndarray:
        import torch

        tensors = {name: torch.from_numpy(value) for name, value in vars(inputs).items()}
        t = torch.full((2,), T)
        with torch.inference_mode():
            return models.torch(timestep=t, timestep_r=t, **tensors).sample.numpy()

    sides: dict[str, Evaluation] = {}
    if "reference" in names:
        sides["reference"] = on_mlx(models.reference)
    if "fast" in names:
        sides["fast"] = on_mlx(models.fast)
    if "torch" in names:
        sides["torch"] = on_torch
    return sides
