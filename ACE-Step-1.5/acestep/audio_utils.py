"""Writing stems."""

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from acestep.errors import OutputError

# What `audio_format` may be: the suffix, libsndfile's name of the file type and how the samples are stored.
AUDIO_FORMATS = {
    "wav": ("wav", "WAV", "PCM_16"),
    "wav32": ("wav", "WAV", "FLOAT"),
    "flac": ("flac", "FLAC", "PCM_24"),
    "mp3": ("mp3", "MP3", "MPEG_LAYER_III"),
    "opus": ("opus", "OGG", "OPUS"),
}
MP3_BITRATES = ("128k", "192k", "256k", "320k")
MP3_SAMPLE_RATES = (48000, 44100)
# libsndfile's compression level is 0 for the highest constant bitrate of MP3 and 1 for the lowest.
HIGHEST_MP3_KBPS, LOWEST_MP3_KBPS = 320, 32


def save_audio(
    samples: np.ndarray,
    rate: int,
    folder: Path,
    name: str,
    audio_format: str,
    mp3_bitrate: str = "128k",
    mp3_sample_rate: int = 48000,
) -> Path:
    """Writes [channels, samples] whole or not at all: under another name first, then moved into place."""
    suffix, file_type, subtype = AUDIO_FORMATS[audio_format]
    path = folder / f"{name}.{suffix}"
    unfinished = folder / f".{name}.{uuid.uuid4().hex}.part"
    frames, options = samples.T, {}
    if audio_format == "mp3":
        options = mp3_options(mp3_bitrate)
        if rate != mp3_sample_rate:
            frames, rate = soxr.resample(frames, rate, mp3_sample_rate), mp3_sample_rate
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # a path may hold bytes that are not UTF-8
            soundfile.write(
                os.fsencode(unfinished), frames, rate, subtype=subtype, format=file_type, **options
            )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"the stem cannot be written below {folder} ({reason}); give a folder that can be written to"
        ) from None
    return path


def mp3_options(bitrate: str) -> dict[str, Any]:
    """libsndfile's options for a constant bitrate, one of MP3_BITRATES."""
    kbps = int(bitrate.removesuffix("k"))
    level = (HIGHEST_MP3_KBPS - kbps) / (HIGHEST_MP3_KBPS - LOWEST_MP3_KBPS)
    return {"bitrate_mode": "CONSTANT", "compression_level": level}
