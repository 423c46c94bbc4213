"""Constant tables of the decoder: rotary angles, timestep frequencies, window masks.

They are computed by PyTorch, in float32 and in PyTorch's order of rounding, and handed to MLX: at position
5,000 a last-digit difference in a frequency would be a difference of 5e-4 in the angle.
"""

import math

import mlx.core as mx
import torch


def _to_mlx(*tensors: torch.Tensor) -> list[mx.array]:
    arrays = [mx.array(tensor.numpy()) for tensor in tensors]
    mx.eval(
        arrays
    )  # tables outlive a call: an array left lazy belongs to the stream of the thread that made it
    return arrays


def rotary_tables(length: int, head_dim: int, theta: float) -> tuple[mx.array, mx.array]:
    """cos and sin of the rotary angles, each float32 [length, head_dim], both halves of a head alike."""
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies).repeat(1, 2)
    cos, sin = _to_mlx(angles.cos(), angles.sin())
    return cos, sin


def timestep_frequencies(channels: int, max_period: float = 10_000.0) -> mx.array:
    """float32 [channels / 2], falling from 1 towards 1 / max_period."""
    half = channels // 2
    exponents = -math.log(max_period) * torch.arange(half, dtype=torch.float32) / half
    return _to_mlx(exponents.exp())[0]


def sliding_window_mask(length: int, window: int) -> mx.array:
    """bool [length, length]: True where two positions are at most `window` apart, either way."""
    position = torch.arange(length)
    return _to_mlx((position[:, None] - position[None, :]).abs() <= window)[0]
