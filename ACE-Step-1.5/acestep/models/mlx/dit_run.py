"""What all evaluations of a run share, computed once: the conditions, every timestep's modulation, the tables."""

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from acestep.models.mlx.attention import KeysAndValues
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
from acestep.models.mlx.rope import Rotary, rotary_tables
from acestep.models.mlx.streams import stream_for

# What a layer's cross-attention takes in one branch: keys and values, or the constant vector that it adds.
CrossAttentionInput = KeysAndValues | mx.array


@dataclass
class Branch:
    """cond or uncond: what each layer's cross-attention takes, [items, ...] or constant, and the stream it runs on."""

    cross_attention: Sequence[CrossAttentionInput]
    stream: Any = None

    def computing(self) -> AbstractContextManager[Any]:
        """The context in which this branch's operations are made."""
        return contextlib.nullcontext() if self.stream is None else mx.stream(self.stream)


@dataclass
class PreparedRun:
    """rows: t -> its row in embeddings [steps, width] and modulations [steps, 6, width]; rotary: cos and sin."""

    rows: dict[float, int]
    embeddings: mx.array
    modulations: mx.array
    rotary: Rotary
    branches: list[Branch]


def prepare(
    reference: MLXDiTDecoder,
    run: MLXCrossAttentionCache,
    hidden_states: mx.array,
    encoder_hidden_states: mx.array,
) -> PreparedRun:
    """From what the run says of itself and what its first evaluation is given; everything is computed on return."""
    config = reference.config
    timesteps = np.asarray(run.timesteps, dtype=np.float32)
    embeddings, modulations = reference.time_embed(mx.array(timesteps))
    embedding_r, modulation_r = reference.time_embed_r(mx.zeros(1))  # t - r is 0 in inference
    items = len(hidden_states) // (2 if run.guided else 1)
    branches = [Branch(reference.encoder_keys_and_values(encoder_hidden_states[:items]))]
    if run.guided:
        null = encoder_hidden_states[items : items + 1, :1]
        branches.append(Branch(uncond_constants(reference, null)))
    patches = -(-hidden_states.shape[1] // config.patch_size)
    prepared = PreparedRun(
        rows={t: row for row, t in enumerate(timesteps.tolist())},
        embeddings=embeddings + embedding_r,
        modulations=modulations + modulation_r,
        rotary=rotary_tables(patches, config.head_dim, config.rope_theta),
        branches=branches,
    )
    mx.eval(prepared.embeddings, prepared.modulations, [branch.cross_attention for branch in branches])
    if run.guided:
        # Only BLAS uses more than one thread of a CPU stream. With a stream each, the branches compute the rest,
        # the softmax above all, on two cores at once.
        branches[1].stream = stream_for(prepared)
    return prepared


def uncond_constants(reference: MLXDiTDecoder, null: mx.array) -> list[mx.array]:
    """The null embedding [1, 1, encoder width] -> what each layer's cross-attention adds, [1, 1, width].

    In the uncond branch every position of the encoder states is this embedding. Attention weights sum to 1 and all
    values are equal, so the result is the value of one position, whatever the query.
    """
    constants = []
    for layer, keys_and_values in zip(reference.layers, reference.encoder_keys_and_values(null), strict=True):
        attention = layer.cross_attn
        any_query = mx.zeros((1, attention.heads, 1, attention.head_dim))
        constants.append(attention.attend(any_query, keys_and_values))
    return constants
