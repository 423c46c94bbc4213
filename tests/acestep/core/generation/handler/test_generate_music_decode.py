"""Latents to stems: cut to the context's length, levels taken before any gain."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from acestep.core.generation.handler.generate_music_decode import GenerateMusicDecodeMixin, levels_of
from acestep.errors import BackendError
from acestep.models.mlx.vae_model import MLXAutoencoderOobleck
from tests.parity_helper import assert_equal, assert_near

RATE = 48_000


class Host(GenerateMusicDecodeMixin):
    """A VAE that gives what the test wants to hear."""

    def __init__(self, audio: np.ndarray) -> None:
        self.vae = SimpleNamespace(decode_latents=lambda _: audio, frames_behind=0)


def decode(audio: np.ndarray, samples: int) -> tuple[np.ndarray, Any, float]:
    return Host(audio)._decode_generate_music_pred_latents(np.zeros((len(audio), 3, 8)), samples)


def test_stems_are_the_vaes(mlx_handler: Any) -> None:
    latents = np.random.default_rng(0).standard_normal((2, 5, 8), dtype=np.float32)
    audio, levels, seconds = mlx_handler._decode_generate_music_pred_latents(latents, 5 * 1920)
    assert audio.shape == (2, 2, 9600)
    want = np.array(mlx_handler.vae.vae.decode(mx.array(latents))).swapaxes(1, 2)
    peaks = np.abs(want).max(axis=(1, 2), keepdims=True)
    assert_near(audio, want / np.maximum(peaks, 1.0), largest=1e-6)
    assert [level.peak for level in levels] == pytest.approx(peaks.flatten().tolist())
    assert seconds > 0


def test_stem_is_cut_to_the_context() -> None:
    audio = np.random.default_rng(0).random((1, 2, 5760), dtype=np.float32)
    assert_equal(decode(audio, 5000)[0], audio[..., :5000])


@pytest.mark.parametrize(("use_mlx_dit", "behind"), [(True, 30), (False, 48)], ids=["mlx", "torch"])
def test_what_lies_behind_a_short_stem_is_not_decoded_and_not_missed(
    load_handler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, use_mlx_dit: bool, behind: int
) -> None:
    """To its last sample, one second of the 128 frames that its context was filled up to is that of all frames."""
    handler = load_handler("plain", use_mlx_dit)
    latents = np.random.default_rng(0).standard_normal((1, 128, 8), dtype=np.float32)
    whole = handler.vae.decode_latents(latents)[..., :RATE]
    decoded = []
    decode_latents = handler.vae.decode_latents

    def count_frames(given: np.ndarray) -> np.ndarray:
        decoded.append(given.shape[1])
        return decode_latents(given)

    monkeypatch.setattr(handler.vae, "decode_latents", count_frames)
    stems, levels, _ = handler._decode_generate_music_pred_latents(latents, RATE)
    assert_near(stems * max(1.0, levels[0].peak), whole, largest=1e-6)
    assert decoded == [25 + behind]


def test_frames_behind_are_enough_for_every_vae(mlx_handler: Any, torch_handler: Any) -> None:
    config = mlx_handler.vae.vae.config
    published = replace(config, downsampling_ratios=(2, 4, 4, 6, 10))
    smallest = replace(config, downsampling_ratios=(5, 3, *[2] * 7), channel_multiples=(1,) * 9)
    for behind, of in ((30, config), (9, published), (43, smallest)):
        assert MLXAutoencoderOobleck(of).frames_behind == behind <= torch_handler.vae.frames_behind


def test_peak_above_full_scale_is_divided_away_for_that_stem_only() -> None:
    audio = np.array([[[0.5, -4.0], [2.0, 1.0]], [[0.5, -0.25], [0.0, 0.1]]])
    stems, levels, _ = decode(audio, 2)
    assert_equal(stems[0], audio[0] / 4)
    assert_equal(stems[1], audio[1])
    assert [level.peak for level in levels] == pytest.approx([4.0, 0.5])


def test_levels_are_those_before_any_gain() -> None:
    levels = levels_of(np.array([[3.0, 0.0], [-1.0, 0.0]]))
    assert levels.peak == 3.0
    assert levels.rms == pytest.approx((10 / 4) ** 0.5)
    assert levels.clipped == pytest.approx(1 / 4), "full scale itself is not clipped"


def test_level_of_a_loud_stem_is_a_number() -> None:
    """The square of 1e25 is beyond float32."""
    assert levels_of(np.full((2, 4), 1e25, dtype=np.float32)).rms == pytest.approx(1e25)


def test_silent_stem_keeps_its_silence() -> None:
    stems, levels, _ = decode(np.zeros((1, 2, 10)), 10)
    assert not stems.any()
    assert (levels[0].peak, levels[0].rms, levels[0].clipped) == (0.0, 0.0, 0.0)


def test_what_is_cut_off_does_not_count() -> None:
    audio = np.full((1, 2, 10), 0.1)
    audio[..., 9] = 5.0
    assert decode(audio, 9)[1][0].peak == pytest.approx(0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_stem_that_is_no_sound_is_refused(value: float) -> None:
    audio = np.zeros((2, 2, 10))
    audio[1, 0, 3] = value
    with pytest.raises(BackendError) as refused:
        decode(audio, 10)
    assert str(refused.value) == (
        "the stem holds NaN or infinite samples: a number left the range of its precision; "
        "load the decoder in float32 or bfloat16, or give a lower guidance_scale"
    )
