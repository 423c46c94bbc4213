"""Latents to audio, judged before anything makes it louder."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from acestep.errors import BackendError


@dataclass(frozen=True)
class Levels:
    """A stem as the VAE gave it, before any gain: peak and root mean square in full scale, share of samples over it."""

    peak: float
    rms: float
    clipped: float


def levels_of(audio: torch.Tensor) -> Levels:
    """Of audio [channels, samples]; BackendError where it holds NaN or infinite samples."""
    if not torch.isfinite(audio).all():
        raise BackendError(
            "the stem holds NaN or infinite samples: a number left the range of its precision; "
            "load the decoder in float32 or bfloat16, or give a lower guidance_scale"
        )
    return Levels(
        peak=audio.abs().max().item(),
        rms=audio.double().square().mean().sqrt().item(),  # float32 squares overflow above 1.8e19
        clipped=(audio.abs() > 1.0).float().mean().item(),
    )


class GenerateMusicDecodeMixin:
    """Decodes stems."""

    vae: Any

    @torch.inference_mode()
    def _decode_generate_music_pred_latents(
        self, pred_latents: torch.Tensor, samples: int
    ) -> tuple[torch.Tensor, list[Levels], float]:
        """Latents [batch, frames, 64] -> audio [batch, 2, samples] with no peak above 1, its levels, seconds taken."""
        start = time.perf_counter()
        decoded = self.vae.decode(pred_latents.transpose(1, 2).to(self.vae.dtype)).sample
        audio = decoded[..., :samples].float().cpu()
        levels = [levels_of(stem) for stem in audio]
        peaks = torch.tensor([max(1.0, level.peak) for level in levels])
        return audio / peaks[:, None, None], levels, time.perf_counter() - start
