"""float16 and bfloat16 in the modules of diffusers and transformers: their matmuls alone, all else stays float32.

float16 does not overflow: see `models.mlx.linear`, which does the same on MLX.
"""

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.ace_step_transformer import AceStepAttention

FLOAT16_RANGE = 2.0**15  # half of float16's, so that no rounding leads beyond it
EXPONENT = 0x7F800000  # the bits of a float32 that hold its power of two


def scale_into_range(x: torch.Tensor, growth: float = 1.0, dim: int | None = None) -> torch.Tensor:
    """The power of two, at least 1, that float32 x has to be divided by to stay within float16 in a matmul.

    growth: the largest sum of magnitudes of a row of the weights. Neither the result nor any part of the sum, in
    whatever order and precision it is summed, is larger than the largest |x| times it. dim: of the rows; None: one
    power for all of x.
    """
    largest = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    bound = largest * (2.0 * max(growth, 1.0) / FLOAT16_RANGE)
    return (bound.view(torch.int32) & EXPONENT).view(torch.float32).clamp(min=1.0)


class HalfLinear(torch.nn.Module):
    """A Linear with its matrix in half precision: float32 in, float32 out, the bias is added in float32."""

    def __init__(self, linear: torch.nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(linear.weight.to(dtype), requires_grad=False)
        self.bias = linear.bias
        self.largest_row_sum = linear.weight.abs().sum(dim=1).max().item()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., inputs] -> [..., outputs]"""
        if self.weight.dtype == torch.float16:
            scale = scale_into_range(x, self.largest_row_sum, dim=-1)
            y = F.linear((x / scale).half(), self.weight).float() * scale
        else:
            y = F.linear(x.to(self.weight.dtype), self.weight).float()
        return y if self.bias is None else y + self.bias


class HalfEmbedding(torch.nn.Embedding):
    """An Embedding kept in half precision whose rows are float32."""

    def __init__(self, embedding: torch.nn.Embedding, dtype: torch.dtype) -> None:
        super().__init__(
            embedding.num_embeddings,
            embedding.embedding_dim,
            embedding.padding_idx,
            _weight=embedding.weight.to(dtype),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[...] -> [..., width]"""
        return super().forward(tokens).float()


class HalfAttention:
    """A processor for diffusers' attention of the decoder: scores and their sums of values in half precision."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(
        self,
        attn: AceStepAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """hidden_states, encoder_hidden_states [batch, length, width], attention_mask added to the scores."""
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        heads = {"query": attn.to_q(hidden_states), "key": attn.to_k(states), "value": attn.to_v(states)}
        query, key, value = (x.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2) for x in heads.values())
        query, key = attn.norm_q(query), attn.norm_k(key)
        if image_rotary_emb is not None:
            query, key = (apply_rotary_emb(x, image_rotary_emb, use_real_unbind_dim=-2) for x in (query, key))
        # The attention of values is never larger than they are.
        scale = scale_into_range(value) if self.dtype == torch.float16 else 1.0
        mixed = F.scaled_dot_product_attention(
            query.to(self.dtype),
            key.to(self.dtype),
            (value / scale).to(self.dtype),
            attn_mask=None if attention_mask is None else attention_mask == 0,
            scale=attn.scaling,
            enable_gqa=True,
        )
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2).float() * scale)


def to_half(model: torch.nn.Module, dtype: torch.dtype, attention: bool = False) -> None:
    """The matmuls of a loaded float32 model are computed in the dtype from here on, and its matrices kept in it.

    attention: in the dtype too, where it is diffusers'. An encoder runs once and has masks of a whole row.
    """
    for module in list(model.modules()):
        if attention and isinstance(module, AceStepAttention):
            module.set_processor(HalfAttention(dtype))
        for name, child in module.named_children():
            if type(child) is torch.nn.Linear:
                setattr(module, name, HalfLinear(child, dtype))
            elif type(child) is torch.nn.Embedding:
                setattr(module, name, HalfEmbedding(child, dtype).requires_grad_(False))
