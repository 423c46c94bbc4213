"""Matmuls in half precision and in quantised weights: float32 in, float32 out, and no overflow."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch

from acestep.models.mlx import linear
from acestep.models.mlx.attention import KeysAndValues, attend
from acestep.models.mlx.linear import half_matmul, measure_rows, project, scale_into_range
from acestep.models.pytorch import half
from tests.parity_helper import assert_equal, assert_near

LARGEST = 65_504.0  # of float16


def random(*shape: int, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def layer_of(weight: mx.array, dtype: mx.Dtype, bias: mx.array | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = weight.astype(dtype)
    if bias is not None:
        layer.bias = bias
    measure_rows(layer)
    return layer


def torch_layer_of(weight: mx.array, dtype: torch.dtype) -> half.HalfLinear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False).requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(np.array(weight)))
    return half.HalfLinear(layer, dtype)


@pytest.mark.parametrize("exponent", [0, 4, 9, 40])
def test_scaling_changes_no_bit(exponent: int) -> None:
    """Rows that are larger by a power of two give results that are larger by it, bit by bit."""
    weight, x = random(48, 64, seed=1) / 8, random(2, 5, 64)
    ways: tuple[Callable[[mx.array], mx.array], ...] = (
        lambda x: project(layer_of(weight, mx.float16), x),
        lambda x: mx.array(torch_layer_of(weight, torch.float16)(torch.from_numpy(np.array(x))).numpy()),
    )
    for project_by in ways:
        assert_equal(project_by(x * 2.0**exponent), project_by(x) * 2.0**exponent)


def test_nothing_is_scaled_where_nothing_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = random(48, 64, seed=1), 100 * random(2, 5, 64)
    scaled = project(layer_of(weight, mx.float16), x)
    monkeypatch.setattr(linear, "scale_into_range", lambda *_, **__: mx.array(1.0))
    assert_equal(scaled, project(layer_of(weight, mx.float16), x))


@pytest.mark.parametrize("growth", [0.1, 1.0, 37.3, 5000.0])
def test_a_scaled_sum_stays_within_half_of_the_range(growth: float) -> None:
    values = np.array([0, 1e-3, 1, 1e2, 16_383.9, 32_768, LARGEST, 137_000, 1.4e6, 1e12], dtype=np.float32)
    ours = scale_into_range(mx.array(values)[:, None], growth, axis=-1)
    theirs = half.scale_into_range(torch.from_numpy(values)[:, None], growth, dim=-1)
    assert_equal(ours, theirs)
    scales = np.array(ours)[:, 0]
    assert (np.log2(scales) % 1 == 0).all()
    assert (scales >= 1).all()
    assert (values / scales * max(growth, 1) < 2**15).all()
    needless = (scales > 1) & (values * max(growth, 1) < 2**14)
    assert not needless.any()


def test_no_partial_sum_overflows_in_whatever_order() -> None:
    """A row of the largest weights against the largest values, whose partial sums are beyond any result."""
    weight = mx.concatenate([mx.full((1, 512), 3.0), mx.full((1, 512), -3.0)], axis=1)
    x = mx.full((1, 1024), 60_000.0)
    layer = layer_of(weight, mx.float16)
    scaled = np.array(x / scale_into_range(x, layer.largest_row_sum, axis=-1))
    assert np.abs(np.cumsum(scaled * np.array(weight))).max() < LARGEST
    assert project(layer, x).item() == 0


def test_output_beyond_the_range_is_right() -> None:
    weight, x = mx.full((1, 64), 100.0), mx.full((1, 64), 1000.0)
    right = pytest.approx(6_400_000, rel=2**-11)
    assert project(layer_of(weight, mx.float16), x).item() == right
    assert torch_layer_of(weight, torch.float16)(torch.full((1, 64), 1000.0)).item() == right


def test_a_large_row_does_not_coarsen_the_others() -> None:
    weight, x = random(48, 64, seed=1) / 8, random(1, 5, 64)
    large = mx.concatenate([x[:, :4], 1e6 * x[:, 4:]], axis=1)
    layer = layer_of(weight, mx.float16)
    assert_equal(project(layer, large)[:, :4], project(layer, x)[:, :4])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_bias_is_added_in_float32(dtype: str) -> None:
    bias = mx.array([1 / 3, 1e6])
    layer = layer_of(mx.zeros((2, 64)), getattr(mx, dtype), bias)
    assert_equal(project(layer, random(1, 64))[0], bias)


def test_nan_and_infinity_are_not_hidden() -> None:
    layer = layer_of(random(8, 64), mx.float16)
    for bad in (np.nan, np.inf):
        x = np.ones((1, 64), dtype=np.float32)
        x[0, 3] = bad
        assert not np.isfinite(np.array(project(layer, mx.array(x)))).any()


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=["float16", "bfloat16"])
def test_the_product_on_the_cpu_is_that_of_mlx_in_half_precision(dtype: mx.Dtype) -> None:
    """To the rounding of a sum that is summed in another order; beyond the range both are infinite."""
    weight, x = random(48, 64, seed=1).astype(dtype), random(2, 5, 64)
    theirs = (x.astype(dtype) @ weight.T).astype(mx.float32)
    assert_near(half_matmul(x, weight), theirs, largest=2 * float(mx.finfo(dtype).eps))
    if dtype == mx.float16:
        assert mx.isinf(half_matmul(mx.full((1, 64), 6e4), mx.full((1, 64), 100.0).astype(dtype))).item()


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_weights_on_the_cpu_are_multiplied_as_mlx_does(bits: int) -> None:
    plain = nn.Linear(128, 48)
    layer: Any = nn.QuantizedLinear.from_linear(plain, 64, bits)
    x = 1e5 * random(2, 5, 128)
    assert_near(project(layer, x), layer(x), largest=1e-6)


def test_values_of_attention_beyond_the_range() -> None:
    """An attention is a mean of values: it overflows only where they do."""
    queries, keys, values = (random(1, heads, 9, 16, seed=heads) for heads in (4, 2, 2))
    want = attend(queries, KeysAndValues(keys, 1e6 * values))
    got = attend(queries, KeysAndValues(keys, 1e6 * values).astype(mx.float16))
    assert_near(got, want, l2=1e-3)
    small = attend(queries, KeysAndValues(keys, values).astype(mx.float16))
    shifted = attend(queries, KeysAndValues(keys, 2.0**20 * values).astype(mx.float16))
    assert_equal(shifted, small * 2.0**20)


def test_few_matrices_are_dequantised_ahead() -> None:
    """In a chain of layers that is evaluated in one go, as a decoder step is."""
    width, count = 256, 40
    layers = [
        nn.QuantizedLinear.from_linear(nn.Linear(width, width, bias=False), group_size=64, bits=8)
        for _ in range(count)
    ]
    x = mx.ones((1, width))
    mx.eval(x, [layer.parameters() for layer in layers])
    mx.synchronize()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    for layer in layers:
        x = project(layer, x)
    mx.eval(x)
    # mlx dispatches up to 10 operations ahead of the one that is computed.
    assert mx.get_peak_memory() - before < 15 * 4 * width**2
