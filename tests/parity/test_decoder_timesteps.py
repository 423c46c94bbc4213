"""A checkout's decoder has to see PyTorch's timesteps: one evaluation a step, whatever was asked for.

Everything is observed at the decoder, so each test holds all three sites at once. Run it on any checkout with
`pytest tests/parity --acestep-root PATH`; it needs no weights.
"""

from pathlib import Path

import pytest
import torch

from patches.checkout import locate
from patches.errors import KitError
from patches.harness.imports import CannotProbe
from patches.verify import run
from patches.verify.cases import Case, Observation
from tests.parity.conftest import FORK

BASE, TURBO = {"is_turbo": False}, {"is_turbo": True}
NO_KEY: dict[str, bool] = {}
TOLERANCE = 1e-6

STEPS = [1, 2, 7, 8, 20, 27, 50, 100, 200]
SHIFTS = [1.0, 2.0, 3.0, 2.5, 6.0]
CUSTOM = {
    "one": (1.0,),
    "two": (1.0, 0.5),
    "late_start": (0.7, 0.31, 0.02),
    "trailing_zeros": (1.0, 0.6, 0.25, 0.0, 0.0),
    "a_value_twice": (1.0, 0.5, 0.5, 0.1),
    "twenty_one": tuple(1 - i / 21 for i in range(21)),
    "forty": tuple((1 - i / 40) ** 1.5 for i in range(40)),
    "two_hundred": tuple(1 - i / 200 for i in range(200)),
}

CASES = {
    **{
        f"{steps}_steps_shift_{shift:g}": Case("base", BASE, steps, shift)
        for steps in STEPS
        for shift in SHIFTS
    },
    **{f"custom_{name}": Case("base", BASE, 8, timesteps=values) for name, values in CUSTOM.items()},
    **{f"turbo_shift_{shift:g}": Case("turbo", TURBO, 8, shift) for shift in (1.0, 2.0, 3.0)},
    "guided": Case("base", BASE, 50, guidance_scale=7.0),
    "no_key": Case("no key", NO_KEY, 50),
    "no_key_custom": Case("no key", NO_KEY, 50, timesteps=CUSTOM["forty"]),
}


@pytest.fixture(scope="module")
def seen(acestep_root: Path) -> dict[str, Observation]:
    """All cases, run in one process: somebody's checkout in one of its own, the fork in that of the tests, which has
    imported PyTorch and MLX."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            if acestep_root == FORK:
                from tests.patches.verify.conftest import run_here

                patch.setattr(run, "run_module", run_here)
            answer = run.run_probe(locate(acestep_root), list(CASES.values()))
    except (KitError, CannotProbe) as reason:
        pytest.fail(f"{acestep_root} cannot be probed, because {reason}", pytrace=False)
    return dict(zip(CASES, answer.observations, strict=True))


def linspace_and_shift(steps: int, shift: float) -> torch.Tensor:
    t = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float32)
    return (shift * t / (1.0 + (shift - 1.0) * t))[:-1]


def assert_ran(seen: Observation, expected: torch.Tensor, tolerance: float) -> None:
    """MLX ran to its end, and its decoder saw `expected`, value for value and in this order."""
    assert seen.error is None
    assert seen.fallback is None, "the checkout ran PyTorch instead of MLX"
    assert len(seen.evaluated) == len(expected), f"asked {len(expected)}, evaluated {len(seen.evaluated)}"
    torch.testing.assert_close(torch.tensor(seen.evaluated), expected, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("shift", SHIFTS, ids="shift_{:g}".format)
@pytest.mark.parametrize("steps", STEPS, ids="{}_steps".format)
def test_base_takes_one_evaluation_a_step(seen: dict[str, Observation], steps: int, shift: float) -> None:
    assert_ran(seen[f"{steps}_steps_shift_{shift:g}"], linspace_and_shift(steps, shift), TOLERANCE)


@pytest.mark.parametrize("name", CUSTOM)
def test_base_takes_custom_timesteps_as_they_are(seen: dict[str, Observation], name: str) -> None:
    asked = torch.tensor([value for value in CUSTOM[name] if value != 0], dtype=torch.float32)
    assert_ran(seen[f"custom_{name}"], asked, 0.0)


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0], ids="shift_{:g}".format)
def test_turbo_keeps_its_eight_timesteps(seen: dict[str, Observation], shift: float) -> None:
    assert_ran(seen[f"turbo_shift_{shift:g}"], linspace_and_shift(8, shift), TOLERANCE)


def test_guidance_costs_no_further_evaluation(seen: dict[str, Observation]) -> None:
    assert_ran(seen["guided"], linspace_and_shift(50, 3.0), TOLERANCE)


def test_config_without_the_key_is_a_base_model(seen: dict[str, Observation]) -> None:
    assert_ran(seen["no_key"], linspace_and_shift(50, 3.0), TOLERANCE)
    assert_ran(seen["no_key_custom"], torch.tensor(CUSTOM["forty"], dtype=torch.float32), 0.0)
