"""Attention in MLX: of all keys at once or, equal to it, with no more keys and memory than a query needs."""

import math
from typing import NamedTuple

import mlx.core as mx

from acestep.models.mlx.linear import scale_into_range

# mlx has no fused attention on the CPU: it holds the scores of every query that it is given at once.
CPU_SCORES = 2**25  # of one block of queries, 128 MiB in float32


class KeysAndValues(NamedTuple):
    """keys, values [batch, kv_heads, length, head_dim], of the dtype that attention is computed in.

    scale: what the values were divided by to fit into float16; None: by nothing.
    """

    keys: mx.array
    values: mx.array
    scale: mx.array | None = None

    def astype(self, dtype: mx.Dtype) -> "KeysAndValues":
        """From float32. Keys are normalised and fit; the attention of values is never larger than they are."""
        if dtype != mx.float16:
            return KeysAndValues(self.keys.astype(dtype), self.values.astype(dtype))
        scale = scale_into_range(self.values)
        return KeysAndValues(self.keys.astype(dtype), (self.values / scale).astype(dtype), scale)


def attend(queries: mx.array, keys_and_values: KeysAndValues, mask: mx.array | None = None) -> mx.array:
    """Queries [batch, heads, length, head_dim], keys and values with kv_heads and a length of their own.

    Returns float32 [batch, length, heads * head_dim].
    """
    keys, values, divided_by = keys_and_values
    queries = queries.astype(values.dtype)
    if mx.default_device() == mx.cpu:  # where mlx is slow in half precision; a GPU too sums in float32
        queries, keys, values = (x.astype(mx.float32) for x in (queries, keys, values))
    mixed = mx.fast.scaled_dot_product_attention(
        queries, keys, values, scale=1.0 / math.sqrt(queries.shape[-1]), mask=mask
    )
    mixed = mixed.swapaxes(1, 2).flatten(2, 3).astype(keys_and_values.values.dtype).astype(mx.float32)
    return mixed if divided_by is None else mixed * divided_by


def attend_in_blocks(queries: mx.array, keys_and_values: KeysAndValues) -> mx.array:
    """`attend`, on the CPU a block of queries at a time: each query has its own sum, so nothing changes."""
    batch, heads, length, _ = queries.shape
    block = length
    if mx.default_device() == mx.cpu:
        block = max(1, CPU_SCORES // (batch * heads * keys_and_values.keys.shape[2]))
    blocks = [attend(queries[:, :, at : at + block], keys_and_values) for at in range(0, length, block)]
    return mx.concatenate(blocks, axis=1)


def attend_in_window(queries: mx.array, keys_and_values: KeysAndValues, window: int) -> mx.array:
    """Every query against the keys at most `window` away: length * window scores in place of length * length.

    Queries are cut into blocks of the window; the block before, its own and the one after hold all their keys.
    """
    batch, heads, length, head_dim = queries.shape
    if length <= window + 1:
        return attend(queries, keys_and_values)
    count = -(-length // window)
    missing = count * window - length

    def blocks(x: mx.array, before: int, after: int) -> mx.array:
        """[batch, heads, length, head_dim] -> [batch, blocks, window, heads, head_dim]"""
        x = mx.pad(x.swapaxes(1, 2), [(0, 0), (before, after), (0, 0), (0, 0)])
        return x.reshape(batch, -1, window, *x.shape[2:])

    def neighbours(x: mx.array) -> mx.array:
        """-> [batch * blocks, heads, 3 * window, head_dim]"""
        x = blocks(x, window, window + missing)
        return mx.concatenate([x[:, i : i + count] for i in range(3)], axis=2).flatten(0, 1).swapaxes(1, 2)

    queries = blocks(queries, 0, missing).flatten(0, 1).swapaxes(1, 2)
    near = KeysAndValues(
        neighbours(keys_and_values.keys), neighbours(keys_and_values.values), keys_and_values.scale
    )
    mixed = attend(queries, near, window_mask(batch, length, window))
    return mixed.reshape(batch, count * window, heads * head_dim)[:, :length]


def window_mask(batch: int, length: int, window: int) -> mx.array:
    """bool [batch * blocks, 1, window, 3 * window]: True where a key of the three blocks is there and in reach."""
    query, key = mx.arange(window)[:, None], mx.arange(-window, 2 * window)
    in_reach = mx.abs(query - key) <= window
    position = mx.arange(0, length, window)[:, None] + key
    there = (position >= 0) & (position < length)
    return mx.tile(in_reach & there[:, None], (batch, 1, 1))[:, None]
