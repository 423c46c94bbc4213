"""Constant tables of the models: rotary angles, timestep frequencies, window masks.

Frequencies are float32 numbers rounded from float64, and angles are multiplied in float32, in PyTorch's order: at
position 5,000 a last-digit difference in a frequency would be a difference of 5e-4 in the angle.
"""

import math

import mlx.core as mx
import numpy as np

Rotary = tuple[mx.array, mx.array]  # cos and sin of the rotary angles


def _to_mlx(array: np.ndarray) -> mx.array:
    """Computed on return: tables outlive a call, and a lazy array belongs to the stream of the thread that made it."""
    table = mx.array(array)
    mx.eval(table)
    return table


def rotary_tables(length: int, head_dim: int, theta: float) -> Rotary:
    """cos and sin of the rotary angles, each float32 [length, head_dim], both halves of a head alike."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies = np.float32(1) / np.power(float(theta), exponents, dtype=np.float64).astype(np.float32)
    angles = np.tile(np.outer(np.arange(length, dtype=np.float32), frequencies), 2).astype(np.float64)
    return _to_mlx(np.cos(angles).astype(np.float32)), _to_mlx(np.sin(angles).astype(np.float32))


def timestep_frequencies(channels: int, max_period: float = 10_000.0) -> mx.array:
    """float32 [channels / 2], falling from 1 towards 1 / max_period."""
    half = channels // 2
    exponents = np.float32(-math.log(max_period)) * np.arange(half, dtype=np.float32) / np.float32(half)
    # The nearest float32: torch.exp may be off in the last digit, see acestep/models/pytorch/reference.py.
    return _to_mlx(np.exp(exponents, dtype=np.float64).astype(np.float32))


def sliding_window_mask(length: int, window: int) -> mx.array:
    """bool [length, length]: True where two positions are at most `window` apart, either way."""
    position = np.arange(length)
    return _to_mlx(np.abs(position[:, None] - position) <= window)
