"""The layers of the audio VAE computed by numpy, for a machine without a GPU; weights are those of `vae_layers`.

mlx's own conv on the CPU takes 5 times as long as a matmul for each position of the kernel, 100 times with a
dilation, and everything but matmuls runs on one core. Here several tiles are computed at once, each on one thread.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from acestep.models.mlx.vae_layers import (
    KERNEL,
    Conv1d,
    DownsamplingConv1d,
    Layer,
    OobleckResidualUnit,
    Snake1d,
    UpsamplingConv1d,
)

# The OpenBLAS of numpy's wheels.
LIBRARIES = ("numpy.libs/libscipy_openblas*", "numpy/.dylibs/libscipy_openblas*")
# Channels from which on fewer matmuls are faster than fewer additions.
WIDE = 128
SET_THREADS, GET_THREADS = "scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"


@cache
def numpy_openblas() -> tuple[Any, int] | None:
    """The library of numpy's matmuls and its number of threads; None where numpy has another BLAS."""
    site = Path(np.__file__).parent.parent
    for pattern in LIBRARIES:
        for path in site.glob(pattern):
            library = ctypes.CDLL(str(path))
            if hasattr(library, SET_THREADS) and hasattr(library, GET_THREADS):
                return library, getattr(library, GET_THREADS)()
    return None


@contextmanager
def tile_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for tiles, as many as numpy's matmuls use; inside the `with` block each matmul runs on one."""
    found = numpy_openblas()
    if found is None:  # its threads cannot be set: the tiles take turns
        with ThreadPoolExecutor(1) as pool:
            yield pool
        return
    library, threads = found
    with ThreadPoolExecutor(min(threads, os.cpu_count() or 1)) as pool:
        getattr(library, SET_THREADS)(1)
        try:
            yield pool
        finally:
            getattr(library, SET_THREADS)(threads)


