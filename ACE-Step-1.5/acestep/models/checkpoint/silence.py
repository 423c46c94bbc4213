"""The silence latent of a checkpoint, in either layout."""

from pathlib import Path

import numpy as np

from acestep.constants import LATENT_FRAMES_PER_SECOND, MAX_CONTEXT_SECONDS
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.torch_file import read_torch_tensor
from acestep.models.checkpoint.weights import (
    DIFFUSERS_STEM,
    check_dtypes,
    check_values,
    read_values,
    weight_files,
)

SILENCE = "silence_latent"
MAX_FRAMES = MAX_CONTEXT_SECONDS * LATENT_FRAMES_PER_SECOND


def load_silence_latent(folder: Path, config: ModelConfig) -> np.ndarray:
    """The latents of silence, float32 [1, frames, 64], no more frames than the longest context has.

    Upstream keeps them in a file of their own, as [1, 64, frames]; diffusers among the condition encoder's weights.
    """
    layout = find_layout(folder)
    channels, frames = config.timbre_hidden_dim, config.timbre_fix_frame
    if layout.is_diffusers:
        place, time, expected = (
            f"{layout.condition_encoder}: '{SILENCE}'",
            1,
            f"[1, {frames} or more, {channels}]",
        )
        found = _of_diffusers(layout.condition_encoder)
    else:
        path = folder / f"{SILENCE}.pt"
        place, time, expected = str(path), 2, f"[1, {channels}, {frames} or more]"
        found = read_torch_tensor(path, limit=MAX_FRAMES)
    shape = None if found is None else found.shape
    if (
        found is None
        or found.ndim != 3
        or found.shape[time] < frames
        or found.shape[3 - time] != channels
        or len(found) != 1
    ):
        raise CheckpointError(
            f"{place} holds {shape}, expected a tensor {expected}; copy the checkpoint again"
        )
    check_values(found.shape, [found], place)
    return np.ascontiguousarray(np.moveaxis(found, time, 1)[:, :MAX_FRAMES])


def _of_diffusers(folder: Path) -> np.ndarray | None:
    for path in weight_files(folder, DIFFUSERS_STEM):
        if SILENCE in check_dtypes(path):
            for _, shape, values in read_values(path, [SILENCE]):
                return np.concatenate(list(values)).reshape(shape)
    return None
