"""Decoded audio to finished stems: normalised and saved."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from acestep.audio_utils import save_audio
from acestep.errors import OutputError

if TYPE_CHECKING:  # inference imports this module
    from acestep.inference import GenerationConfig, GenerationParams


def normalization_gain(params: "GenerationParams", peak: float) -> float:
    """The factor that brings a stem's peak to normalization_db; 1 where that is off."""
    if not params.enable_normalization or peak == 0:
        return 1.0
    return float(10 ** (params.normalization_db / 20) / peak)


class Stem(dict[str, Any]):
    """A stem's dict. `tensor`, which upstream's callers read, is made of `audio` when it is read.

    PyTorch is imported only where it is read.
    """

    def __missing__(self, key: str) -> Any:
        if key != "tensor":
            raise KeyError(key)
        import torch

        self["tensor"] = torch.from_numpy(self["audio"])
        return self["tensor"]

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key == "tensor" else super().get(key, default)


def finish_stems(
    outputs: dict[str, Any],
    seeds: list[int],
    params: "GenerationParams",
    config: "GenerationConfig",
    save_dir: Path | None,
) -> tuple[list[dict[str, Any]], OutputError | None]:
    """Normalises and saves; `GenerationResult` says what a stem's dict holds. A stem that cannot be saved is kept."""
    stems: list[dict[str, Any]] = []
    failure = None
    for audio, levels, seed in zip(outputs["audios"], outputs["levels"], seeds, strict=True):
        key, rate = uuid.uuid4().hex, outputs["sample_rate"]
        gain = normalization_gain(params, float(np.abs(audio).max()))
        samples, path = audio * np.float32(gain), None
        if save_dir is not None:
            mp3 = (config.mp3_bitrate, int(config.mp3_sample_rate))
            try:
                path = str(save_audio(samples, rate, save_dir, key, config.audio_format, *mp3))
            except OutputError as error:
                failure = error
        stems.append(
            Stem(
                key=key,
                audio=samples,
                sample_rate=rate,
                seed=seed,
                path=path,
                peak=levels.peak,
                rms=levels.rms,
                clipped=levels.clipped,
                gain=gain / max(1.0, levels.peak),
                params={**params.to_dict(), "seed": seed},
            )
        )
    return stems, failure
