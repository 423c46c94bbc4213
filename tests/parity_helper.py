"""Two arrays that ought to be equal: a failure says where they are not, by how much, and how widely."""

from typing import Any

import numpy as np


def to_float64(values: Any) -> np.ndarray:
    """A torch tensor, an mlx array, a numpy array or a list, as float64."""
    return np.asarray(
        values.detach().float().numpy() if hasattr(values, "detach") else values, dtype=np.float64
    )


def relative_l2(got: Any, want: Any) -> float:
    """|got - want| / |want| over all values."""
    a, b = to_float64(got), to_float64(want)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def largest_difference(got: Any, want: Any) -> float:
    """max |got - want| / max |want|."""
    a, b = to_float64(got), to_float64(want)
    return float(np.abs(a - b).max() / np.abs(b).max())


def describe(got: Any, want: Any) -> str:
    """The worst index, both values there, and the share of values that differ at all."""
    a, b = to_float64(got), to_float64(want)
    wrong = np.where(np.isfinite(a) & np.isfinite(b), np.abs(a - b), np.inf)
    worst = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), a.shape))
    return (
        f"worst at {worst}: {a[worst]:.9g} instead of {b[worst]:.9g}; "
        f"{np.mean(wrong > 0):.2%} of {a.size} values differ"
    )


def assert_near(
    got: Any, want: Any, *, largest: float | None = None, l2: float | None = None, what: str = "values"
) -> None:
    """Same shape, all finite, and not further apart than the bounds that are given."""
    assert np.shape(got) == np.shape(want), f"{what}: shape {np.shape(got)} instead of {np.shape(want)}"
    measured = {"largest difference": (largest_difference, largest), "relative L2": (relative_l2, l2)}
    asked = {
        name: (measure(got, want), bound) for name, (measure, bound) in measured.items() if bound is not None
    }
    assert asked, "give a bound"
    for name, (distance, bound) in asked.items():
        # NaN is never within a bound
        assert distance <= bound, (
            f"{what}: {name} is {distance:.2e}, at most {bound:.0e}; {describe(got, want)}"
        )


def assert_equal(got: Any, want: Any, what: str = "values") -> None:
    """The very same values."""
    assert np.shape(got) == np.shape(want), f"{what}: shape {np.shape(got)} instead of {np.shape(want)}"
    assert np.array_equal(to_float64(got), to_float64(want)), f"{what}: {describe(got, want)}"
