"""Decoded audio to finished stems: normalised and saved."""

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.audio_utils import save_audio
from acestep.errors import OutputError

if TYPE_CHECKING:  # inference imports this module
    from acestep.inference import GenerationConfig, GenerationParams


def normalization_gain(params: "GenerationParams", peak: float) -> float:
    """The factor that brings a stem's peak to normalization_db; 1 where that is off."""
    if not params.enable_normalization or peak == 0:
        return 1.0
    return float(10 ** (params.normalization_db / 20) / peak)


def finish_stems(
    outputs: dict[str, Any],
    seeds: list[int],
    params: "GenerationParams",
    config: "GenerationConfig",
    save_dir: Path | None,
) -> tuple[list[dict[str, Any]], OutputError | None]:
    """Normalises and saves; `GenerationResult` says what a stem's dict holds. A stem that cannot be saved is kept."""
    stems, failure = [], None
    for audio, levels, seed in zip(outputs["audios"], outputs["levels"], seeds, strict=True):
        key, rate = uuid.uuid4().hex, outputs["sample_rate"]
        gain = normalization_gain(params, audio.abs().max().item())
        tensor, path = audio * gain, None
        if save_dir is not None:
            mp3 = (config.mp3_bitrate, int(config.mp3_sample_rate))
            try:
                path = str(save_audio(tensor.numpy(), rate, save_dir, key, config.audio_format, *mp3))
            except OutputError as error:
                failure = error
        stems.append(
            {
                "key": key,
                "tensor": tensor,
                "sample_rate": rate,
                "seed": seed,
                "path": path,
                "peak": levels.peak,
                "rms": levels.rms,
                "clipped": levels.clipped,
                "gain": gain / max(1.0, levels.peak),
                "params": {**params.to_dict(), "seed": seed},
            }
        )
    return stems, failure
