"""Context audio: every usual kind of file is read alike, every useless one is refused with a sentence."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.errors import AudioError
from tests.parity_helper import assert_equal, assert_near

RATE = 48_000
KINDS = "give a WAV, FLAC, OGG or MP3 file"


def read(path: Path | str) -> np.ndarray:
    return IoAudioMixin().process_target_audio(path)


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as refused:
        read(path)
    return str(refused.value)


def write(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def noise(seconds: float, channels: int = 2, level: float = 0.1) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (level * draw.standard_normal((round(seconds * RATE), channels))).astype(np.float32)


class TestKinds:
    """One sound in many files."""

    @pytest.mark.parametrize(
        ("name", "subtype", "bound"),
        [
            pytest.param("context.wav", "PCM_16", 5e-4, id="wav_16"),
            pytest.param("context.wav", "PCM_24", 1e-6, id="wav_24"),
            pytest.param("context.wav", "PCM_32", 1e-7, id="wav_32"),
            pytest.param("context.wav", "FLOAT", 0.0, id="wav_float"),
            pytest.param("context.wav", "DOUBLE", 0.0, id="wav_double"),
            pytest.param("context.wav", "ULAW", 0.05, id="wav_mu_law"),
            pytest.param("context.aiff", "PCM_16", 5e-4, id="aiff"),
            pytest.param("context.flac", "PCM_24", 1e-6, id="flac"),
            pytest.param("context.ogg", "VORBIS", 0.1, id="ogg"),
            pytest.param("context.mp3", "MPEG_LAYER_III", 0.1, id="mp3"),
        ],
    )
    def test_formats(self, make_context: Callable[..., Path], name: str, subtype: str, bound: float) -> None:
        """Lossy ones are near in loudness and shape; MP3 may add a few samples at the ends."""
        want = read(make_context(3.0))
        got = read(make_context(3.0, name, subtype=subtype))
        assert got.dtype == np.float32
        assert abs(got.shape[1] - want.shape[1]) <= (2304 if name.endswith("mp3") else 0)
        length = min(got.shape[1], want.shape[1])
        assert_near(got[:, :length], want[:, :length], l2=bound)

    @pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
    def test_rates(self, make_context: Callable[..., Path], rate: int) -> None:
        """The same tones, so the same samples after resampling, up to the notes' hard beginnings."""
        got, want = read(make_context(3.0, rate=rate)), read(make_context(3.0))
        assert got.shape == want.shape == (2, 3 * RATE)
        assert_near(got, want, l2=0.05)

    def test_mono_is_doubled(self, make_context: Callable[..., Path]) -> None:
        left, right = read(make_context(3.0, channels=1))
        assert_equal(left, right)
        assert_equal(left, read(make_context(3.0))[0])

    def test_channels_stay_apart(self, tmp_path: Path) -> None:
        samples = noise(1.0)
        got = read(write(tmp_path / "stereo.wav", samples))
        assert_equal(got, samples.T)
        assert not np.array_equal(got[0], got[1])

    def test_peaks_beyond_full_scale_are_clamped(self, tmp_path: Path) -> None:
        samples = noise(1.0)
        samples[100], samples[200] = 1.5, -2.0
        got = read(write(tmp_path / "loud.wav", samples))
        assert got[0, 100] == 1.0
        assert got[0, 200] == -1.0
        assert_equal(got[:, 300:], samples[300:].T)

    def test_path_may_be_text(self, make_context: Callable[..., Path]) -> None:
        assert_equal(read(str(make_context(3.0))), read(make_context(3.0)))

    @pytest.mark.parametrize("level", [1.1e-4, 1.0], ids=["quiet", "loud"])
    def test_level_is_kept(self, tmp_path: Path, level: float) -> None:
        samples = np.zeros((RATE, 2), dtype=np.float32)
        samples[7] = level
        assert read(write(tmp_path / "click.wav", samples)).max().item() == pytest.approx(level)

    def test_one_second_is_enough(self, tmp_path: Path) -> None:
        assert read(write(tmp_path / "one.wav", noise(1.0))).shape == (2, RATE)

    def test_four_minutes(self, tmp_path: Path) -> None:
        path = tmp_path / "long.wav"
        write(path, np.tile(noise(1.0), (240, 1)), subtype="PCM_16")
        assert read(path).shape == (2, 240 * RATE)


