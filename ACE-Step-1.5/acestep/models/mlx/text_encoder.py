"""The text encoder in MLX: Qwen3 without its language model head.

Written here because mlx-lm, which has a Qwen3, imports transformers wherever any of it is imported. Equal to
transformers' Qwen3Model on the same weights, to the last digits of float32; parameter names are the checkpoint's.
"""

import mlx.core as mx
import mlx.nn as nn

from acestep.models.checkpoint.text_config import TextEncoderConfig
from acestep.models.mlx.attention import MASKED
from acestep.models.mlx.condition_encoder import MLXEncoderLayer
from acestep.models.mlx.rope import rotary_tables


class MLXTextEncoder(nn.Module):
    """Tokens to states; `text_convert` makes one of a checkpoint's weights."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self._config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [MLXEncoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def embed(self, tokens: mx.array) -> mx.array:
        """Token ids [batch, length] -> their embeddings, float32 [batch, length, width]"""
        return self.embed_tokens(tokens).astype(mx.float32)

    def __call__(self, tokens: mx.array) -> mx.array:
        """Token ids [batch, length] -> the last layer's states behind the norm, [batch, length, width]; causal."""
        length = tokens.shape[1]
        rotary = rotary_tables(length, self._config.head_dim, self._config.rope_theta)
        position = mx.arange(length)
        mask = mx.where(position[:, None] >= position, 0.0, MASKED)
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x, rotary, mask)
        return self.norm(x)
