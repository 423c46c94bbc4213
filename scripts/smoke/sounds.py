"""The sounds of a report: the WAV files of a run's folder, pictured to be seen beside each other."""

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.pictures import power_picture, spectrogram_webp
from smoke.report import read_wav

ROUND_TIMES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120)  # seconds
MOST_LABELS = 6


@dataclass(frozen=True)
class Sound:
    """A file as a page shows it. title: what it is; picture: a data address; times: labels with their place in %."""

    name: str
    title: str
    seconds: float
    picture: str
    times: list[tuple[str, float]]


def sounds_of(
    titles: Mapping[str, str], folder: Path, at: Callable[[int], None] = lambda _: None
) -> list[Sound]:
    """The WAV files of a folder in the order of `titles`, which go by their names; pictured on one scale."""
    with ThreadPoolExecutor() as threads:
        analysed = []
        for found in threads.map(analyse, [folder / name for name in titles]):
            analysed.append(found)
            at(len(analysed))
    loudest = max(float(power.max()) for _, power in analysed)
    return [
        Sound(
            name,
            title,
            seconds,
            data_address("image/webp", spectrogram_webp(power, loudest)),
            time_labels(seconds),
        )
        for (name, title), (seconds, power) in zip(titles.items(), analysed, strict=True)
    ]


def analyse(path: Path) -> tuple[float, np.ndarray]:
    """Seconds and power of a WAV file at 48 kHz."""
    samples = read_wav(path)
    return len(samples) / SAMPLE_RATE, power_picture(samples, SAMPLE_RATE)


def data_address(kind: str, content: bytes) -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def time_labels(seconds: float) -> list[tuple[str, float]]:
    """Round times and where they are in a picture, but for the end: a label there would stick out."""
    step = next((step for step in ROUND_TIMES if seconds / step <= MOST_LABELS), seconds)
    ticks = np.arange(0, 0.97 * seconds, step)
    return [(words.clock(tick), float(100 * tick / seconds)) for tick in ticks]
