"""PyTorch's decoder as the reference of a comparison: diffusers' own, its timestep frequencies rounded once.

`torch.exp` in float32 is allowed an error in the last digit, which differs between devices: on x86-64 two of the 128
timestep frequencies are not the nearest float32. The decoder multiplies them by up to 1,000, so a velocity moves by up
to 3e-6. MLX's side has the nearest float32 on every machine; the reference is given the same.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from diffusers import AceStepTransformer1DModel

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.pytorch.loading import load_decoder


def load_reference_decoder(folder: Path, config: ModelConfig) -> AceStepTransformer1DModel:
    """`load_decoder`, float32 on the CPU, with the nearest float32 for each timestep frequency."""
    decoder = load_decoder(folder, config)
    round_timestep_frequencies(decoder)
    return decoder


def round_timestep_frequencies(decoder: Any) -> None:
    """The sinusoids of a decoder's timestep embeddings are computed with an `exp` that is rounded once."""
    for embedding in (decoder.time_embed, decoder.time_embed_r):
        sinusoid = embedding.time_sinusoid
        sinusoid.forward = _with_rounded_exp(sinusoid.forward)


def _with_rounded_exp(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The same forward; `torch.exp` is replaced while it runs."""

    @functools.wraps(forward)
    def rounded(*args: Any, **kwargs: Any) -> torch.Tensor:
        with mock.patch.object(torch, "exp", _rounded_exp):
            return forward(*args, **kwargs)

    return rounded


def _rounded_exp(exponent: torch.Tensor) -> torch.Tensor:
    """exp in float64, on the CPU since not every device has float64, rounded to the input's dtype."""
    return exponent.to("cpu", torch.float64).exp().to(exponent.dtype).to(exponent.device)
