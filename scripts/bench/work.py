"""The work of a step, counted from the shapes: what a machine that is not here would have to do."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from acestep.models.checkpoint.config import ModelConfig

BRANCHES = 2  # of the guidance


@dataclass(frozen=True)
class Work:
    """Multiply-adds of the matmuls; bytes that they read and write if nothing stays near between them; exponentials.

    bytes are for float32, of which half precision needs half.
    """

    multiply_adds: int = 0
    bytes: int = 0
    exponentials: int = 0

    def __add__(self, other: "Work") -> "Work":
        mine, its = asdict(self), asdict(other)
        return Work(**{name: mine[name] + its[name] for name in mine})

    def times(self, count: int) -> "Work":
        return Work(**{name: count * value for name, value in asdict(self).items()})


def matmul(rows: int, inner: int, columns: int) -> Work:
    """[rows, inner] x [inner, columns]"""
    return Work(rows * inner * columns, 4 * (rows * inner + inner * columns + rows * columns))


def attention(config: ModelConfig, queries: int, keys: int) -> Work:
    """One item's scores and mixtures of all heads."""
    heads, kv_heads, head_dim = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    scores = heads * queries * keys
    moved = 4 * (2 * scores + 2 * heads * queries * head_dim + 2 * kv_heads * keys * head_dim)
    return Work(2 * scores * head_dim, moved, scores)


def layer_matmuls(config: ModelConfig, rows: int) -> tuple[Work, Work, Work, Work]:
    """Projections of self-attention, queries and output of cross-attention, its keys and values, feed-forward."""
    width, inner = config.hidden_size, config.num_attention_heads * config.head_dim
    kv = matmul(rows, width, config.num_key_value_heads * config.head_dim).times(2)
    q_and_o = matmul(rows, width, inner) + matmul(rows, inner, width)
    mlp = matmul(rows, width, config.intermediate_size).times(2)
    mlp += matmul(rows, config.intermediate_size, width)
    silu = Work(exponentials=rows * config.intermediate_size)
    return q_and_o + kv, q_and_o, kv, mlp + silu


def patch_matmuls(config: ModelConfig, rows: int) -> tuple[Work, Work]:
    """patchify and unpatchify, strided convs, as matmuls."""
    patch, width = config.patch_size, config.hidden_size
    return (
        matmul(rows, patch * config.in_channels, width),
        matmul(rows, width, patch * config.audio_acoustic_hidden_dim),
    )


def time_embedding(config: ModelConfig, rows: int) -> Work:
    """Both embeddings of `rows` timesteps, with their modulations."""
    width = config.hidden_size
    one = matmul(rows, 256, width) + matmul(rows, width, width) + matmul(rows, width, 6 * width)
    return one.times(2)


def sliding(config: ModelConfig) -> Iterator[bool]:
    """Of each layer, whether it has a window."""
    for kind in config.layer_types[: config.num_hidden_layers]:
        yield kind == "sliding_attention"


def reference_step(config: ModelConfig, patches: int, encoder_length: int) -> Work:
    """A guided step of one item as the reference decoder does it, keys and values of the encoder kept; upstream's keeps
    none, and does `once_a_run`'s first part in every step."""
    patchify, unpatchify = patch_matmuls(config, BRANCHES * patches)
    total = patchify + unpatchify + time_embedding(config, BRANCHES)
    itself, encoder, _, mlp = layer_matmuls(config, BRANCHES * patches)
    for _ in sliding(config):
        total += itself + encoder + mlp
        for keys in (patches, encoder_length):
            total += attention(config, BRANCHES * patches, keys)
    return total


def fast_step(config: ModelConfig, patches: int, encoder_length: int) -> Work:
    """The same step as the fast decoder does it on a GPU; on a CPU its windows have fewer scores."""
    patchify, _ = patch_matmuls(config, patches)
    _, unpatchify = patch_matmuls(config, BRANCHES * patches)
    total = patchify + unpatchify
    itself, encoder, _, mlp = layer_matmuls(config, patches)
    for index, windowed in enumerate(sliding(config)):
        branches = BRANCHES if index else 1
        queries, keys, window = patches, patches, config.sliding_window
        if windowed and patches > window + 1:
            queries, keys = -(-patches // window) * window, 3 * window
        total += (itself + attention(config, queries, keys)).times(branches) + mlp.times(BRANCHES) + encoder
        total += attention(config, patches, encoder_length)
    return total


def once_a_run(config: ModelConfig, encoder_length: int, steps: int) -> Work:
    """What the fast decoder does before the first step: the encoder states' keys and values, all timesteps."""
    states = matmul(encoder_length + 1, config.encoder_hidden_size, config.hidden_size)
    _, _, kv, _ = layer_matmuls(config, encoder_length + 1)
    return states + kv.times(config.num_hidden_layers) + time_embedding(config, steps)
