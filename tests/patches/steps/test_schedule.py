"""The schedule that the patch `generate` inserts, against PyTorch's, and what else it accepts or refuses."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from patches.steps.generate import PATCH
from tests.patches.contract import check_applied
from tests.patches.mini_checkout import BEFORE, FIXED

# Elsewhere torch's vector code may round the last digit of linspace another way.
IS_EXACT_HERE = platform.machine() == "x86_64"
Schedule = Callable[..., list[float]]


def schedule_of(text: str) -> Schedule:
    space: dict[str, Any] = {"__name__": "generate"}
    exec(compile(text, "generate.py", "exec", dont_inherit=True), space)
    found: Schedule = space["get_timestep_schedule"]
    return found


@pytest.fixture(scope="module")
def schedule() -> Schedule:
    return schedule_of(check_applied(PATCH, BEFORE.generate))


def reference(steps: int, shift: float) -> np.ndarray:
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float32)[:-1]
    shifted: np.ndarray = (shift * t / (1 + (shift - 1) * t)).numpy()
    return shifted


@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0, 6.0])
def test_every_step_count_gives_the_values_of_torch(schedule: Schedule, shift: float) -> None:
    for steps in range(1, 2001):
        expected = reference(steps, shift)
        made = np.array(schedule(shift, infer_steps=steps, is_turbo=False), np.float32)
        if made.tobytes() != expected.tobytes():
            assert made.shape == expected.shape
            np.testing.assert_array_max_ulp(made, expected, maxulp=1)
            assert not IS_EXACT_HERE, f"{steps} steps, shift {shift}"


@pytest.mark.parametrize("shift", [3, np.float64(3.0), np.float32(3.0)])
def test_shift_may_be_any_number(schedule: Schedule, shift: float) -> None:
    made = schedule(shift, infer_steps=50, is_turbo=False)
    assert made == schedule(3.0, infer_steps=50, is_turbo=False)
    assert all(type(value) is float for value in made)


@pytest.mark.parametrize("steps", [np.int64(27), torch.tensor([27])[0].item()])
def test_steps_may_be_any_whole_number(schedule: Schedule, steps: Any) -> None:
    assert schedule(3.0, infer_steps=steps, is_turbo=False) == schedule(3.0, infer_steps=27, is_turbo=False)


@pytest.mark.parametrize("steps", [0, -1, 8.0, "8"])
def test_steps_that_are_no_count_are_refused(schedule: Schedule, steps: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        schedule(3.0, infer_steps=steps, is_turbo=False)


def test_custom_timesteps_of_a_base_model_are_used_as_they_are(schedule: Schedule) -> None:
    custom = [1.0 - 0.003 * i for i in range(300)]
    assert schedule(3.0, [*custom, 0.0, 0], is_turbo=False) == custom
    assert schedule(3.0, np.array([1.0, 0.5], np.float32), infer_steps=8, is_turbo=False) == [1.0, 0.5]


@pytest.mark.parametrize("custom", [[], [0.0], [0.5, 0.7], [1.5, 0.5], [0.5, -0.1], [1.0, float("nan"), 0.5]])
def test_custom_timesteps_that_do_not_fall_are_refused(schedule: Schedule, custom: list[float]) -> None:
    with pytest.raises(ValueError, match="timesteps must fall to 0, got "):
        schedule(3.0, custom, is_turbo=False)


@pytest.mark.parametrize("before", [BEFORE.generate, FIXED.generate], ids=["before", "after-upstreams-fix"])
def test_turbo_and_callers_that_pass_nothing_keep_the_schedule_that_was_there(before: str) -> None:
    old, new = schedule_of(before), schedule_of(check_applied(PATCH, before))
    for arguments in (
        (),
        (1.0,),
        (2.4,),
        (3.0, [0.9, 0.5, 0.2, 0.0]),
        (1.0, [1 - 0.02 * i for i in range(40)]),
    ):
        assert new(*arguments) == old(*arguments)
        assert new(*arguments, infer_steps=8, is_turbo=True) == (
            old(*arguments, infer_steps=8) if before is FIXED.generate else old(*arguments)
        )


def test_no_steps_keep_what_the_checkout_did() -> None:
    old, new = schedule_of(FIXED.generate), schedule_of(check_applied(PATCH, FIXED.generate))
    assert new(3.0, None, None, is_turbo=False) == old(3.0, None, None)
