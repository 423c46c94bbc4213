"""Base models: one timestep a step, PyTorch's to the last bit, or the custom ones as they are."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acestep.models.mlx.dit_generate import get_timestep_schedule
from tests.fork_helper import linspace_and_shift
from tests.parity_helper import assert_equal

steps_of_a_request = st.integers(1, 1000)
shifts = st.floats(0.1, 10.0)


def base_schedule(
    infer_steps: Any = 8, shift: float = 1.0, timesteps: list[float] | None = None
) -> list[float]:
    return get_timestep_schedule(shift, timesteps, infer_steps=infer_steps, is_turbo=False)


@given(steps=steps_of_a_request, shift=shifts)
def test_equals_linspace_and_shift_in_float32(steps: int, shift: float) -> None:
    assert base_schedule(steps, shift) == linspace_and_shift(steps, shift)


@given(steps=steps_of_a_request, shift=shifts)
def test_equals_diffusers_schedule(steps: int, shift: float) -> None:
    from diffusers import AceStepPipeline

    theirs = AceStepPipeline._get_timestep_schedule(None, steps, shift, dtype=torch.float32)
    assert base_schedule(steps, shift) == theirs.tolist()


@given(steps=steps_of_a_request, shift=shifts)
def test_is_what_the_formula_says(steps: int, shift: float) -> None:
    s = Fraction(shift)
    exact = [float(s * k / (steps + (s - 1) * k)) for k in range(steps, 0, -1)]
    schedule = base_schedule(steps, shift)
    assert len(schedule) == steps
    assert max(abs(a - b) for a, b in zip(schedule, exact, strict=True)) <= 1e-6
    assert all(a > b for a, b in zip(schedule, [*schedule[1:], 0.0], strict=True))


@pytest.mark.parametrize(
    ("steps", "shift", "expected"),
    [
        pytest.param(1, 3.0, [1], id="one_step"),
        pytest.param(2, 1.0, ["1", "1/2"], id="two_steps_unshifted"),
        pytest.param(2, 3.0, ["1", "3/4"], id="two_steps_shift_3"),
        pytest.param(4, 2.0, ["1", "6/7", "2/3", "2/5"], id="four_steps_shift_2"),
        pytest.param(5, 0.5, ["1", "2/3", "3/7", "1/4", "1/9"], id="five_steps_shift_a_half"),
    ],
)
def test_small_schedules(steps: int, shift: float, expected: list[str]) -> None:
    assert base_schedule(steps, shift) == pytest.approx([float(Fraction(t)) for t in expected], rel=1e-6)


@pytest.mark.parametrize("shift", [1.0, 2.4, 3.0], ids="shift_{:g}".format)
@pytest.mark.parametrize("steps", [1, 2, 8, 27, 50, 200], ids="{}_steps".format)
def test_named_schedules_equal_pytorchs(steps: int, shift: float) -> None:
    assert_equal(base_schedule(steps, shift), linspace_and_shift(steps, shift), "schedule")


def test_eight_steps_of_a_base_model_are_not_rounded_to_a_valid_shift() -> None:
    """Turbo would take shift 2.4 as 2."""
    assert_equal(base_schedule(8, 2.4), linspace_and_shift(8, 2.4))
    assert base_schedule(8, 2.4) != get_timestep_schedule(2.4, infer_steps=8, is_turbo=True)


@pytest.mark.parametrize("steps", [np.int64(3), np.int32(3)], ids=["int64", "int32"])
def test_whole_numbers_of_other_types_count(steps: Any) -> None:
    assert base_schedule(steps) == linspace_and_shift(3, 1.0)


@pytest.mark.parametrize(
    "steps",
    [0, -1, -50, 2.5, 8.0, "8", float("nan"), [8]],
    ids=lambda steps: f"{type(steps).__name__}_{steps}",
)
def test_no_whole_number_of_steps_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole message follows
        base_schedule(steps)
    assert str(refused.value) == f"infer_steps must be >= 1, got {steps!r}"


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0], ids="shift_{:g}".format)
def test_none_keeps_what_was_there_before(shift: float) -> None:
    """Newer upstream code hands None on where nothing was asked: that is turbo's table, as ever."""
    assert base_schedule(None, shift) == get_timestep_schedule(shift)


CUSTOM = {
    "one": [1.0],
    "late_start": [0.7, 0.31, 0.02],
    "off_turbos_grid": [0.97, 0.52, 0.11],
    "a_value_twice": [1.0, 0.5, 0.5, 0.1],
    "twenty_one": [1 - i / 21 for i in range(21)],
    "forty": [(1 - i / 40) ** 1.5 for i in range(40)],
    "thousand": [1 - i / 1000 for i in range(1000)],
}


@pytest.mark.parametrize("timesteps", CUSTOM.values(), ids=CUSTOM)
@pytest.mark.parametrize("zeros", [0, 1, 3], ids="{}_zeros".format)
def test_custom_timesteps_are_taken_as_they_are(timesteps: list[float], zeros: int) -> None:
    given = [*timesteps, *[0.0] * zeros]
    assert base_schedule(8, 3.0, given) == timesteps
    assert given == [*timesteps, *[0.0] * zeros], "the caller's list was changed"


@pytest.mark.parametrize("steps", [0, "8", None, 2.5], ids=repr)
def test_custom_timesteps_stand_in_for_the_step_count(steps: Any) -> None:
    assert base_schedule(steps, 3.0, [1.0, 0.4]) == [1.0, 0.4]


@pytest.mark.parametrize(
    "timesteps",
    [
        pytest.param([], id="empty"),
        pytest.param([0.0, 0.0], id="all_zero"),
        pytest.param([0.5, 0.7], id="rising"),
        pytest.param([1.0, 0.5, 0.6], id="rising_at_the_end"),
        pytest.param([1.0, 0.0, 0.5], id="zero_within"),
        pytest.param([float("nan")], id="nan_alone"),
        pytest.param([1.0, float("nan"), 0.5], id="nan_within"),
        pytest.param([0.5, float("nan")], id="nan_last"),
        pytest.param([1.01, 0.5], id="above_1"),
        pytest.param([float("inf"), 0.5], id="infinite"),
        pytest.param([0.5, -0.1], id="below_0"),
        pytest.param([-0.0, -1.0], id="below_0_alone"),
    ],
)
def test_custom_timesteps_that_do_not_fall_are_refused(timesteps: list[float]) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the whole message follows
        base_schedule(8, 1.0, timesteps)
    assert str(refused.value).startswith("timesteps must fall to 0, got [")
