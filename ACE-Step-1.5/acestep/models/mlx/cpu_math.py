"""Exponentials on the CPU, made of operations that MLX computes several numbers at a time.

mlx's own exp takes 12 ns a number on x86-64, an addition or multiplication 0.1 to 0.3 ns. On macOS, Accelerate computes
mlx's exp several numbers at a time.
"""

import math
import sys

import mlx.core as mx

# Values that are computed at once: few enough that the caches of a core hold them from one operation to the next.
BLOCK_VALUES = 2**18
LOG2_E = math.log2(math.e)
# 2**x is a normal float32 in this range of x.
SMALLEST_POWER, LARGEST_POWER = -126.0, 126.0
# Added to a float32, it leaves no digits behind the point, and in the last 8 bits the exponent field of 2**x.
ROUNDING = 1.5 * 2.0**23 + 127
MANTISSA_BITS = 23
# 2**f = (p + q) / (p - q) with g = f**2, p = P1 g + P0, q = f (g + Q0): the Padé approximant of order [3/3] of exp at
# f ln 2, with everything divided by ln(2)**3. For |f| <= 1/2 it is exact to 1e-8.
P1, P0, Q0 = 12 / math.log(2), 120 / math.log(2) ** 3, 60 / math.log(2) ** 2


def is_on_cpu() -> bool:
    """Whether MLX computes without a GPU."""
    return bool(mx.default_device() == mx.cpu)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x), as `mlx.nn.silu` but not compiled.

    A thread that ran a compiled function frees its compile cache when it ends; if Python is shutting down by then,
    the process aborts.
    """
    return x * mx.sigmoid(x)


def power_of_two(x: mx.array) -> mx.array:
    """2**x for float32 x up to 126, to 3e-7 of it; an x below -126 counts as -126."""
    x = mx.maximum(x, SMALLEST_POWER)
    rounded = x + ROUNDING
    f = x - (rounded - ROUNDING)
    g = f * f
    p, q = g * P1 + P0, (g + Q0) * f
    power = mx.view(mx.left_shift(mx.view(rounded, mx.int32), MANTISSA_BITS), mx.float32)
    return (p + q) / (p - q) * power


def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """gate * sigmoid(gate) * up of two arrays [batch, length, width]."""
    if not is_on_cpu() or sys.platform == "darwin":
        return silu(gate) * up
    rows = max(1, BLOCK_VALUES // gate.shape[-1])

    def block(gate: mx.array, up: mx.array) -> mx.array:
        return gate * up / (1 + power_of_two(mx.minimum(gate * -LOG2_E, LARGEST_POWER)))

    gates, ups = gate.flatten(0, 1), up.flatten(0, 1)
    parts = [block(gates[row : row + rows], ups[row : row + rows]) for row in range(0, len(gates), rows)]
    return mx.concatenate(parts).reshape(gate.shape)
