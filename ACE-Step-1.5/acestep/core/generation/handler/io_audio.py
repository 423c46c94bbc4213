"""The context audio: read, judged, brought to 48 kHz stereo."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch

from acestep.constants import MAX_CONTEXT_SECONDS, MIN_CONTEXT_SECONDS, SAMPLE_RATE
from acestep.errors import AudioError

SILENCE_PEAK = 1e-4  # -80 dBFS: below the noise floor of anything that was recorded or rendered on purpose


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """Samples [samples, channels] as float32 and their rate; AudioError says why a file cannot serve."""
    if not path.exists():
        raise AudioError(f"context audio {path} does not exist; give a WAV, FLAC, OGG or MP3 file")
    if not path.is_file():
        raise AudioError(f"context audio {path} is not a file; give a WAV, FLAC, OGG or MP3 file")
    if path.stat().st_size == 0:
        raise AudioError(f"context audio {path} is empty (0 bytes); give a WAV, FLAC, OGG or MP3 file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(
            f"context audio {path} cannot be read as audio ({reason}); give a WAV, FLAC, OGG or MP3 file"
        ) from None
    return samples, rate


def check_audio(samples: np.ndarray, rate: int, path: Path) -> None:
    """Refuses what no stem could fit: wrong channels, too short or long, NaN, silent throughout."""
    channels, seconds = samples.shape[1], len(samples) / rate
    if channels > 2:
        raise AudioError(f"context audio {path} has {channels} channels; mix it down to stereo or mono first")
    if seconds < MIN_CONTEXT_SECONDS:
        raise AudioError(
            f"context audio {path} lasts {seconds:.2f} s, at least {MIN_CONTEXT_SECONDS} s is needed; give a longer one"
        )
    if seconds > MAX_CONTEXT_SECONDS:
        raise AudioError(
            f"context audio {path} lasts {seconds:.0f} s, at most {MAX_CONTEXT_SECONDS} s is possible; give a part"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"context audio {path} holds NaN or infinite samples; render or export it again")
    if np.abs(samples).max() < SILENCE_PEAK:
        raise AudioError(
            f"context audio {path} is silent throughout (peak {np.abs(samples).max():.1e}); "
            f"give audio for the stem to fit to"
        )


class IoAudioMixin:
    """Reads context audio."""

    def process_target_audio(self, audio_file: str | Path) -> torch.Tensor:
        """float32 [2, samples] at 48 kHz; mono is doubled, peaks beyond full scale are clamped as upstream does."""
        path = Path(audio_file)
        samples, rate = read_audio(path)
        check_audio(samples, rate, path)
        if rate != SAMPLE_RATE:
            samples = soxr.resample(samples, rate, SAMPLE_RATE)
        stereo = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
        return torch.from_numpy(np.ascontiguousarray(stereo.T)).clamp(-1.0, 1.0)
