"""The layers of the audio VAE computed by numpy, for a machine without a GPU; weights are those of `vae_layers`.

mlx's own conv on the CPU takes 5 times as long as a matmul for each position of the kernel, 100 times with a
dilation, and everything but matmuls runs on one core. Here several tiles are computed at once, each on one thread.

Outputs that share products are computed together, see `_with_fewer_products` and `_of_two`. Which ones depends on their
positions in the whole input, so that an output is made of the same products in every tile.
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

from acestep.models.mlx.tiling import round_up
from acestep.models.mlx.vae_layers import (
    KERNEL,
    Conv1d,
    DownsamplingConv1d,
    Layer,
    OobleckResidualUnit,
    Snake1d,
    UpsamplingConv1d,
)

# Takes an input [length, channels] and the position of its first row in the whole input.
Function = Callable[[np.ndarray, int], np.ndarray]

# The OpenBLAS of numpy's wheels.
LIBRARIES = ("numpy.libs/libscipy_openblas*", "numpy/.dylibs/libscipy_openblas*")
SET_THREADS, GET_THREADS = "scipy_openblas_set_num_threads64_", "scipy_openblas_get_num_threads64_"
# Channels from which on fewer matmuls are faster than fewer additions.
WIDE = 128
# Positions that are computed at once: few enough that a core's caches hold them from one operation to the next.
BLOCK = 2048


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
    run: Function,
    x: np.ndarray,
    start: int,
    tile: int,
    overlap: int,
    ratio: Fraction,
    pool: ThreadPoolExecutor | None = None,
) -> np.ndarray:
    """run(x, start) in tiles of equal length, at most `tile`, each with `overlap` more on either side, which is cut
    off; as many tiles at once as `pool` has threads, also of a short input, unless the overlap is a large part of it.

    ratio: positions of the output for one of the input; start, tile and overlap are multiples of its denominator.
    """
    length, group = len(x), ratio.denominator
    threads: int = pool._max_workers if pool else 1
    if length <= tile and (threads == 1 or length <= 4 * overlap):
        return run(x, start)
    count = -(-length // (tile * threads)) * threads
    tile = -(-length // (count * group)) * group

    def part(begin: int) -> np.ndarray:
        first, end = max(0, begin - overlap), begin + tile
        y = run(x[first : end + overlap], start + first)
        kept = slice(int((begin - first) * ratio), int((end - first) * ratio) if end < length else None)
        return y[kept].copy()  # a view would keep what was computed for the overlap in memory

    begins = range(0, length, tile)
    return np.concatenate(list(pool.map(part, begins) if pool else map(part, begins)))


def function(layers: Sequence[Layer], pool: ThreadPoolExecutor) -> Function:
    """One layer after another. What depends on their weights alone is computed here, for all tiles."""
    mx.eval([layer.parameters() for layer in layers])  # MLX has no stream in the pool's threads
    functions = list(pool.map(lambda layer: FUNCTIONS[type(layer)](layer), layers))

    def run(x: np.ndarray, start: int) -> np.ndarray:
        for layer, of_layer in zip(layers, functions, strict=True):
            x = of_layer(x, start)
            start = int(start * layer.ratio)
        return x

    return run


def snake(layer: Snake1d) -> Function:
    """`vae_layers.Snake1d`"""
    alpha, inverse_beta = view(layer.alpha), view(layer.inverse_beta)

    def run(x: np.ndarray, start: int) -> np.ndarray:
        y = np.empty_like(x)
        for first in range(0, len(x), BLOCK):
            inputs, wave = x[first : first + BLOCK], y[first : first + BLOCK]
            np.multiply(inputs, alpha, out=wave)
            np.sin(wave, out=wave)
            np.multiply(wave, wave, out=wave)
            wave *= inverse_beta
            wave += inputs
        return y

    return run


def conv(layer: Conv1d) -> Function:
    """`vae_layers.Conv1d`"""
    blocks = conv_blocks(layer)

    def run(x: np.ndarray, start: int) -> np.ndarray:
        parts = [part for _, part in blocks(x, start)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return run


def residual_unit(layer: OobleckResidualUnit) -> Function:
    """`vae_layers.OobleckResidualUnit`"""
    first_snake, blocks = snake(layer.snake1), conv_blocks(layer.conv1)
    second_snake, second_conv = snake(layer.snake2), conv(layer.conv2)

    def run(x: np.ndarray, start: int) -> np.ndarray:
        y = np.empty_like(x)
        for rows, part in blocks(first_snake(x, start), start):
            np.add(second_conv(second_snake(part, 0), 0), x[rows], out=y[rows])
        return y

    return run


def conv_blocks(layer: Conv1d) -> Callable[[np.ndarray, int], Iterator[tuple[slice, np.ndarray]]]:
    """`conv` as an iteration over blocks of at most BLOCK positions: which ones, and their outputs."""
    weight, padding = view(layer.weight), layer.padding
    period, multiply = 1, _with_a_product_each(weight, layer.dilation)
    if len(weight) == KERNEL and min(weight.shape[1:]) >= WIDE:
        period, multiply = 8 * layer.dilation, _with_fewer_products(weight, layer.dilation)
    block = BLOCK // period * period

    def run(x: np.ndarray, start: int) -> Iterator[tuple[slice, np.ndarray]]:
        length = len(x)
        for first in range(-(start % period), length, block):
            end = first + min(block, round_up(length - first, period))
            y = multiply(_rows(x, first - padding, end + padding))
            rows = slice(max(first, 0), min(end, length))
            part = y[rows.start - first : rows.stop - first]
            if "bias" in layer:
                part += view(layer.bias)
            yield rows, part

    return run


def _rows(x: np.ndarray, first: int, end: int) -> np.ndarray:
    """Rows first to end, zeros where x has none."""
    inside = x[max(first, 0) : max(end, 0)]
    if len(inside) == end - first:
        return inside
    return np.pad(inside, [(max(-first, 0), max(end - max(len(x), first), 0)), (0, 0)])


def _with_a_product_each(weight: np.ndarray, dilation: int) -> Callable[[np.ndarray], np.ndarray]:
    """A convolution without padding: a matmul for each position of the kernel."""

    def multiply(x: np.ndarray) -> np.ndarray:
        length = len(x) - (len(weight) - 1) * dilation
        y = x[:length] @ weight[0]
        for position in range(1, len(weight)):
            y += x[position * dilation :][:length] @ weight[position]
        return y

    return multiply


def _with_fewer_products(weight: np.ndarray, dilation: int) -> Callable[[np.ndarray], np.ndarray]:
    """`_with_a_product_each` of a kernel of 7, with 4 products an output in place of 7.

    Outputs are a multiple of 8 * dilation. Positions 0 to 2 of the kernel are a kernel of 3, `early`, and 4 to 6
    another, `late`. Two outputs, `dilation` apart, are a pair: Winograd's minimal filtering F(2, 3) computes a pair of
    a kernel of 3 by 4 products in place of 6. `late` multiplies the sums of inputs that `early` multiplies for the
    pair after the next: together they are a kernel of 2 over the pairs, of which F(2, 2) computes two outputs by 3
    products in place of 4. Source: Winograd 1980, "Arithmetic Complexity of Computations".
    """
    inputs, outputs = weight.shape[1:]
    center, step = weight[3], 2 * dilation
    matrices = [
        (early, early + late, late)
        for early, late in zip(_sums_of_three(weight[:3]), _sums_of_three(weight[4:]), strict=True)
    ]

    def products(sums: np.ndarray, early: np.ndarray, both: np.ndarray, late: np.ndarray) -> np.ndarray:
        """Sums [pairs + 2, dilation, inputs], of pairs that are a multiple of 4 -> [pairs, dilation, outputs]"""
        twos = sums.reshape(-1, step, inputs)  # of two pairs each
        before, between, after = twos[:-1:2], twos[1::2], twos[2::2]

        def product(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
            return (x.reshape(-1, inputs) @ matrix).reshape(-1, step, outputs)

        shared = product(between, both)
        y = np.empty((len(shared), 2, step, outputs), sums.dtype)
        np.add(product(before - between, early), shared, out=y[:, 0])
        np.add(product(after - between, late), shared, out=y[:, 1])
        return y.reshape(-1, dilation, outputs)

    def multiply(x: np.ndarray) -> np.ndarray:
        halves = x.reshape(-1, 2, dilation, inputs)
        first, second, third, fourth = halves[:-1, 0], halves[:-1, 1], halves[1:, 0], halves[1:, 1]
        total = products(second + third, *matrices[1])
        difference = products(third - second, *matrices[2])
        pairs = np.empty((len(total), 2, dilation, outputs), x.dtype)
        np.add(total, difference, out=pairs[:, 0])
        pairs[:, 0] += products(first - third, *matrices[0])
        np.subtract(total, difference, out=pairs[:, 1])
        pairs[:, 1] -= products(second - fourth, *matrices[3])
        y = pairs.reshape(-1, outputs)
        y += x[3 * dilation : -3 * dilation] @ center
        return y

    return multiply


def _sums_of_three(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the 4 products of F(2, 3) take of a kernel of 3, [3, inputs, outputs]."""
    first, second, third = weight
    outer = first + third
    return first, (outer + second) / 2, (outer - second) / 2, third


