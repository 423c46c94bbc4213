"""The DiT decoder in MLX: one evaluation predicts the velocity of noisy latents.

Equal to diffusers' AceStepTransformer1DModel on the same weights, to the last digits of float32. Parameter
names are those of upstream's checkpoint, so that converting weights is little more than dropping a prefix.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.mlx.attention import KeysAndValues, attend
from acestep.models.mlx.cpu_math import silu, swiglu
from acestep.models.mlx.linear import HALF_DTYPES, project
from acestep.models.mlx.rope import Rotary, rotary_tables, sliding_window_mask, timestep_frequencies

TIMESTEP_CHANNELS = 256
TIMESTEP_SCALE = 1000.0


class LayerConfig(Protocol):
    """What a layer of the decoder or of an encoder is made by."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def num_key_value_heads(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def rms_norm_eps(self) -> float: ...
    @property
    def attention_bias(self) -> bool: ...


def apply_rope(x: mx.array, cos: mx.array, sin: mx.array) -> mx.array:
    """Rotary position embedding of x [batch, heads, length, head_dim]; halves are paired, not neighbours."""
    first, second = mx.split(x, 2, axis=-1)
    return x * cos + mx.concatenate([-second, first], axis=-1) * sin


class MLXCrossAttentionCache:
    """What one evaluation of a run keeps for the next: the encoder states are the same in all of them.

    A run that says more of itself lets a decoder prepare more: `timesteps` are those of all its evaluations, the
    same for every item; `guided`: the second half of a batch is the first once more, under the null condition.
    """

    def __init__(self, timesteps: Sequence[float] = (), guided: bool = False) -> None:
        self.timesteps, self.guided = tuple(timesteps), guided
        self.pairs: list[KeysAndValues] | None = None
        self.prepared: Any = None


class MLXAttention(nn.Module):
    """Grouped-head attention with normalised queries and keys, over itself or over the encoder states."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        width, self.head_dim = config.hidden_size, config.head_dim
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(width, self.heads * self.head_dim, bias=config.attention_bias)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=config.attention_bias)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=config.attention_bias)
        self.o_proj = nn.Linear(self.heads * self.head_dim, width, bias=config.attention_bias)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=config.rms_norm_eps)
        self.k_norm = nn.RMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def queries(self, x: mx.array) -> mx.array:
        """[batch, length, width] -> [batch, heads, length, head_dim]"""
        split = project(self.q_proj, x).reshape(*x.shape[:2], self.heads, self.head_dim)
        return self.q_norm(split).swapaxes(1, 2)

    def keys_and_values(self, x: mx.array, rotary: Rotary | None = None) -> KeysAndValues:
        """[batch, length, width] -> keys and values, each [batch, kv_heads, length, head_dim]; keys under rotary."""
        keys = project(self.k_proj, x).reshape(*x.shape[:2], self.kv_heads, self.head_dim)
        values = project(self.v_proj, x).reshape(*x.shape[:2], self.kv_heads, self.head_dim)
        keys = self.k_norm(keys).swapaxes(1, 2)
        keys = keys if rotary is None else apply_rope(keys, *rotary)
        return KeysAndValues(keys, values.swapaxes(1, 2))

    @property
    def attention_dtype(self) -> mx.Dtype:
        """Of the decoder's attention: that of the weights in half precision, else float32."""
        dtype = self.v_proj.weight.dtype
        return dtype if dtype in HALF_DTYPES else mx.float32

    def attend(
        self, queries: mx.array, keys_and_values: KeysAndValues, mask: mx.array | None = None
    ) -> mx.array:
        """Attention of the heads, projected back to [batch, length, width]."""
        return project(self.o_proj, attend(queries, keys_and_values, mask))


