"""Latents to stems: cut to the context's length, levels taken before any gain."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parity_helper import assert_equal, assert_near

from acestep.core.generation.handler.generate_music_decode import GenerateMusicDecodeMixin, levels_of
from acestep.errors import BackendError


class Host(GenerateMusicDecodeMixin):
    """A VAE that gives what the test wants to hear."""

    def __init__(self, audio: torch.Tensor) -> None:
        self.seen: list[torch.Tensor] = []
        self.vae = SimpleNamespace(dtype=torch.float32, decode=self.decode)
        self.audio = audio

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        self.seen.append(latents)
        return SimpleNamespace(sample=self.audio)


def decode(audio: torch.Tensor, samples: int) -> tuple[torch.Tensor, Any, float]:
    return Host(audio)._decode_generate_music_pred_latents(torch.zeros(len(audio), 3, 8), samples)


def test_latents_are_given_channels_first(mlx_handler: Any) -> None:
    latents = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    audio, levels, seconds = mlx_handler._decode_generate_music_pred_latents(latents, 5 * 1920)
    assert audio.shape == (2, 2, 9600)
    with torch.inference_mode():
        want = mlx_handler.vae.decode(latents.transpose(1, 2)).sample
    peaks = want.abs().amax(dim=(1, 2), keepdim=True)
    assert_near(audio, want / peaks.clamp(min=1.0), largest=1e-6)
    assert [level.peak for level in levels] == pytest.approx(peaks.flatten().tolist())
    assert seconds > 0


def test_stem_is_cut_to_the_context() -> None:
    audio = torch.rand(1, 2, 5760)
    assert_equal(decode(audio, 5000)[0], audio[..., :5000])


def test_peak_above_full_scale_is_divided_away_for_that_stem_only() -> None:
    audio = torch.tensor([[[0.5, -4.0], [2.0, 1.0]], [[0.5, -0.25], [0.0, 0.1]]])
    stems, levels, _ = decode(audio, 2)
    assert_equal(stems[0], audio[0] / 4)
    assert_equal(stems[1], audio[1])
    assert [level.peak for level in levels] == pytest.approx([4.0, 0.5])


def test_levels_are_those_before_any_gain() -> None:
    levels = levels_of(torch.tensor([[3.0, 0.0], [-1.0, 0.0]]))
    assert levels.peak == 3.0
    assert levels.rms == pytest.approx((10 / 4) ** 0.5)
    assert levels.clipped == pytest.approx(1 / 4), "full scale itself is not clipped"


def test_level_of_a_loud_stem_is_a_number() -> None:
    """The square of 1e25 is beyond float32."""
    assert levels_of(torch.full((2, 4), 1e25)).rms == pytest.approx(1e25)


def test_silent_stem_keeps_its_silence() -> None:
    stems, levels, _ = decode(torch.zeros(1, 2, 10), 10)
    assert not stems.any()
    assert (levels[0].peak, levels[0].rms, levels[0].clipped) == (0.0, 0.0, 0.0)


def test_what_is_cut_off_does_not_count() -> None:
    audio = torch.full((1, 2, 10), 0.1)
    audio[..., 9] = 5.0
    assert decode(audio, 9)[1][0].peak == pytest.approx(0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=["nan", "inf"])
def test_stem_that_is_no_sound_is_refused(value: float) -> None:
    audio = torch.zeros(2, 2, 10)
    audio[1, 0, 3] = value
    with pytest.raises(BackendError) as refused:
        decode(audio, 10)
    assert str(refused.value) == (
        "the stem holds NaN or infinite samples: a number left the range of its precision; "
        "load the decoder in float32 or bfloat16, or give a lower guidance_scale"
    )
