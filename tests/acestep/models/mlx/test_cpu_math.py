"""The exponentials of the CPU against float64."""

import sys

import mlx.core as mx
import numpy as np
import pytest

from acestep.models.mlx import cpu_math
from acestep.models.mlx.cpu_math import power_of_two, swiglu


def in_float64(gate: np.ndarray, up: np.ndarray) -> np.ndarray:
    """gate * sigmoid(gate) * up"""
    wide = gate.astype(np.float64)
    return wide / (1 + np.exp(-wide)) * up


@pytest.mark.parametrize(("low", "high"), [(-126, 126), (-30, 0), (-0.51, 0.51), (-1e-6, 1e-6)])
def test_power_is_exact_to_the_last_digits(low: float, high: float) -> None:
    x = mx.linspace(low, high, 100_001)
    want = np.exp2(np.asarray(x).astype(np.float64))
    assert np.max(np.abs(np.asarray(power_of_two(x)) / want - 1)) < 3e-7


def test_power_of_whole_numbers_is_exact() -> None:
    x = mx.arange(-126, 127).astype(mx.float32)
    assert np.array_equal(np.asarray(power_of_two(x)), np.exp2(np.asarray(x)))


def test_what_is_masked_has_no_weight() -> None:
    assert np.asarray(power_of_two(mx.array([-1e4, -1.7e38, -mx.inf]))).max() < 1e-37


@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, 0xFFC12345], ids=hex)
def test_nan_stays_nan(bits: int) -> None:
    """Whatever the rest of its bits: a stem that contains NaN is to be seen as one."""
    nan = mx.array(np.array([bits], np.uint32).view(np.float32))
    assert np.isnan(np.asarray(power_of_two(nan)))
    assert np.isnan(np.asarray(swiglu(nan[None, None], mx.ones((1, 1, 1))))).all()


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
def test_swiglu_in_blocks(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_math, "BLOCK_VALUES", 50 * rows_at_once)
    gate, up = (mx.random.normal((2, 7, 50), scale=5, key=mx.random.key(k)) for k in (0, 1))
    want = in_float64(np.asarray(gate), np.asarray(up))
    assert np.abs(np.asarray(swiglu(gate, up)) - want).max() < 5e-7 * np.abs(want).max()


def test_swiglu_of_large_values() -> None:
    gate = mx.array([[[-1e30, -1e4, -87.0, 0.0, 87.0, 1e4, 1e30]]])
    got, want = np.asarray(swiglu(gate, mx.ones_like(gate))), [0, 0, 0, 0, 87, 1e4, 1e30]
    assert np.allclose(got, want, rtol=1e-6, atol=1e-7)


def test_mlx_computes_it_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up = mx.random.normal((1, 3, 5)), mx.random.normal((1, 3, 5))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert mx.array_equal(swiglu(gate, up), gate * mx.sigmoid(gate) * up)
