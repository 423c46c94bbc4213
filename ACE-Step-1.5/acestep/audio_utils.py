"""Writing stems."""

import uuid
from pathlib import Path

import numpy as np
import soundfile

from acestep.errors import OutputError

# What `audio_format` may be: the file type and how its samples are stored.
AUDIO_FORMATS = {"wav": ("wav", "PCM_16"), "wav32": ("wav", "FLOAT"), "flac": ("flac", "PCM_24")}


def save_audio(samples: np.ndarray, rate: int, folder: Path, name: str, audio_format: str) -> Path:
    """Writes [channels, samples] whole or not at all: under another name first, then moved into place."""
    extension, subtype = AUDIO_FORMATS[audio_format]
    path = folder / f"{name}.{extension}"
    unfinished = folder / f".{name}.{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            soundfile.write(unfinished, samples.T, rate, subtype=subtype, format=extension.upper())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"the stem cannot be written below {folder} ({reason}); give a folder that can be written to"
        ) from None
    return path
