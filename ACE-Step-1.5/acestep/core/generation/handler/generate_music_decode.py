"""Latents to audio, judged before anything makes it louder."""

import time
from dataclasses import dataclass

import numpy as np

from acestep.constants import SAMPLES_PER_FRAME
from acestep.errors import BackendError
from acestep.models.parts import AudioVAE


@dataclass(frozen=True)
class Levels:
    """A stem as the VAE gave it, before any gain: peak and root mean square in full scale, share of samples over it."""

    peak: float
    rms: float
    clipped: float


def levels_of(audio: np.ndarray) -> Levels:
    """Of audio [channels, samples]; BackendError where it holds NaN or infinite samples."""
    if not np.isfinite(audio).all():
        raise BackendError(
            "the stem holds NaN or infinite samples: a number left the range of its precision; "
            "load the decoder in float32 or bfloat16, or give a lower guidance_scale"
        )
    return Levels(
        peak=float(np.abs(audio).max()),
        rms=float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))),
        clipped=float(np.mean(np.abs(audio) > 1.0)),
    )


class GenerateMusicDecodeMixin:
    """Decodes stems."""

    vae: AudioVAE

    def _decode_generate_music_pred_latents(
        self, pred_latents: np.ndarray, samples: int
    ) -> tuple[np.ndarray, list[Levels], float]:
        """Latents [batch, frames, 64] -> audio [batch, 2, samples] with no peak above 1, its levels, seconds taken.

        Frames that do not reach the samples are not decoded: most of those that a short context is filled up with.
        """
        start = time.perf_counter()
        frames = -(-samples // SAMPLES_PER_FRAME) + self.vae.frames_behind
        audio = self.vae.decode_latents(pred_latents[:, :frames])[..., :samples]
        levels = [levels_of(stem) for stem in audio]
        peaks = np.array([max(1.0, level.peak) for level in levels], dtype=np.float32)
        return audio / peaks[:, None, None], levels, time.perf_counter() - start
