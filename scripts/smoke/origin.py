"""Where a stem came from: its noise from the seed, its samples from the run's final latents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from acestep.constants import SAMPLES_PER_FRAME
from smoke.request import Request
from smoke.run import Run

WINDOW = 8  # latent frames that are decoded and compared
# Of the VAE's decoder (Oobleck): what its first and last convolution and the residual units after each upsampling see.
KERNEL_REACH, UNITS_REACH = 3, 3 * (1 + 3 + 9)


def noise_distance(request: Request, run: Run) -> float | None:
    """Largest |difference| of the run's noise to that of its seed; None where that is not known, on PyTorch's GPUs."""
    noise = run.tensors["noise"]
    if request.backend == "mlx":
        from acestep.models.mlx.dit_generate import draw_noise

        expected = np.array(draw_noise(request.seed, noise.shape))
    elif run.device == "cpu":
        expected = torch.randn(noise.shape, generator=torch.Generator().manual_seed(request.seed)).numpy()
    else:
        return None
    return float(np.abs(noise - expected).max())


def load_vae(checkpoint: Path) -> Any:
    """The checkpoint's VAE in PyTorch, float32 on the CPU."""
    from acestep.models.checkpoint.config import read_config
    from acestep.models.checkpoint.layout import find_layout
    from acestep.models.pytorch.loading import load_vae

    return load_vae(find_layout(checkpoint).vae, read_config(checkpoint))


@torch.inference_mode()
def decoded_distance(vae: Any, run: Run, wav: Path) -> float:
    """Relative L2 of the stem's loudest frames to the final latents decoded there, whatever the gain between them.

    Without what is the same in every frame.
    """
    with wav.open("rb") as file:
        stem, _ = soundfile.read(file, dtype="float32", always_2d=True)
    latents = run.to_torch("target_latents")
    frames = min(latents.shape[1], len(stem) // SAMPLES_PER_FRAME)
    if not frames:
        return float("inf")
    energy = np.square(stem[: frames * SAMPLES_PER_FRAME]).reshape(frames, -1).sum(axis=1)
    width = min(WINDOW, frames)
    first = int(np.convolve(energy, np.ones(width), mode="valid").argmax())
    margin = reach_of_decoder(vae.config.downsampling_ratios)
    start = max(0, first - margin)
    part = latents[:, start : first + width + margin].transpose(1, 2).to(vae.dtype)
    offset = (first - start) * SAMPLES_PER_FRAME
    decoded = vae.decode(part).sample[0].float().numpy().T[offset : offset + width * SAMPLES_PER_FRAME]
    heard = stem[first * SAMPLES_PER_FRAME :][: len(decoded)]
    if not heard.any():
        return 0.0  # silence, which has a check of its own
    heard, decoded = without_repetition(heard), without_repetition(decoded)
    return float(np.linalg.norm(without(decoded, heard))) / max(float(np.linalg.norm(heard)), 1e-30)


def reach_of_decoder(ratios: Sequence[int]) -> int:
    """Latent frames to either side of a frame that its samples depend on; ratios: as in the VAE's config.json."""
    reach = KERNEL_REACH
    for ratio in ratios:  # from the samples back to the latents
        reach = (
            -(-(reach + UNITS_REACH) // ratio) + 1
        )  # a transposed convolution reaches one position further
    return reach + KERNEL_REACH


def without_repetition(signal: np.ndarray) -> np.ndarray:
    """float64 [frames, samples of a frame] without what is the same in every frame.

    The VAE adds it to any latents: it tells nothing of these, and is most of what random weights give.
    """
    frames = signal.astype(np.float64).reshape(-1, SAMPLES_PER_FRAME * signal.shape[1])
    return frames - frames.mean(axis=0) if len(frames) > 1 else frames


def without(component: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """The part of a signal that is orthogonal to the component."""
    share = (signal * component).sum() / max(np.square(component).sum(), 1e-30)
    return signal - share * component