def tiled(
    run: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    tile: int,
    overlap: int,
    ratio: Fraction,
    group: int,
    pool: ThreadPoolExecutor | None = None,
) -> np.ndarray:
    """run(x) for x [length, channels], in tiles of equal length, at most `tile`, each with `overlap` more on either
    side, which is cut off; as many tiles at once as `pool` has threads.

    ratio: positions of the output for one of the input. group: tile and overlap are multiples of it, so that a tile
    starts where an output does, and where the pairs of outputs do that `conv` computes together.
    """
    length = len(x)
    if length <= tile:
        return run(x)
    threads: int = pool._max_workers if pool else 1
    count = -(-length // (tile * threads)) * threads
    tile = -(-length // (count * group)) * group

    def part(start: int) -> np.ndarray:
        first, end = max(0, start - overlap), start + tile
        y = run(x[first : end + overlap])
        kept = slice(int((start - first) * ratio), int((end - first) * ratio) if end < length else None)
        return y[kept].copy()  # a view would keep what was computed for the overlap in memory

    starts = range(0, length, tile)
    return np.concatenate(list(pool.map(part, starts) if pool else map(part, starts)))


def run_layers(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """x [length, channels] through each layer."""
    for layer in layers:
        x = FUNCTIONS[type(layer)](layer, x)
    return x


def snake(layer: Snake1d, x: np.ndarray) -> np.ndarray:
    """`vae_layers.Snake1d`"""
    wave = x * view(layer.alpha)
    np.sin(wave, out=wave)
    np.multiply(wave, wave, out=wave)
    wave *= view(layer.inverse_beta)
    wave += x
    return wave


def conv(layer: Conv1d, x: np.ndarray) -> np.ndarray:
    """`vae_layers.Conv1d`"""
    weight = view(layer.weight)
    y = x @ weight[len(weight) // 2]
    if "bias" in layer:
        y += view(layer.bias)
    if len(weight) == KERNEL and weight.shape[1] >= WIDE:
        _add_outer_positions(weight, layer.dilation, x, y)
    else:
        _add_each_position(weight, layer.dilation, x, y)
    return y


def _add_each_position(weight: np.ndarray, dilation: int, x: np.ndarray, y: np.ndarray) -> None:
    """Adds to y what all positions of the kernel but the center contribute: a matmul each, no padded copy of x."""
    length, center = len(x), len(weight) // 2
    product = np.empty_like(y)
    for position, matrix in enumerate(weight):
        offset = (position - center) * dilation
        first, end = max(0, -offset), length - max(0, offset)
        if offset and first < end:
            y[first:end] += np.matmul(x[first + offset : end + offset], matrix, out=product[: end - first])


def _add_outer_positions(weight: np.ndarray, dilation: int, x: np.ndarray, y: np.ndarray) -> None:
    """`_add_each_position` for a kernel of 7 with 8 matmuls on half of the positions each, in place of 6 on all.

    Winograd's minimal filtering F(2, 3): two outputs, `dilation` apart, of a kernel of 3 with 4 multiplications in
    place of 6. Positions 0 to 2 of the kernel are one such kernel, 4 to 6 another, which takes the same sums of inputs
    two pairs of outputs later. Source: Winograd 1980, "Arithmetic Complexity of Computations".
    """
    length, channels = x.shape
    pairs = -(-length // (2 * dilation))
    padded = np.zeros(((pairs + 3) * 2 * dilation, channels), x.dtype)
    padded[3 * dilation :][:length] = x
    halves = padded.reshape(-1, 2, dilation, channels)
    first, second, third, fourth = halves[:-1, 0], halves[:-1, 1], halves[1:, 0], halves[1:, 1]

    def products(inputs: np.ndarray, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        """Of both kernels, [pairs, dilation, outputs]."""
        rows, count = inputs.reshape(-1, channels), pairs * dilation
        return (rows[:count] @ early + rows[2 * dilation :] @ late).reshape(pairs, dilation, -1)

    early, late = _sums_of_three(weight[:3]), _sums_of_three(weight[4:])
    both = products(second + third, early[1], late[1])
    difference = products(third - second, early[2], late[2])
    even = products(first - third, early[0], late[0])
    even += both
    even += difference
    both -= difference
    both -= products(second - fourth, early[3], late[3])

    outputs = np.stack([even, both], axis=1).reshape(-1, y.shape[1])
    y += outputs[:length]


def _sums_of_three(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the 4 multiplications take of a kernel of 3, [3, inputs, outputs]."""
    first, second, third = weight
    outer = first + third
    return first, (outer + second) / 2, (outer - second) / 2, third


def downsampling_conv(layer: DownsamplingConv1d, x: np.ndarray) -> np.ndarray:
    """`vae_layers.DownsamplingConv1d`"""
    length, channels = x.shape
    groups, end = layer.groups(length)
    padded = np.pad(x[: length + min(end, 0)], [(layer.padding, max(end, 0)), (0, 0)])
    return _of_two(layer, padded.reshape(groups, layer.stride * channels)) + view(layer.bias)


def upsampling_conv(layer: UpsamplingConv1d, x: np.ndarray) -> np.ndarray:
    """`vae_layers.UpsamplingConv1d`"""
    y = _of_two(layer, np.pad(x, [(1, 1), (0, 0)])).reshape(-1, layer.bias.size)
    return y[layer.padding : len(y) - layer.padding] + view(layer.bias)


def _of_two(layer: DownsamplingConv1d | UpsamplingConv1d, x: np.ndarray) -> np.ndarray:
    """A convolution of kernel 2 without padding."""
    first, second = view(layer.weight)
    y = x[:-1] @ first
    y += x[1:] @ second
    return y


def residual_unit(layer: OobleckResidualUnit, x: np.ndarray) -> np.ndarray:
    """`vae_layers.OobleckResidualUnit`"""
    y = run_layers([layer.snake1, layer.conv1, layer.snake2, layer.conv2], x)
    y += x
    return y


def view(weight: mx.array) -> np.ndarray:
    """A weight in mlx's memory."""
    return np.asarray(weight)


FUNCTIONS: dict[type, Callable[[Any, np.ndarray], np.ndarray]] = {
    Snake1d: snake,
    Conv1d: conv,
    DownsamplingConv1d: downsampling_conv,
    UpsamplingConv1d: upsampling_conv,
    OobleckResidualUnit: residual_unit,
}
