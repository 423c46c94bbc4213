"""Attention of the fast decoder: equal to the reference decoder's, with no more keys and memory than it needs."""

import math

import mlx.core as mx

# mlx has no fused attention on the CPU: it holds the scores of every query that it is given at once.
CPU_SCORES = 2**25  # of one block of queries, 128 MiB in float32


def attend(queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None = None) -> mx.array:
    """Queries [batch, heads, length, head_dim], keys and values with kv_heads and a length of their own.

    Returns [batch, length, heads * head_dim].
    """
    scale = 1.0 / math.sqrt(queries.shape[-1])
    queries, keys = queries.astype(values.dtype), keys.astype(values.dtype)
    mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    return mixed.swapaxes(1, 2).flatten(2, 3)


def attend_in_blocks(queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    """`attend`, on the CPU a block of queries at a time: each query has its own sum, so nothing changes."""
    batch, heads, length, _ = queries.shape
    block = length
    if mx.default_device() == mx.cpu:
        block = max(1, CPU_SCORES // (batch * heads * keys.shape[2]))
    blocks = [attend(queries[:, :, at : at + block], keys, values) for at in range(0, length, block)]
    return mx.concatenate(blocks, axis=1)


def attend_in_window(queries: mx.array, keys: mx.array, values: mx.array, window: int) -> mx.array:
    """Every query against the keys at most `window` away: length * window scores in place of length * length.

    Queries are cut into blocks of the window; the block before, its own and the one after hold all their keys.
    """
    batch, heads, length, head_dim = queries.shape
    if length <= window + 1:
        return attend(queries, keys, values)
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
    mixed = attend(queries, neighbours(keys), neighbours(values), window_mask(batch, length, window))
    return mixed.reshape(batch, count * window, heads * head_dim)[:, :length]


def window_mask(batch: int, length: int, window: int) -> mx.array:
    """bool [batch * blocks, 1, window, 3 * window]: True where a key of the three blocks is there and in reach."""
    query, key = mx.arange(window)[:, None], mx.arange(-window, 2 * window)
    in_reach = mx.abs(query - key) <= window
    position = mx.arange(0, length, window)[:, None] + key
    there = (position >= 0) & (position < length)
    return mx.tile(in_reach & there[:, None], (batch, 1, 1))[:, None]
