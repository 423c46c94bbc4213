"""The fast decoder: the reference decoder's weights (dit_model), without the work that every step would repeat.

`dit_run` computes once what all steps of a run share. Besides that: cond and uncond are computed once up to the
first cross-attention, from there on as one batch, and only cond attends to the encoder states; sliding-window layers
score the keys of their window alone; the patch convs are matmuls.
"""

from typing import cast

import mlx.core as mx

from acestep.models.mlx.attention import KeysAndValues, attend
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder, MLXDiTLayer
from acestep.models.mlx.dit_run import PreparedRun, prepare
from acestep.models.mlx.linear import project
from acestep.models.mlx.rope import Rotary


class MLXFastDecoder:
    """Evaluates a loaded MLXDiTDecoder; takes the same call and shares its weights."""

    def __init__(self, reference: MLXDiTDecoder) -> None:
        self.reference = reference
        self.config = reference.config
        width, patch = reference.config.hidden_size, reference.config.patch_size
        # A conv whose stride is its kernel size is a matmul; on the CPU mlx has only a slow loop for such a conv.
        self._into_patches = reference.proj_in.weight.reshape(width, -1).T
        self._out_of_patches = reference.proj_out.weight.swapaxes(0, 1).reshape(-1, width).T
        self._out_bias = mx.tile(reference.proj_out.bias, patch)
        mx.eval(self._into_patches, self._out_of_patches, self._out_bias)

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
        """One evaluation, as MLXDiTDecoder's, which itself answers without a run or at a t that is not the run's."""
        row = None
        if cache is not None and use_cache and cache.timesteps:
            if cache.prepared is None:
                cache.prepared = prepare(self.reference, cache, hidden_states, encoder_hidden_states)
            run: PreparedRun = cache.prepared
            row = run.rows.get(cast(float, timestep[0].item()))
        if row is None:
            return self.reference(
                hidden_states, timestep, timestep_r, encoder_hidden_states, context_latents, cache, use_cache
            )
        items = len(hidden_states) // (1 if run.uncond is None else 2)
        x = self._patchify(context_latents[:items], hidden_states[:items])
        velocity = self._velocity(run, run.embeddings[row, None], run.modulations[row, None], x)
        return velocity[:, : hidden_states.shape[1]], cache

    def _velocity(self, run: PreparedRun, embedding: mx.array, modulation: mx.array, x: mx.array) -> mx.array:
        """x [items, patches, width] -> the velocity [batch, frames, channels], of cond and then of uncond."""
        items, layers = len(x), self.reference.layers
        # cond and uncond are equal until the first cross-attention.
        x = self._self_attention(layers[0], x, modulation, run.rotary)
        if run.uncond is not None:
            x = mx.concatenate([x, x])
        for index, layer in enumerate(layers):
            if index > 0:
                x = self._self_attention(layer, x, modulation, run.rotary)
            branches = [self._cross_attention(layer, x[:items], run.encoder[index])]
            if run.uncond is not None:
                branches.append(x[items:] + run.uncond[index])
            # One matmul for both branches reads the weights once.
            x = layer.feed_forward(mx.concatenate(branches), *layer.modulated(modulation)[3:])
        return self._unpatchify(x, embedding)

    def _patchify(self, context_latents: mx.array, hidden_states: mx.array) -> mx.array:
        """[items, frames, channels] of both -> [items, patches, width]; an odd end is filled with zeros."""
        patch = self.config.patch_size
        frames = mx.concatenate([context_latents, hidden_states], axis=-1)
        frames = mx.pad(frames, [(0, 0), (0, -frames.shape[1] % patch), (0, 0)])
        return (
            frames.reshape(len(frames), -1, patch * frames.shape[2]) @ self._into_patches
            + self.reference.proj_in.bias
        )

    def _self_attention(
        self, layer: MLXDiTLayer, x: mx.array, modulation: mx.array, rotary: Rotary
    ) -> mx.array:
        """The self-attention of a layer, added to x."""
        shift, scale, gate, *_ = layer.modulated(modulation)
        inputs = layer.queries_keys_values(x, shift, scale, rotary)
        mixed = attend(*inputs, window=self.config.sliding_window if layer.is_sliding else None)
        return x + gate * project(layer.self_attn.o_proj, mixed)

    def _cross_attention(self, layer: MLXDiTLayer, x: mx.array, encoder: KeysAndValues) -> mx.array:
        """The cross-attention of a layer, added to x."""
        queries = layer.cross_attn.queries(layer.cross_attn_norm(x))
        return x + project(layer.cross_attn.o_proj, attend(queries, encoder))

    def _unpatchify(self, x: mx.array, embedding: mx.array) -> mx.array:
        """[items, patches, width] -> [items, frames, channels]"""
        shift, scale = mx.split(self.reference.scale_shift_table + embedding[:, None], 2, axis=1)
        x = self.reference.norm_out(x) * (1 + scale) + shift
        frames = x @ self._out_of_patches + self._out_bias
        return frames.reshape(len(x), -1, self.config.audio_acoustic_hidden_dim)
