"""The parts of a checkpoint as the handler calls them, on MLX: numpy in, numpy out.

Each is given a function that returns its model, which may have to be loaded first.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np

from acestep.errors import BackendError
from acestep.models.encoding_cache import (
    CONTEXTS_KEPT,
    PROMPTS_KEPT,
    TIMBRES_KEPT,
    EncodingCache,
    content_key,
)
from acestep.models.mlx.condition_encoder import MLXConditionEncoder
from acestep.models.mlx.dit_generate import draw_noise
from acestep.models.mlx.text_encoder import MLXTextEncoder
from acestep.models.mlx.vae_model import MLXAutoencoderOobleck
from acestep.models.parts import context_latents

# The posterior's draw from a seed: beyond the steps of any run, whose noise is drawn from the same seed.
POSTERIOR_DRAW = 2**31


class MLXAudioVAE:
    """`parts.AudioVAE` on MLX."""

    def __init__(self, load: Callable[[], MLXAutoencoderOobleck]) -> None:
        self._load = load
        self._posteriors: EncodingCache[tuple[mx.array, mx.array]] = EncodingCache(CONTEXTS_KEPT)

    @property
    def vae(self) -> MLXAutoencoderOobleck:
        """The model."""
        return self._load()

    @property
    def frames_behind(self) -> int:
        """See `parts.AudioVAE`."""
        return self.vae.frames_behind

    def _encode(self, audio: np.ndarray) -> tuple[mx.array, mx.array]:
        """Mean and standard deviation, [1, frames, 64] each, computed: another thread may use them."""
        mean, std = self.vae.encode(mx.array(audio.T[None]))
        mx.eval(mean, std)
        return mean, std

    def sample_latents(self, audio: np.ndarray, seeds: list[int]) -> np.ndarray:
        """[2, samples], whole frames -> [batch, frames, 64]; a seed gives the same latents alone and in a batch.

        The same audio is encoded once, whatever the seeds.
        """
        mean, std = self._posteriors.get(content_key(audio), lambda: self._encode(audio))
        return np.array(mean + std * draw_noise(seeds, (len(seeds), *mean.shape[1:]), POSTERIOR_DRAW))

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """[batch, frames, 64] -> [batch, 2, samples]"""
        return np.array(self.vae.decode(mx.array(latents)).swapaxes(1, 2))


class MLXTextStates:
    """`parts.TextEncoder` on MLX."""

    def __init__(self, load: Callable[[], MLXTextEncoder]) -> None:
        self._load = load
        self._states: EncodingCache[np.ndarray] = EncodingCache(PROMPTS_KEPT)

    @property
    def encoder(self) -> MLXTextEncoder:
        """The model."""
        return self._load()

    def encode(self, tokens: list[int]) -> np.ndarray:
        """The last layer's states, [1, tokens, text width]; the same tokens are encoded once."""
        return self._states.get(tuple(tokens), lambda: np.array(self.encoder(mx.array([tokens]))))

    def embed(self, tokens: list[int]) -> np.ndarray:
        """The embeddings alone, [1, tokens, text width]."""
        return np.array(self.encoder.embed(mx.array([tokens])))


class MLXConditionModel:
    """`parts.ConditionModel` on MLX."""

    def __init__(self, load: Callable[[], MLXConditionEncoder], silence_latent: np.ndarray) -> None:
        self._load = load
        self.null_condition_emb = np.array(load().null_condition_emb)
        self.silence_latent = silence_latent
        self._timbres: EncodingCache[np.ndarray] = EncodingCache(TIMBRES_KEPT)

    @property
    def encoder(self) -> MLXConditionEncoder:
        """The model."""
        return self._load()

    def prepare_condition(
        self,
        *,
        text_hidden_states: np.ndarray,
        text_attention_mask: np.ndarray,
        lyric_hidden_states: np.ndarray,
        lyric_attention_mask: np.ndarray,
        refer_audio_acoustic_hidden_states_packed: np.ndarray,
        refer_audio_order_mask: np.ndarray,
        src_latents: np.ndarray,
        chunk_masks: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encoder states [batch, encoder length, encoder width], their mask, context latents [batch, frames, 128].

        refer_audio_order_mask: one reference for each item, in order; upstream's callers pass it. The same reference is
        encoded once.
        """
        reference = refer_audio_acoustic_hidden_states_packed
        timbre = self._timbres.get(
            content_key(reference), lambda: np.array(self.encoder.encode_timbre(mx.array(reference)))
        )
        states, mask = self.encoder(
            mx.array(text_hidden_states),
            mx.array(text_attention_mask),
            mx.array(lyric_hidden_states),
            mx.array(lyric_attention_mask),
            mx.array(timbre),
        )
        return context_latents(np.array(states), np.array(mask), src_latents, chunk_masks)

    def generate_audio(self, **_: Any) -> dict[str, Any]:
        """BackendError: the loop on MLX is the handler's."""
        raise BackendError("the PyTorch decoder is not loaded; initialize the service with use_mlx_dit=False")
