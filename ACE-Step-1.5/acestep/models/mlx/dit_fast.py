"""The fast decoder: dit_model's on the same weights, less the work that a run would do in every step again.

`dit_run` prepares what a run fixes. Besides that: the branches of the guidance are one until the first
cross-attention; sliding-window layers look at their window alone; queries go in blocks where their scores would
fill the memory; the patch convolutions are products.
"""

from typing import cast

import mlx.core as mx

from acestep.models.mlx.attention import attend_in_blocks, attend_in_window
from acestep.models.mlx.dit_model import KeysAndValues, MLXCrossAttentionCache, MLXDiTDecoder, MLXDiTLayer
from acestep.models.mlx.dit_run import Heard, PreparedRun, prepare


class MLXFastDecoder:
    """Evaluates a loaded MLXDiTDecoder; takes the same call and shares its weights."""

    def __init__(self, plain: MLXDiTDecoder) -> None:
        self.plain = plain
        self.config = plain.config
        width, patch = plain.config.hidden_size, plain.config.patch_size
        # A convolution that strides by its own width is a product; on the CPU mlx has but a slow loop for it.
        self._into_patches = plain.proj_in.weight.reshape(width, -1).T
        self._out_of_patches = plain.proj_out.weight.swapaxes(0, 1).reshape(-1, width).T
        self._out_bias = mx.tile(plain.proj_out.bias, patch)
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
                cache.prepared = prepare(self.plain, cache, hidden_states, encoder_hidden_states)
            run: PreparedRun = cache.prepared
            row = run.rows.get(cast(float, timestep[0].item()))
        if row is None:
            return self.plain(
                hidden_states, timestep, timestep_r, encoder_hidden_states, context_latents, cache, use_cache
            )
        items = len(hidden_states) // len(run.branches)
        x = self._patches(context_latents[:items], hidden_states[:items])
        velocities = self._velocities(run, run.embeddings[row, None], run.modulations[row, None], x)
        return mx.concatenate(velocities)[:, : hidden_states.shape[1]], cache

    def _velocities(
        self, run: PreparedRun, embedding: mx.array, modulation: mx.array, x: mx.array
    ) -> list[mx.array]:
        """x [items, patches, width] -> the velocity [items, frames, channels] of each branch."""
        first, *others = self.plain.layers
        x = self._hear_itself(first, x, modulation, run.rotary)  # the branches have not parted yet
        velocities = []
        for branch in run.branches:
            with branch.computing():
                y = self._hear_encoder(first, x, modulation, branch.heard[0])
                for layer, heard in zip(others, branch.heard[1:], strict=True):
                    y = self._hear_itself(layer, y, modulation, run.rotary)
                    y = self._hear_encoder(layer, y, modulation, heard)
                velocities.append(self._frames(y, embedding))
        return velocities

    def _patches(self, context_latents: mx.array, hidden_states: mx.array) -> mx.array:
        """[items, frames, channels] of both -> [items, patches, width]; an odd end is filled with zeros."""
        patch = self.config.patch_size
        frames = mx.concatenate([context_latents, hidden_states], axis=-1)
        frames = mx.pad(frames, [(0, 0), (0, -frames.shape[1] % patch), (0, 0)])
        return (
            frames.reshape(len(frames), -1, patch * frames.shape[2]) @ self._into_patches
            + self.plain.proj_in.bias
        )

    def _hear_itself(
        self, layer: MLXDiTLayer, x: mx.array, modulation: mx.array, rotary: KeysAndValues
    ) -> mx.array:
        """The self-attention of a layer, added to x."""
        shift, scale, gate, *_ = layer.modulated(modulation)
        inputs, window = layer.rotated(x, shift, scale, rotary), self.config.sliding_window
        mixed = attend_in_window(*inputs, window) if layer.is_sliding else attend_in_blocks(*inputs)
        return x + gate * layer.self_attn.o_proj(mixed)

    def _hear_encoder(self, layer: MLXDiTLayer, x: mx.array, modulation: mx.array, heard: Heard) -> mx.array:
        """The cross-attention of a layer and its feed-forward part, added to x."""
        if isinstance(heard, mx.array):
            x = x + heard
        else:
            queries = layer.cross_attn.queries(layer.cross_attn_norm(x))
            x = x + layer.cross_attn.o_proj(attend_in_blocks(queries, *heard))
        return layer.feed_forward(x, *layer.modulated(modulation)[3:])

    def _frames(self, x: mx.array, embedding: mx.array) -> mx.array:
        """[items, patches, width] -> [items, frames, channels]"""
        shift, scale = mx.split(self.plain.scale_shift_table + embedding[:, None], 2, axis=1)
        x = self.plain.norm_out(x) * (1 + scale) + shift
        frames = x @ self._out_of_patches + self._out_bias
        return frames.reshape(len(x), -1, self.config.audio_acoustic_hidden_dim)
