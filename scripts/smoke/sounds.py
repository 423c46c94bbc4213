"""The sounds of a report: encoded to be embedded, pictured to be seen beside each other."""

import base64
import io
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.pictures import power_picture, spectrogram_webp
from smoke.report import read_wav

BLOCK = 10 * SAMPLE_RATE  # samples handed over at once: libsndfile's encoders keep a whole block on the stack
ROUND_TIMES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)  # seconds
MOST_LABELS = 6
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.5}


@dataclass(frozen=True)
class Sound:
    """A sound as a page can hold it. audio and picture: data addresses; times: labels with their place in %."""

    name: str
    seconds: float
    audio: str
    picture: str
    times: list[tuple[str, float]]


def sounds_of(context: np.ndarray, folder: Path, at: Callable[[int], None] = lambda _: None) -> list[Sound]:
    """The context [samples, 2] at 48 kHz, then the WAV files of a folder, the mix last; pictured on one scale."""
    files = sorted(folder.glob("*.wav"), key=in_order)
    sources: dict[str, np.ndarray | Path] = {"context": context, **{path.name: path for path in files}}
    with (
        ThreadPoolExecutor() as threads
    ):  # a long sound is encoded for seconds, most of them outside of Python
        analysed = []
        for found in threads.map(analyse, sources.values()):
            analysed.append(found)
            at(len(analysed))
    loudest = max(float(power.max()) for _, _, power in analysed)
    return [
        Sound(
            name,
            seconds,
            data_address("audio/mpeg", mp3),
            data_address("image/webp", spectrogram_webp(power, loudest)),
            time_labels(seconds),
        )
        for name, (seconds, mp3, power) in zip(sources, analysed, strict=True)
    ]


def in_order(path: Path) -> tuple[bool, list[tuple[bool, int, str]]]:
    """Stems before mixes; numbers in names by their value, the mix without one last."""
    pieces = re.split(r"(\d+)", path.stem if path.stem != "mix" else f"mix-{10**9}")
    numbered = [(piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in pieces]
    return path.stem.startswith("mix"), numbered


def analyse(source: np.ndarray | Path) -> tuple[float, bytes, np.ndarray]:
    """Seconds, MP3 and power of samples [n, 2] at 48 kHz, or of a file of such."""
    samples = read_wav(source) if isinstance(source, Path) else source
    return len(samples) / SAMPLE_RATE, encoded(samples), power_picture(samples, SAMPLE_RATE)


def encoded(samples: np.ndarray) -> bytes:
    """MP3 at about 120 kbit/s."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, samples.shape[1], **MP3) as writer:
        for start in range(0, len(samples), BLOCK):
            writer.write(np.clip(samples[start : start + BLOCK], -1, 1))
    return file.getvalue()


def data_address(kind: str, content: bytes) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def time_labels(seconds: float) -> list[tuple[str, float]]:
    """Round times and where they are in a picture, but for the end: a label there would stick out."""
    step = next((step for step in ROUND_TIMES if seconds / step <= MOST_LABELS), seconds)
    ticks = np.arange(0, 0.97 * seconds, step)
    return [(words.clock(tick), float(100 * tick / seconds)) for tick in ticks]
