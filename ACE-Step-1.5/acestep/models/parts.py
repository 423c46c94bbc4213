"""What the handler asks of a loaded checkpoint, whichever backend computes it. Arrays are numpy's, float32."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class AudioVAE(Protocol):
    """The context audio to latents, and latents to audio."""

    @property
    def frames_behind(self) -> int:
        """Latent frames behind a stem that its last samples may depend on."""
        ...

    def sample_latents(self, audio: np.ndarray, seeds: list[int]) -> np.ndarray:
        """[2, samples], whole frames -> [batch, frames, 64], the posterior sampled with each seed."""
        ...

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """[batch, frames, 64] -> [batch, 2, samples]"""
        ...


class TextEncoder(Protocol):
    """Token ids to states, [1, tokens, text width] each."""

    def encode(self, tokens: list[int]) -> np.ndarray:
        """The last layer's states."""
        ...

    def embed(self, tokens: list[int]) -> np.ndarray:
        """The embeddings alone."""
        ...


class ConditionModel(Protocol):
    """The condition encoder; on the torch backend the decoder too."""

    @property
    def null_condition_emb(self) -> np.ndarray:
        """The condition of uncond, [1, 1, encoder width]."""
        ...

    @property
    def silence_latent(self) -> np.ndarray:
        """The latents of silence, [1, 750 or more, 64]."""
        ...

    def prepare_condition(self, *args: Any, **conditions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encoder states [batch, encoder length, encoder width], their mask, context latents [batch, frames, 128]."""
        ...

    def generate_audio(self, *args: Any, **request: Any) -> dict[str, Any]:
        """The whole run; BackendError on MLX, where the handler runs the loop."""
        ...


@dataclass(frozen=True)
class Parts:
    """A checkpoint on one backend; mlx_decoder is None on the torch backend, whose model holds the decoder."""

    model: ConditionModel
    vae: AudioVAE
    text_encoder: TextEncoder
    tokenizer: Any
    mlx_decoder: Any = None


def context_latents(
    states: np.ndarray, mask: np.ndarray, src_latents: np.ndarray, chunk_masks: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `prepare_condition` returns: the states of one item serve a batch, which differs in its latents alone."""
    batch = len(src_latents)
    if len(states) == 1:
        states, mask = np.repeat(states, batch, axis=0), np.repeat(mask, batch, axis=0)
    return states, mask, np.concatenate([src_latents, chunk_masks], axis=-1, dtype=np.float32)
