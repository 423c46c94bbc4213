"""Attention in MLX: of all keys at once or, equal to it, with no more keys and memory than a query needs."""

import math
from typing import NamedTuple

import mlx.core as mx

from acestep.models.mlx.cpu_math import BLOCK_VALUES, LOG2_E, is_on_cpu, power_of_two
from acestep.models.mlx.linear import scale_into_range

# The score of a key that is masked, or what is added to it. Finite: a query whose keys are all masked attends to all
# of them alike, as in diffusers; half the largest float32, as a kernel may multiply it by log2(e).
MASKED = -1.7e38
# Queries of a block at least: fewer of them make matmuls slow.
BLOCK_QUERIES = 128


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


def attend(
    queries: mx.array, keys_and_values: KeysAndValues, mask: mx.array | None = None, window: int | None = None
) -> mx.array:
    """Queries [batch, heads, length, head_dim], keys and values with kv_heads and a length of their own.

    mask: [..., length, key length], bool or added to the scores, for all heads alike. window: instead of a mask, every
    query attends to the keys at most so far away, with length * window scores in place of length * length.
    Returns float32 [batch, length, heads * head_dim].
    """
    keys, values, divided_by = keys_and_values
    if window is not None and queries.shape[2] <= window + 1:
        window = None
    if window is not None and not is_on_cpu():
        return attend_in_window(queries, keys_and_values, window)
    queries = queries.astype(values.dtype)
    if is_on_cpu():  # where mlx is slow in half precision; a GPU too sums in float32
        queries, keys, of_float32 = (x.astype(mx.float32) for x in (queries, keys, values))
        mixed = attend_in_blocks(queries, keys, of_float32, mask, window)
    else:
        scale = 1.0 / math.sqrt(queries.shape[-1])
        mixed = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    mixed = mixed.swapaxes(1, 2).flatten(2, 3).astype(values.dtype).astype(mx.float32)
    return mixed if divided_by is None else mixed * divided_by


def attend_in_blocks(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    mask: mx.array | None = None,
    window: int | None = None,
) -> mx.array:
    """Attention in float32 on the CPU, where mlx has none that is fused: about BLOCK_VALUES scores at a time.

    Returns [batch, heads, length, head_dim].
    """
    batch, heads, length, head_dim = queries.shape
    kv_heads, key_length = keys.shape[1:3]
    queries = (queries * (LOG2_E / math.sqrt(head_dim))).reshape(batch, kv_heads, -1, length, head_dim)
    keys, values = keys[:, :, None].swapaxes(-1, -2), values[:, :, None]
    if mask is not None:
        mask = mx.broadcast_to(mask, (batch, 1, length, key_length))

    items, groups, rows = block_shape(batch, heads, kv_heads, length, key_length, window)
    near = {row: slice(None) for row in range(0, length, rows)}
    in_window = {}
    if window is not None:
        position = mx.arange(length)
        near = {row: slice(max(0, row - window), row + rows + window) for row in near}
        in_window = {
            row: mx.abs(position[row : row + rows, None] - position[keys_near]) <= window
            for row, keys_near in near.items()
        }

    def block(item: int, group: int, row: int) -> mx.array:
        """Of `items` items, `groups` groups of heads and `rows` queries."""
        of_items, of_groups, of_rows = (
            slice(first, first + count) for first, count in ((item, items), (group, groups), (row, rows))
        )
        of_mask = in_window.get(row) if mask is None else mask[of_items, :, None, of_rows]
        scores = queries[of_items, of_groups, :, of_rows] @ keys[of_items, of_groups, :, :, near[row]]
        if of_mask is not None:
            scores = mx.where(of_mask, scores, MASKED) if of_mask.dtype == mx.bool_ else scores + of_mask
        weights = power_of_two(scores - mx.max(scores, axis=-1, keepdims=True))
        return (weights @ values[of_items, of_groups, :, near[row]]) / mx.sum(weights, axis=-1, keepdims=True)

    def of_heads(item: int, group: int) -> mx.array:
        return mx.concatenate([block(item, group, row) for row in near], axis=3)

    mixed = [
        mx.concatenate([of_heads(item, group) for group in range(0, kv_heads, groups)], axis=1)
        for item in range(0, batch, items)
    ]
    return mx.concatenate(mixed).reshape(batch, heads, length, head_dim)


def block_shape(
    batch: int, heads: int, kv_heads: int, length: int, key_length: int, window: int | None
) -> tuple[int, int, int]:
    """How many items, groups of heads and queries of each are computed at once."""
    if batch * heads * length * key_length <= BLOCK_VALUES:
        return batch, kv_heads, length
    of_a_query = heads // kv_heads * (key_length if window is None else 3 * window)
    rows = window or min(length, max(BLOCK_QUERIES, BLOCK_VALUES // of_a_query))
    return 1, max(1, BLOCK_VALUES // (of_a_query * rows)), rows


def attend_in_window(queries: mx.array, keys_and_values: KeysAndValues, window: int) -> mx.array:
    """`attend` of a window, for a GPU: as one call for all queries.

    Queries are cut into blocks of the window; the block before, its own and the one after hold all their keys.
    """
    batch, heads, length, head_dim = queries.shape
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