class TestRefusals:
    """Whole messages."""

    def test_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "none.wav"
        assert refusal(path) == f"context audio {path} does not exist; {KINDS}"

    def test_folder(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == f"context audio {tmp_path} is not a file; {KINDS}"

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.wav"
        path.touch()
        assert refusal(path) == f"context audio {path} is empty (0 bytes); {KINDS}"

    def test_text_named_wav(self, tmp_path: Path) -> None:
        path = tmp_path / "text.wav"
        path.write_text("la la la\n" * 100)
        sentence = refusal(path)
        assert sentence == f"context audio {path} cannot be read as audio (Format not recognised); {KINDS}"

    def test_header_without_samples(self, tmp_path: Path) -> None:
        path = write(tmp_path / "header.wav", noise(0.0))
        assert refusal(path) == (
            f"context audio {path} lasts 0.00 s, at least 1 s is needed; give a longer one"
        )

    def test_too_short(self, tmp_path: Path) -> None:
        path = write(tmp_path / "short.wav", noise(0.05))
        assert refusal(path) == (
            f"context audio {path} lasts 0.05 s, at least 1 s is needed; give a longer one"
        )

    def test_one_sample_too_short(self, tmp_path: Path) -> None:
        path = write(tmp_path / "short.wav", noise(1.0)[:-1])
        assert refusal(path) == (
            f"context audio {path} lasts 0.9999792 s, at least 1 s is needed; give a longer one"
        )

    def test_too_long(self, tmp_path: Path) -> None:
        path = tmp_path / "long.wav"
        soundfile.write(path, np.full((601 * 8000, 1), 0.1, dtype=np.float32), 8000)
        assert refusal(path) == (f"context audio {path} lasts 601 s, at most 600 s is possible; give a part")

    @pytest.mark.parametrize("channels", [3, 8])
    def test_more_than_stereo(self, tmp_path: Path, channels: int) -> None:
        path = write(tmp_path / "many.wav", noise(1.0, channels))
        assert refusal(path) == (
            f"context audio {path} has {channels} channels; mix it down to stereo or mono first"
        )

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "minus_inf"])
    def test_not_a_number(self, tmp_path: Path, value: float) -> None:
        samples = noise(1.0)
        samples[1000, 1] = value
        path = write(tmp_path / "nan.wav", samples)
        assert refusal(path) == (
            f"context audio {path} holds NaN or infinite samples; render or export it again"
        )

    @pytest.mark.parametrize(("level", "shown"), [(0.0, "0.0e+00"), (9e-5, "9.0e-05")], ids=["zero", "faint"])
    def test_silent_throughout(self, tmp_path: Path, level: float, shown: str) -> None:
        path = write(tmp_path / "silent.wav", np.full((RATE, 2), level, dtype=np.float32))
        assert refusal(path) == (
            f"context audio {path} is silent throughout (peak {shown}); give audio for the stem to fit to"
        )

    def test_reader_without_a_text_of_its_own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that goes away between the look and the reading, or may not be read."""
        path = write(tmp_path / "locked.wav", noise(1.0))

        def fail(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(soundfile.SoundFile, "read", fail)
        assert refusal(path) == (
            f"context audio {path} cannot be read as audio ([Errno 13] Permission denied); {KINDS}"
        )


def say_no_length(path: Path) -> Path:
    """What an encoder writes that is piped: a FLAC whose header gives 0 for its total of samples."""
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    return path


class TestBounds:
    """Samples are counted before they are read, and no more are read than can serve."""

    def test_flac_that_does_not_say_its_length(self, tmp_path: Path) -> None:
        path = write(tmp_path / "piped.flac", noise(1.5), subtype="PCM_24")
        want = read(path)
        assert_equal(read(say_no_length(path)), want)

    def test_flac_that_does_not_say_its_length_and_is_too_long(self, tmp_path: Path) -> None:
        samples = np.full((601 * 8000, 1), 0.1, dtype=np.float32)
        path = say_no_length(write(tmp_path / "piped.flac", samples, 8000, "PCM_16"))
        assert refusal(path) == (
            f"context audio {path} lasts more than 600 s, at most 600 s is possible; give a part"
        )

    def test_long_file_is_refused_unread(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """4 GB, most of them not on the disk."""
        path = write(tmp_path / "long.wav", noise(1.0), subtype="PCM_16")
        header = bytearray(path.read_bytes()[:44])
        header[4:8] = header[40:44] = (4_000_000_000).to_bytes(4, "little")
        with path.open("wb") as file:
            file.write(header)
            file.truncate(4_000_000_044)
        monkeypatch.delattr(soundfile.SoundFile, "read")
        assert refusal(path) == (
            f"context audio {path} lasts 20833 s, at most 600 s is possible; give a part"
        )

    def test_header_that_promises_more_than_there_is(self, tmp_path: Path) -> None:
        path = write(tmp_path / "cut.wav", noise(1.5), subtype="PCM_16")
        content = bytearray(path.read_bytes())
        content[40:44] = (4_000_000_000).to_bytes(4, "little")
        path.write_bytes(content)
        assert read(path).shape == (2, 3 * RATE // 2)

    @pytest.mark.parametrize("rate", [3999, 768_001])
    def test_rate_that_no_recording_has(self, tmp_path: Path, rate: int) -> None:
        path = write(tmp_path / "odd.wav", noise(1.0), rate)
        assert refusal(path) == (
            f"context audio {path} has {rate} samples a second, 4000 to 768000 are possible; export it at 48000"
        )


class TestPaths:
    """What is no file is a sentence, at once."""

    def test_home_folder(self, make_context: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
        path = make_context(3.0)
        monkeypatch.setenv("HOME", str(path.parent))
        assert_equal(read(f"~/{path.name}"), read(path))

    def test_device(self) -> None:
        assert refusal(Path("/dev/zero")) == f"context audio /dev/zero is not a file; {KINDS}"

    def test_pipe(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert refusal(tmp_path / "pipe") == f"context audio {tmp_path / 'pipe'} is not a file; {KINDS}"

    @pytest.mark.parametrize("name", ["x" * 5000, "a\0b"], ids=["long", "nul"])
    def test_name_that_no_file_has(self, tmp_path: Path, name: str) -> None:
        assert refusal(tmp_path / name) == f"context audio {tmp_path / name} does not exist; {KINDS}"

    def test_name_that_is_not_utf_8(self, make_context: Callable[..., Path], tmp_path: Path) -> None:
        path = tmp_path / os.fsdecode(b"song\x97.wav")
        path.write_bytes(make_context(3.0).read_bytes())
        assert_equal(read(path), read(make_context(3.0)))

    def test_no_header(self, tmp_path: Path) -> None:
        path = tmp_path / "samples.raw"
        path.write_bytes(bytes(range(256)) * 400)
        assert refusal(path) == (f"context audio {path} has no header with its rate and channels; {KINDS}")

    def test_m4a(self, tmp_path: Path) -> None:
        path = tmp_path / "song.m4a"
        path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(500))
        assert (
            refusal(path) == f"context audio {path} cannot be read as audio (Format not recognised); {KINDS}"
        )


@pytest.mark.parametrize("rate", [8000, 22050, 32000, 44100, 48000, 88200, 96000, 192000])
def test_any_length_at_any_rate_has_the_samples_that_it_has_at_48_khz(rate: int, tmp_path: Path) -> None:
    for samples in (3 * rate, 3 * rate + 1, 7 * rate - 13):
        path = tmp_path / "context.wav"
        soundfile.write(path, np.full(samples, 0.1, dtype=np.float32), rate)
        found = IoAudioMixin().process_target_audio(path).shape[-1]
        assert found == int(samples * 48000 / rate + 0.5)
