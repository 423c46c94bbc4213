"""What all evaluations of a run share, computed once: the conditions, every timestep's modulation, the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from acestep.models.mlx.attention import KeysAndValues
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
from acestep.models.mlx.rope import Rotary, rotary_tables


@dataclass
class PreparedRun:
    """rows: t -> its row in embeddings [steps, width] and modulations [steps, 6, width]; rotary: cos and sin.

    encoder: what each layer's cross-attention takes for cond; uncond: what it adds for uncond, [1, 1, width] each,
    where the run is guided.
    """

    rows: dict[float, int]
    embeddings: mx.array
    modulations: mx.array
    rotary: Rotary
    encoder: Sequence[KeysAndValues]
    uncond: Sequence[mx.array] | None


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
    uncond = None
    if run.guided:
        uncond = uncond_constants(reference, encoder_hidden_states[items : items + 1, :1])
    patches = -(-hidden_states.shape[1] // config.patch_size)
    prepared = PreparedRun(
        rows={t: row for row, t in enumerate(timesteps.tolist())},
        embeddings=embeddings + embedding_r,
        modulations=modulations + modulation_r,
        rotary=rotary_tables(patches, config.head_dim, config.rope_theta),
        encoder=reference.encoder_keys_and_values(encoder_hidden_states[:items]),
        uncond=uncond,
    )
    mx.eval(prepared.embeddings, prepared.modulations, prepared.encoder, prepared.uncond)
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