def downsampling_conv(layer: DownsamplingConv1d) -> Function:
    """`vae_layers.DownsamplingConv1d`"""
    multiply, bias = _of_two(view(layer.weight)), view(layer.bias)

    def run(x: np.ndarray, start: int) -> np.ndarray:
        length, channels = x.shape
        groups, end = layer.groups(length)
        padded = np.pad(x[: length + min(end, 0)], [(layer.padding, max(end, 0)), (0, 0)])
        y = multiply(padded.reshape(groups, layer.stride * channels), start // layer.stride)
        y += bias
        return y

    return run


def upsampling_conv(layer: UpsamplingConv1d) -> Function:
    """`vae_layers.UpsamplingConv1d`"""
    multiply, bias = _of_two(view(layer.weight)), view(layer.bias)

    def run(x: np.ndarray, start: int) -> np.ndarray:
        y = multiply(np.pad(x, [(1, 1), (0, 0)]), start).reshape(-1, bias.size)
        y += bias
        return y[layer.padding : len(y) - layer.padding]

    return run


def _of_two(weight: np.ndarray) -> Function:
    """A convolution of kernel 2 without padding, two outputs by 3 products: F(2, 2), see `_with_fewer_products`."""
    early, late = weight
    both = early + late

    def run(x: np.ndarray, start: int) -> np.ndarray:
        count, left_out = len(x) - 1, start % 2
        x = _rows(x, -left_out, count + 1 + (count + left_out) % 2)
        before, between, after = x[:-1:2], x[1::2], x[2::2]
        shared = between @ both
        y = np.empty((len(shared), 2, weight.shape[2]), x.dtype)
        np.add((before - between) @ early, shared, out=y[:, 0])
        np.add((after - between) @ late, shared, out=y[:, 1])
        return y.reshape(-1, weight.shape[2])[left_out : left_out + count]

    return run


def view(weight: mx.array) -> np.ndarray:
    """A weight in mlx's memory."""
    return np.asarray(weight)


FUNCTIONS: dict[type, Callable[[Any], Function]] = {
    Snake1d: snake,
    Conv1d: conv,
    DownsamplingConv1d: downsampling_conv,
    UpsamplingConv1d: upsampling_conv,
    OobleckResidualUnit: residual_unit,
}