class MLXSwiGLUMLP(nn.Module):
    """The feed-forward part of a layer."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return project(self.down_proj, swiglu(project(self.gate_proj, x), project(self.up_proj, x)))


class MLXTimestepEmbedding(nn.Module):
    """t [batch] -> its embedding [batch, width] and the six modulation vectors [batch, 6, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(TIMESTEP_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)
        self.time_proj = nn.Linear(width, 6 * width)
        self._frequencies = timestep_frequencies(TIMESTEP_CHANNELS)  # the underscore: not a weight

    def __call__(self, t: mx.array) -> tuple[mx.array, mx.array]:
        angles = (t * TIMESTEP_SCALE)[:, None] * self._frequencies
        waves = mx.concatenate([mx.cos(angles), mx.sin(angles)], axis=-1)
        embedding = project(self.linear_2, silu(project(self.linear_1, waves)))
        return embedding, project(self.time_proj, silu(embedding)).reshape(t.shape[0], 6, -1)


class MLXDiTLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward; the timestep modulates the first and the last."""

    def __init__(self, config: ModelConfig, layer_type: str) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.is_sliding = layer_type == "sliding_attention"
        self.self_attn_norm = nn.RMSNorm(width, eps=eps)
        self.self_attn = MLXAttention(config)
        self.cross_attn_norm = nn.RMSNorm(width, eps=eps)
        self.cross_attn = MLXAttention(config)
        self.mlp_norm = nn.RMSNorm(width, eps=eps)
        self.mlp = MLXSwiGLUMLP(config)
        self.scale_shift_table = mx.zeros((1, 6, width))

    def modulated(self, modulation: mx.array) -> list[mx.array]:
        """[batch, 6, width] -> shift, scale and gate of the self-attention, then those of the feed-forward part."""
        return list(mx.split(self.scale_shift_table + modulation, 6, axis=1))

    def queries_keys_values(
        self, x: mx.array, shift: mx.array, scale: mx.array, rotary: Rotary
    ) -> tuple[mx.array, KeysAndValues]:
        """What the self-attention takes: queries, keys and values."""
        h = self.self_attn_norm(x) * (1 + scale) + shift
        attention = self.self_attn
        keys_and_values = attention.keys_and_values(h, rotary).astype(attention.attention_dtype)
        return apply_rope(attention.queries(h), *rotary), keys_and_values

    def feed_forward(self, x: mx.array, shift: mx.array, scale: mx.array, gate: mx.array) -> mx.array:
        """The last third of the layer."""
        return x + gate * self.mlp(self.mlp_norm(x) * (1 + scale) + shift)

    def __call__(
        self, x: mx.array, modulation: mx.array, rotary: Rotary, mask: mx.array, encoder: KeysAndValues
    ) -> mx.array:
        """x [batch, length, width], modulation [batch, 6, width], encoder: of the encoder states."""
        shift, scale, gate, *of_mlp = self.modulated(modulation)
        window = mask if self.is_sliding else None
        x = x + gate * self.self_attn.attend(*self.queries_keys_values(x, shift, scale, rotary), window)
        x = x + self.cross_attn.attend(self.cross_attn.queries(self.cross_attn_norm(x)), encoder)
        return self.feed_forward(x, *of_mlp)


class MLXDiTDecoder(nn.Module):
    """The decoder; `from_config` makes one with random weights, `dit_convert` loads a checkpoint's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.config = config
        self.proj_in = nn.Conv1d(config.in_channels, width, patch, stride=patch)
        self.time_embed = MLXTimestepEmbedding(width)
        self.time_embed_r = MLXTimestepEmbedding(width)
        self.condition_embedder = nn.Linear(config.encoder_hidden_size, width)
        self.layers = [MLXDiTLayer(config, kind) for kind in config.layer_types[: config.num_hidden_layers]]
        self.norm_out = nn.RMSNorm(width, eps=config.rms_norm_eps)
        self.proj_out = nn.ConvTranspose1d(width, config.audio_acoustic_hidden_dim, patch, stride=patch)
        self.scale_shift_table = mx.zeros((1, 2, width))
        self._tables: tuple[int, Rotary, mx.array] | None = None

    @classmethod
    def from_config(cls, config: ModelConfig) -> "MLXDiTDecoder":
        """A decoder of this shape whose weights are still to be loaded."""
        return cls(config)

    def _tables_for(self, length: int) -> tuple[Rotary, mx.array]:
        """Rotary tables and window mask; those of the last length are kept, a run has one length."""
        if self._tables is None or self._tables[0] != length:
            rotary = rotary_tables(length, self.config.head_dim, self.config.rope_theta)
            self._tables = (length, rotary, sliding_window_mask(length, self.config.sliding_window))
        return self._tables[1], self._tables[2]

    def encoder_keys_and_values(self, encoder_hidden_states: mx.array) -> list[KeysAndValues]:
        """Encoder states [batch, encoder length, encoder width] -> one pair for each layer."""
        states = project(self.condition_embedder, encoder_hidden_states)
        return [
            layer.cross_attn.keys_and_values(states).astype(layer.cross_attn.attention_dtype)
            for layer in self.layers
        ]

    def _patchify(self, context_latents: mx.array, hidden_states: mx.array) -> mx.array:
        """[batch, frames, channels] of both -> [batch, patches, width]; an odd end is filled with zeros."""
        frames = mx.concatenate([context_latents, hidden_states], axis=-1)
        missing = -frames.shape[1] % self.config.patch_size
        return self.proj_in(mx.pad(frames, [(0, 0), (0, missing), (0, 0)]))

    def __call__(
        self,
        hidden_states: mx.array,
        timestep: mx.array,
        timestep_r: mx.array,
        encoder_hidden_states: mx.array,
        context_latents: mx.array,
        cache: MLXCrossAttentionCache | None = None,
        use_cache: bool = False,
    ) -> tuple[mx.array, MLXCrossAttentionCache | None]:
        """One decoder evaluation.

        hidden_states: noisy latents [batch, frames, 64]; timestep, timestep_r: [batch], equal in inference;
        encoder_hidden_states: [batch, encoder length, encoder width]; context_latents: [batch, frames, 128];
        cache: kept and used where use_cache says so, for the same encoder states only.
        Returns the velocity [batch, frames, 64] and the cache, all float32.
        """
        embedding, modulation = self.time_embed(timestep)
        embedding_r, modulation_r = self.time_embed_r(timestep - timestep_r)

        pairs = cache.pairs if cache is not None and use_cache else None
        if pairs is None:
            pairs = self.encoder_keys_and_values(encoder_hidden_states)
        if cache is not None and use_cache:
            cache.pairs = pairs

        x = self._patchify(context_latents, hidden_states)
        rotary, mask = self._tables_for(x.shape[1])
        for layer, encoder in zip(self.layers, pairs, strict=True):
            x = layer(x, modulation + modulation_r, rotary, mask, encoder)

        shift, scale = mx.split(self.scale_shift_table + (embedding + embedding_r)[:, None], 2, axis=1)
        velocity = self.proj_out(self.norm_out(x) * (1 + scale) + shift)
        return velocity[:, : hidden_states.shape[1]], cache
