"""The condition encoder in MLX: text, lyrics and timbre to the states that the decoder's cross-attention reads.

Equal to diffusers' AceStepConditionEncoder on the same weights, to the last digits of float32. Parameter names are
those of upstream's checkpoint.
"""

from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn

from acestep.models.checkpoint.config import ModelConfig, in_turn
from acestep.models.mlx.attention import MASKED
from acestep.models.mlx.dit_model import LayerConfig, MLXAttention, MLXSwiGLUMLP, apply_rope
from acestep.models.mlx.linear import project
from acestep.models.mlx.rope import Rotary, rotary_tables, sliding_window_mask


def encoder_shape(config: ModelConfig) -> ModelConfig:
    """The configuration with the condition encoder's sizes in the place of the decoder's."""
    return replace(
        config,
        hidden_size=config.encoder_hidden_size,
        intermediate_size=config.encoder_intermediate_size,
        num_attention_heads=config.encoder_num_attention_heads,
        num_key_value_heads=config.encoder_num_key_value_heads,
    )


class MLXEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each behind its norm."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = MLXAttention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = MLXSwiGLUMLP(config)

    def __call__(self, x: mx.array, rotary: Rotary, mask: mx.array | None) -> mx.array:
        """x [batch, length, width], mask: added to the scores [batch, heads, length, length]."""
        h, attention = self.input_layernorm(x), self.self_attn
        queries = apply_rope(attention.queries(h), *rotary)
        x = x + attention.attend(queries, attention.keys_and_values(h, rotary), mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class MLXEncoder(nn.Module):
    """A projection, layers of which every other attends within a window, and a norm."""

    def __init__(self, config: ModelConfig, inputs: int, layers: int) -> None:
        super().__init__()
        self._config = config
        self.embed_tokens = nn.Linear(inputs, config.hidden_size)
        self.layers = [MLXEncoderLayer(config) for _ in range(layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, attention_mask: mx.array | None = None) -> mx.array:
        """x [batch, length, inputs], attention_mask bool [batch, length] -> [batch, length, width]"""
        config, length = self._config, x.shape[1]
        rotary = rotary_tables(length, config.head_dim, config.rope_theta)
        window = sliding_window_mask(length, config.sliding_window)
        there = mx.array(True) if attention_mask is None else attention_mask[:, None, None, :]
        masks = {
            "sliding_attention": mx.where(there & window, 0.0, MASKED),
            "full_attention": None if attention_mask is None else mx.where(there, 0.0, MASKED),
        }
        x = project(self.embed_tokens, x)
        for layer, kind in zip(self.layers, in_turn(len(self.layers)), strict=True):
            x = layer(x, rotary, masks[kind])
        return self.norm(x)


class MLXTimbreEncoder(MLXEncoder):
    """The encoder of reference latents; its first position is what stands for the timbre."""

    def __init__(self, config: ModelConfig, inputs: int, layers: int) -> None:
        super().__init__(config, inputs, layers)
        self.special_token = mx.zeros(
            (1, 1, config.hidden_size)
        )  # in the checkpoint, without a use in inference


class MLXConditionEncoder(nn.Module):
    """The condition encoder; `condition_convert` makes one of a checkpoint's weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        shape = encoder_shape(config)
        self.text_projector = nn.Linear(config.text_hidden_dim, shape.hidden_size, bias=False)
        self.lyric_encoder = MLXEncoder(shape, config.text_hidden_dim, config.num_lyric_encoder_hidden_layers)
        self.timbre_encoder = MLXTimbreEncoder(
            shape, config.timbre_hidden_dim, config.num_timbre_encoder_hidden_layers
        )
        self.null_condition_emb = mx.zeros((1, 1, shape.hidden_size))

    def __call__(
        self,
        text_hidden_states: mx.array,
        text_attention_mask: mx.array,
        lyric_hidden_states: mx.array,
        lyric_attention_mask: mx.array,
        timbre: mx.array,
    ) -> tuple[mx.array, mx.array]:
        """Text and lyric states [batch, length, text width] with a bool mask [batch, length] each, and the timbre, see
        `encode_timbre`.

        Returns the encoder states [batch, encoder length, encoder width], lyrics first, then the timbre, then the text,
        padding behind all of them, and their mask.
        """
        lyrics = self.lyric_encoder(lyric_hidden_states, lyric_attention_mask)
        text = project(self.text_projector, text_hidden_states)
        one = mx.ones((len(timbre), 1), dtype=mx.bool_)
        states = mx.concatenate([lyrics, timbre, text], axis=1)
        return padding_last(states, mx.concatenate([lyric_attention_mask, one, text_attention_mask], axis=1))

    def encode_timbre(self, latents: mx.array) -> mx.array:
        """A reference's latents [batch, frames, 64] -> [batch, 1, encoder width]"""
        return self.timbre_encoder(latents)[:, :1]


def padding_last(states: mx.array, mask: mx.array) -> tuple[mx.array, mx.array]:
    """States [batch, length, width] and their mask, the masked ones moved behind all others, else in order."""
    length = states.shape[1]
    order = mx.argsort(mx.where(mask, 0, length) + mx.arange(length), axis=1)
    return mx.take_along_axis(states, order[:, :, None], axis=1), mx.take_along_axis(mask, order, axis=1)
