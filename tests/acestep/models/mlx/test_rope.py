"""Constant tables, held to diffusers' own to the last digits."""

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from acestep.models.mlx.rope import rotary_tables, sliding_window_mask, timestep_frequencies


@pytest.mark.parametrize("length", [1, 38, 7500], ids="length_{}".format)
@pytest.mark.parametrize("head_dim", [16, 128], ids="head_dim_{}".format)
def test_rotary_tables_equal_diffusers(length: int, head_dim: int) -> None:
    from diffusers.models.transformers.ace_step_transformer import _ace_step_rotary_freqs

    theirs = _ace_step_rotary_freqs(length, head_dim, 1e6, torch.device("cpu"), torch.float32)
    for name, ours, reference in zip(
        ("cos", "sin"), rotary_tables(length, head_dim, 1e6), theirs, strict=True
    ):
        assert ours.dtype == mx.float32
        # One frequency of 64 differs in its last digit at head_dim 128, and so do sines: float32 rounds 1 to 6e-8.
        assert np.abs(np.array(ours) - reference.numpy()).max() <= 3e-7, name


def test_rotary_tables_at_a_position_by_hand() -> None:
    """At position 3 the second of two frequencies is 3 / sqrt(theta), in both halves of the head."""
    cos, sin = rotary_tables(4, 4, 100.0)
    assert cos[3].tolist() == pytest.approx([math.cos(3), math.cos(0.3)] * 2, abs=1e-6)
    assert sin[3].tolist() == pytest.approx([math.sin(3), math.sin(0.3)] * 2, abs=1e-6)


def test_timestep_frequencies_are_the_nearest_float32() -> None:
    """Whatever else is loaded in the process: a stem does not depend on it."""
    exponents = -np.log(np.float32(10_000)) * np.arange(128, dtype=np.float32) / np.float32(128)
    exact = np.exp(exponents.astype(np.float64))
    assert np.array_equal(np.array(timestep_frequencies(256)), exact.astype(np.float32))


def test_timestep_frequencies_are_diffusers_to_the_last_digit() -> None:
    """At t = 1 diffusers' waves are sine and cosine of the frequencies: torch.exp may be off by one digit."""
    from diffusers.models.embeddings import get_timestep_embedding

    waves = get_timestep_embedding(torch.ones(1), 256, flip_sin_to_cos=True, downscale_freq_shift=0)[0]
    frequencies = torch.tensor(timestep_frequencies(256).tolist())
    assert (torch.cat([frequencies.cos(), frequencies.sin()]) - waves).abs().max() <= 1.2e-7


@pytest.mark.parametrize(("length", "window"), [(1, 16), (17, 16), (18, 16), (50, 16), (6, 1)])
def test_window_mask_equals_diffusers(length: int, window: int) -> None:
    from diffusers.models.transformers.ace_step_transformer import _create_4d_mask

    theirs = _create_4d_mask(
        length,
        torch.float32,
        torch.device("cpu"),
        sliding_window=window,
        is_sliding_window=True,
        is_causal=False,
    )
    assert sliding_window_mask(length, window).tolist() == (theirs[0, 0] == 0).tolist()


def test_window_reaches_as_far_as_it_says_both_ways() -> None:
    mask: Any = sliding_window_mask(8, 2).tolist()
    assert [i for i in range(8) if mask[4][i]] == [2, 3, 4, 5, 6]
    assert [i for i in range(8) if mask[0][i]] == [0, 1, 2]
