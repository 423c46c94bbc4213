"""Context audio as latents, and the frames that are to be generated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from acestep.core.generation.handler.conditioning_target import check_range, frame_at
from acestep.errors import RequestError
from acestep.models.mlx.dit_generate import draw_noise
from tests.parity_helper import assert_equal

RATE, FRAME = 48_000, 1920


def latents(handler: Any, path: Path, seeds: list[int]) -> np.ndarray:
    return handler._encode_audio_to_latents(handler.process_target_audio(path), seeds)


class TestSourceLatents:
    """What the VAE makes of the context."""

    def test_frames_of_the_context(self, mlx_handler: Any, context_wav: Path) -> None:
        source = latents(mlx_handler, context_wav, [1])
        assert source.shape == (1, 131, mlx_handler.config.audio_acoustic_hidden_dim)
        assert source.dtype == np.float32

    def test_part_of_a_frame_counts(self, mlx_handler: Any, make_context: Callable[..., Path]) -> None:
        assert latents(mlx_handler, make_context(130.5 * FRAME / RATE), [1]).shape[1] == 131

    def test_short_context_is_filled_up_with_the_latents_of_silence(
        self, mlx_handler: Any, make_context: Callable[..., Path]
    ) -> None:
        """3 s are 75 frames of 128."""
        path = make_context(3.0)
        source = latents(mlx_handler, path, [1, 2])
        assert source.shape[:2] == (2, 128)
        silence = mlx_handler.model.silence_latent[:, :53]
        assert_equal(source[:, 75:], np.repeat(silence, 2, axis=0))

    def test_latents_are_a_sample_of_the_posterior(self, load_handler: Any, context_wav: Path) -> None:
        """A hundred seeds have the mean and the standard deviation that the VAE gives."""
        handler = load_handler()
        audio = handler.process_target_audio(context_wav)[:, : 8 * FRAME]
        mean, std = (np.array(value)[0] for value in handler.vae.vae.encode(mx.array(audio.T[None])))
        draws = (handler.vae.sample_latents(audio, list(range(100))) - mean) / std
        assert abs(draws.mean()) < 0.03
        assert draws.std() == pytest.approx(1.0, abs=0.03)

    def test_draw_is_not_the_noise_of_the_run(self, mlx_handler: Any, context_wav: Path) -> None:
        """The same numbers in both would correlate the noise with the context."""
        audio = mlx_handler.process_target_audio(context_wav)[:, : 50 * FRAME]
        mean, std = (np.array(value)[0] for value in mlx_handler.vae.vae.encode(mx.array(audio.T[None])))
        draw = (mlx_handler.vae.sample_latents(audio, [5])[0] - mean) / std
        noise = np.array(draw_noise(5, draw.shape))
        assert abs(np.corrcoef(draw.ravel(), noise.ravel())[0, 1]) < 0.2

    def test_draw_is_repeated_by_its_seed_alone_or_in_a_batch(
        self, mlx_handler: Any, make_context: Callable[..., Path]
    ) -> None:
        path = make_context(1.0)
        one, two = latents(mlx_handler, path, [1]), latents(mlx_handler, path, [2])
        assert_equal(latents(mlx_handler, path, [1, 2]), np.concatenate([one, two]))
        assert not np.array_equal(one, two)

    def test_context_matters(self, mlx_handler: Any, make_context: Callable[..., Path]) -> None:
        """Upstream once silenced every source frame, and only the length was left of the WAV."""
        stereo, mono = (latents(mlx_handler, make_context(1.0, channels=n), [1])[:, :25] for n in (2, 1))
        assert not np.array_equal(stereo, mono)


class TestChunkMask:
    """1 where the stem is generated, 25 frames a second."""

    @pytest.mark.parametrize(
        ("start", "end", "first", "last"),
        [
            pytest.param(0.0, -1.0, 0, 128, id="everywhere"),
            pytest.param(0.0, 0.0, 0, 128, id="end_zero_is_the_end"),
            pytest.param(1.0, 2.0, 25, 50, id="one_second"),
            pytest.param(2.0, -1.0, 50, 128, id="from_two_seconds_on"),
            pytest.param(0.05, 0.11, 1, 2, id="parts_of_frames_are_cut"),
            pytest.param(1.0, 1.01, 25, 26, id="one_frame_at_least"),
            pytest.param(4.0, 9.0, 100, 128, id="beyond_the_end"),
            pytest.param(2.32, 4.12, 58, 103, id="times_that_binary_numbers_miss"),
        ],
    )
    def test_range(self, mlx_handler: Any, start: float, end: float, first: int, last: int) -> None:
        mask = mlx_handler._build_chunk_mask(128, 8, start, end)
        assert mask.shape == (128, 8)
        assert mask.dtype == np.float32
        ones = np.flatnonzero(mask.min(axis=1) == 1).tolist()
        assert ones == list(range(first, last))
        assert mask.sum() == 8 * (last - first), "the rest is 0"


def test_every_time_of_two_decimals_falls_into_its_frame() -> None:
    """A hundredth of a second is a quarter of a frame."""
    assert [frame_at(hundredths / 100) for hundredths in range(60_001)] == [n // 4 for n in range(60_001)]


class TestRange:
    """A range outside of the context is refused, not cut."""

    @pytest.mark.parametrize(
        ("start", "end"), [(0.0, -1.0), (0.0, 5.0), (2.0, 0.0), (4.9, 5.0), (0.0, 5.02)], ids=str
    )
    def test_within(self, start: float, end: float) -> None:
        check_range(start, end, 5.0)

    @pytest.mark.parametrize(
        ("start", "end", "shown"),
        [
            pytest.param(3.0, 2.0, "3 s to 2 s", id="end_before_start"),
            pytest.param(2.0, 2.0, "2 s to 2 s", id="nothing"),
            pytest.param(5.0, -1.0, "5 s to 5 s", id="start_at_the_end"),
            pytest.param(0.0, 5.03, "0 s to 5.03 s", id="end_outside"),
            pytest.param(-0.5, 2.0, "-0.5 s to 2 s", id="start_outside"),
        ],
    )
    def test_outside(self, start: float, end: float, shown: str) -> None:
        with pytest.raises(RequestError) as refused:
            check_range(start, end, 5.0)
        assert str(refused.value) == (
            f"the range from {shown} is not within the context, which lasts 5.00 s; "
            "give repainting_start below repainting_end, both within it"
        )
