"""Turbo models, and callers that say nothing of the kind: eight distilled values, as ever."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acestep.models.mlx.dit_generate import get_timestep_schedule

# Written out, so that no formula of the code under test can make them right.
TABLES = {
    1.0: ["1", "7/8", "3/4", "5/8", "1/2", "3/8", "1/4", "1/8"],
    2.0: ["1", "14/15", "6/7", "10/13", "2/3", "6/11", "2/5", "2/9"],
    3.0: ["1", "21/22", "9/10", "5/6", "3/4", "9/14", "1/2", "3/10"],
}
TURBO = {shift: [float(Fraction(t)) for t in table] for shift, table in TABLES.items()}
GRID = {t for table in TURBO.values() for t in table}


def snapped(t: float) -> float:
    """The nearest value of the three tables."""
    return min(GRID, key=lambda value: (abs(value - t), -value))


@pytest.mark.parametrize("shift", TURBO, ids="shift_{:g}".format)
def test_table_of_each_shift(shift: float) -> None:
    assert get_timestep_schedule(shift, is_turbo=True) == TURBO[shift]


def test_the_default_is_turbo_at_shift_3() -> None:
    assert get_timestep_schedule() == TURBO[3.0]
    assert get_timestep_schedule(2.0, None) == TURBO[2.0]


@pytest.mark.parametrize("steps", [1, 7, 8, 50, None, 0, "8"], ids=repr)
def test_turbo_runs_eight_steps_whatever_is_asked(steps: Any) -> None:
    assert get_timestep_schedule(1.0, infer_steps=steps, is_turbo=True) == TURBO[1.0]


@pytest.mark.parametrize(
    ("shift", "table"),
    [(0.1, 1), (1.4, 1), (1.5, 1), (1.6, 2), (2.4, 2), (2.5, 2), (2.6, 3), (10.0, 3)],
    ids=lambda value: f"{value:g}",
)
def test_other_shifts_are_rounded(shift: float, table: int) -> None:
    """Halfway, the smaller one."""
    assert get_timestep_schedule(shift, is_turbo=True) == TURBO[float(table)]


falling = st.integers(1, 40).flatmap(
    lambda size: st.lists(st.floats(0.01, 1.0), min_size=size, max_size=size).map(
        lambda ts: sorted(ts, reverse=True)
    )
)


@given(falling)
@example([1 - i / 40 for i in range(40)])
@example([1 - i / 21 for i in range(21)])
@example([1 - i / 20 for i in range(20)])
def test_custom_timesteps_are_snapped_and_at_most_twenty(timesteps: list[float]) -> None:
    assert get_timestep_schedule(1.0, timesteps, is_turbo=True) == [snapped(t) for t in timesteps[:20]]


@pytest.mark.parametrize(
    ("timesteps", "expected"),
    [
        pytest.param([0.97, 0.52, 0.11], ["21/22", "1/2", "1/8"], id="nearest"),
        pytest.param([0.9, 0.3], ["9/10", "3/10"], id="on_the_grid"),
        pytest.param([0.96, 0.95], ["21/22", "21/22"], id="two_to_one"),
        pytest.param([0.5, 0.0, 0.0], ["1/2"], id="trailing_zeros"),
        pytest.param([0.0625], ["1/8"], id="below_the_grid"),
        pytest.param([0.3125], ["3/10"], id="between_two"),
        pytest.param([0.4375], ["2/5"], id="between_two_more"),
    ],
)
def test_custom_timesteps_by_hand(timesteps: list[float], expected: list[str]) -> None:
    assert get_timestep_schedule(3.0, timesteps) == [float(Fraction(t)) for t in expected]


def test_halfway_between_two_the_larger_is_taken() -> None:
    """1/8 and 2/9 are neighbours on the grid, and the halves of their sum and distance are exact enough to tie."""
    low, high = 0.5, float(Fraction(6, 11))
    middle = (low + high) / 2
    assert middle - low == high - middle
    assert get_timestep_schedule(1.0, [middle]) == [high]


@pytest.mark.parametrize("timesteps", [[], [0.0], [0.0, 0.0]], ids=["empty", "zero", "zeros"])
def test_no_custom_timesteps_mean_the_table(timesteps: list[float]) -> None:
    assert get_timestep_schedule(2.0, timesteps) == TURBO[2.0]


def test_each_call_gets_a_list_of_its_own() -> None:
    get_timestep_schedule(1.0).clear()
    assert get_timestep_schedule(1.0) == TURBO[1.0]
