"""The context audio: read, checked, converted to 48 kHz stereo."""

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from acestep.constants import MAX_CONTEXT_SECONDS, MIN_CONTEXT_SECONDS, SAMPLE_RATE
from acestep.errors import AudioError

GIVE = "give a WAV, FLAC, OGG or MP3 file"
MIN_RATE, MAX_RATE = 4_000, 768_000
UNKNOWN_LENGTH = 2**62  # libsndfile's number of frames is above this where the file does not say
BLOCK = 2**20  # frames
SILENCE_PEAK = 1e-4  # -80 dBFS: below the noise floor of anything that was recorded or rendered on purpose


class _StreamedFile(soundfile.SoundFile):
    """Read from beginning to end. Otherwise soundfile seeks after each block and fails where the length is unknown."""

    def seekable(self) -> bool:
        return False


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """Samples [samples, channels] as float32 and their rate; AudioError says why a file cannot be used.

    A file that is too long is refused by its header; where that does not say, reading ends at the longest possible.
    """
    check_file(path)
    try:
        with _StreamedFile(os.fsencode(path)) as file:  # a path may hold bytes that are not UTF-8
            check_header(file.frames, file.samplerate, file.channels, path)
            return read_samples(file, path), file.samplerate
    except (soundfile.SoundFileError, OSError, ValueError, TypeError, MemoryError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".") or type(error).__name__
        raise AudioError(f"context audio {path} cannot be read as audio ({reason}); {GIVE}") from None


def check_file(path: Path) -> None:
    """AudioError for what no audio can be read from; a pipe or device is not opened, which might wait for ever."""
    if not os.path.exists(path):  # unlike Path.exists it raises nothing for a name that is too long
        raise AudioError(f"context audio {path} does not exist; {GIVE}")
    if not path.is_file():
        raise AudioError(f"context audio {path} is not a file; {GIVE}")
    if path.stat().st_size == 0:
        raise AudioError(f"context audio {path} is empty (0 bytes); {GIVE}")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"context audio {path} has no header with its rate and channels; {GIVE}")


def check_header(frames: int, rate: int, channels: int, path: Path) -> None:
    """AudioError for the number of channels, the sample rate or the length, before a sample is read."""
    if channels > 2:
        raise AudioError(f"context audio {path} has {channels} channels; mix it down to stereo or mono first")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(
            f"context audio {path} has {rate} samples a second, {MIN_RATE} to {MAX_RATE} are possible; "
            f"export it at {SAMPLE_RATE}"
        )
    if MAX_CONTEXT_SECONDS * rate < frames < UNKNOWN_LENGTH:
        raise _too_long(path, f"{frames / rate:.0f} s")


def read_samples(file: soundfile.SoundFile, path: Path) -> np.ndarray:
    """All samples, block by block until there are none: a header may promise more than there is, or say nothing."""
    blocks, count = [], 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
        count += len(block)
        if count > MAX_CONTEXT_SECONDS * file.samplerate:
            raise _too_long(path, f"more than {MAX_CONTEXT_SECONDS} s")
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), dtype=np.float32)


def _too_long(path: Path, length: str) -> AudioError:
    return AudioError(
        f"context audio {path} lasts {length}, at most {MAX_CONTEXT_SECONDS} s is possible; give a part"
    )


def check_audio(samples: np.ndarray, rate: int, path: Path) -> None:
    """AudioError for a context that is too short, holds NaN or is silent throughout."""
    seconds = len(samples) / rate
    if seconds < MIN_CONTEXT_SECONDS:
        digits = 2 if seconds < MIN_CONTEXT_SECONDS - 0.005 else 7  # enough to show that it is less
        raise AudioError(
            f"context audio {path} lasts {seconds:.{digits}f} s, at least {MIN_CONTEXT_SECONDS} s is needed; "
            f"give a longer one"
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

    def process_target_audio(self, audio_file: str | Path) -> np.ndarray:
        """float32 [2, samples] at 48 kHz; mono is doubled, peaks beyond full scale are clamped as upstream does."""
        path = Path(os.path.expanduser(audio_file))
        samples, rate = read_audio(path)
        check_audio(samples, rate, path)
        if rate != SAMPLE_RATE:
            samples = soxr.resample(samples, rate, SAMPLE_RATE)
        stereo = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
        return np.clip(np.ascontiguousarray(stereo.T), -1.0, 1.0)
