"""The comparison itself: it has to fail where it ought to, and say where."""

import numpy as np
import pytest

from tests.parity_helper import assert_equal, assert_near, describe

WANT = np.arange(6.0).reshape(2, 3)


def changed(by: float) -> np.ndarray:
    values = WANT.copy()
    values[1, 0] += by
    return values


def test_equal_arrays_pass() -> None:
    assert_equal(WANT.copy(), WANT)
    assert_near(WANT.copy(), WANT, largest=0.0, l2=0.0)


def test_failure_names_index_values_and_share() -> None:
    sentence = r"worst at \(1, 0\): 3\.5 instead of 3; 16\.67% of 6 values differ"
    with pytest.raises(
        AssertionError, match=rf"latents: largest difference is 1\.00e-01, at most 1e-02; {sentence}"
    ):
        assert_near(changed(0.5), WANT, largest=1e-2, what="latents")
    with pytest.raises(AssertionError, match=sentence):
        assert_near(changed(0.5), WANT, l2=1e-2)
    with pytest.raises(AssertionError, match=sentence):
        assert_equal(changed(0.5), WANT)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_is_never_near(value: float) -> None:
    assert f"worst at (1, 0): {value:g} instead of 3" in describe(changed(value), WANT)
    with pytest.raises(AssertionError):
        assert_near(changed(value), WANT, largest=1e9)


def test_shape_has_to_be_the_same() -> None:
    with pytest.raises(AssertionError, match=r"shape \(3,\) instead of \(2, 3\)"):
        assert_near(WANT[0], WANT, l2=1.0)


def test_a_bound_has_to_be_given() -> None:
    with pytest.raises(AssertionError, match="give a bound"):
        assert_near(WANT, WANT)
