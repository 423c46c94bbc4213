"""Renders scripts/smoke.wav, the context audio of the smoke run: four chords, a bass and a beat, 6 s.

Rendered rather than recorded, so that it is nobody's and anyone can make the same file again.
"""

from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000
BEAT = 0.375  # seconds, 160 to the minute
BEATS = 16
CHORDS = ((45, 57, 60, 64), (41, 57, 60, 65), (48, 55, 60, 64), (43, 55, 59, 62))  # MIDI notes: Am F C G
SMOKE_WAV = Path(__file__).parent / "smoke.wav"


def tone(note: int, seconds: float, harmonics: int, decay: float) -> np.ndarray:
    """A plucked note: falling harmonics, each fading faster than the one below."""
    t = np.arange(round(seconds * RATE)) / RATE
    frequency = 440.0 * 2.0 ** ((note - 69) / 12)
    waves = [
        np.sin(2 * np.pi * frequency * k * t) * np.exp(-decay * k * t) / k for k in range(1, harmonics + 1)
    ]
    return np.sum(waves, axis=0) * np.minimum(1.0, t / 0.005)


def drum(generator: np.random.Generator, seconds: float, low: bool) -> np.ndarray:
    """A kick, a sine whose pitch falls, or a hat, a short burst of noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    if low:
        return np.sin(2 * np.pi * (50 * t + 6 * (1 - np.exp(-t / 0.03)))) * np.exp(-12 * t)
    return np.diff(generator.standard_normal(len(t) + 1)) * np.exp(-60 * t) * 0.3


def place(track: np.ndarray, sound: np.ndarray, at: float, left: float, right: float) -> None:
    """Adds a mono sound to a stereo track [samples, 2], cut at its end."""
    first = round(at * RATE)
    part = sound[: len(track) - first]
    track[first : first + len(part)] += np.outer(part, (left, right))


def render() -> np.ndarray:
    """[288,000, 2] float64, peak 0.7."""
    track = np.zeros((round(BEAT * BEATS * RATE), 2))
    generator = np.random.default_rng(1)
    for beat in range(BEATS):
        at = beat * BEAT
        bass, *chord = CHORDS[beat // 4]
        place(track, tone(bass - 12, 2 * BEAT, 6, 3.0), at, 0.5, 0.5)
        for voice, note in enumerate(chord):
            pan = (voice + 1) / 4
            place(track, tone(note, 3 * BEAT, 8, 2.0), at + 0.012 * voice, 0.25 * (1 - pan), 0.25 * pan)
        place(track, drum(generator, BEAT, low=beat % 2 == 0), at, 0.6, 0.6)
        place(track, drum(generator, BEAT / 2, low=False), at + BEAT / 2, 0.2, 0.3)
    return track / np.abs(track).max() * 0.7


if __name__ == "__main__":
    soundfile.write(SMOKE_WAV, render(), RATE, subtype="PCM_16")
    print(f"wrote {SMOKE_WAV}")
