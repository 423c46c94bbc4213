"""The context audio as latents, and which frames of them are to be generated."""

import math

import numpy as np

from acestep.constants import LATENT_FRAMES_PER_SECOND, MIN_LATENT_FRAMES, SAMPLES_PER_FRAME
from acestep.errors import RequestError
from acestep.models.parts import AudioVAE, ConditionModel


class ConditioningTargetMixin:
    """Source latents and chunk mask, which make up the context latents."""

    vae: AudioVAE
    model: ConditionModel

    def _encode_audio_to_latents(self, audio: np.ndarray, seeds: list[int]) -> np.ndarray:
        """[2, samples] -> source latents [batch, frames, 64], at least 128 frames, padded with silence latents.

        The VAE gives a distribution; it is sampled with each item's seed, so that a run can be repeated, alone or
        in a batch.
        """
        padded = np.pad(audio, [(0, 0), (0, -audio.shape[-1] % SAMPLES_PER_FRAME)])
        latents = self.vae.sample_latents(padded, seeds)
        missing = max(0, MIN_LATENT_FRAMES - latents.shape[1])
        silence = np.repeat(self.model.silence_latent[:, :missing], len(seeds), axis=0)
        return np.concatenate([latents, silence], axis=1)

    def _build_chunk_mask(self, frames: int, channels: int, start: float, end: float) -> np.ndarray:
        """[frames, channels] of 1 from `start` to `end` seconds, where the stem is generated; end <= 0: to the end."""
        first = frame_at(start)
        last = frame_at(end) if end > 0 else frames
        mask = np.zeros((frames, channels), dtype=np.float32)
        mask[first : max(last, first + 1)] = 1.0
        return mask


def frame_at(seconds: float) -> int:
    """The latent frame that a time falls into; 2.32 s is the beginning of frame 58, though 2.32 * 25 < 58 in binary."""
    return math.floor(round(seconds * LATENT_FRAMES_PER_SECOND, 6))


def check_range(start: float, end: float, seconds: float) -> None:
    """RequestError for a range that is not within the context."""
    stop = end if end > 0 else seconds
    if not 0 <= start < stop <= seconds + 0.5 / LATENT_FRAMES_PER_SECOND:
        raise RequestError(
            f"the range from {start:g} s to {stop:g} s is not within the context, which lasts {seconds:.2f} s; "
            f"give repainting_start below repainting_end, both within it"
        )
