"""Long audio a tile at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import mlx.core as mx

CACHE_LIMIT = 2**30  # bytes that MLX may keep for reuse while tiles are computed


def round_up(count: int, group: int) -> int:
    """To a multiple of `group`."""
    return -(-count // group) * group


def in_tiles(
    run: Callable[[mx.array], mx.array], x: mx.array, tile: int, overlap: int, ratio: Fraction
) -> mx.array:
    """run(x) for x [batch, length, channels], `tile` positions at a time, each with `overlap` more on either side.

    ratio: positions of the output for one of the input; tile * ratio and overlap * ratio are whole numbers.
    What is computed for the overlap is cut off: where it covers the receptive field, the result is that of one run.
    """
    length = x.shape[1]
    if length <= tile + overlap:
        return run(x)
    parts = []
    for start in range(0, length, tile):
        first, end = max(0, start - overlap), start + tile
        y = run(x[:, first : end + overlap])
        kept = slice(int((start - first) * ratio), int((end - first) * ratio) if end < length else None)
        parts.append(mx.contiguous(y[:, kept]))
        mx.eval(parts[-1])
    return mx.concatenate(parts, axis=1)


@contextmanager
def limited_cache() -> Iterator[None]:
    """The tiles' activations differ in size: unlimited, MLX would keep one buffer of each for reuse."""
    before = mx.set_cache_limit(CACHE_LIMIT)
    try:
        yield
    finally:
        mx.set_cache_limit(before)
