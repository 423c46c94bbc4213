"""Verdicts on what a decoder saw, without a process: the rows that no small checkout produces by itself."""

from dataclasses import replace
from pathlib import Path

import pytest

from patches.verify.cases import Case, Observation
from patches.verify.report import VerifyReport, judge, plan_cases, render_report

EIGHT = tuple(3 * t / (1 + 2 * t) for t in (i / 8 for i in range(8, 0, -1)))
FALLING = (1.0, 0.7, 0.2)
BASE = Case("base", {"is_turbo": False}, 8)
TURBO = Case("turbo", {"is_turbo": True}, 8)
CUSTOM = Case("base", {"is_turbo": False}, 8, timesteps=FALLING)


def seen(evaluated: tuple[float, ...], reference: tuple[float, ...] = EIGHT) -> Observation:
    return Observation(evaluated, 0, reference, evaluated, None, None)


def moved(timesteps: tuple[float, ...], by: float) -> tuple[float, ...]:
    return (*timesteps[:-1], timesteps[-1] + by)


@pytest.mark.parametrize(
    ("case", "observation", "verdict"),
    [
        pytest.param(BASE, seen(moved(EIGHT, 1e-7)), "honoured", id="base_within_float32"),
        pytest.param(
            BASE,
            seen(moved(EIGHT, 2e-6)),
            "other timesteps than expected, by up to 2e-06",
            id="base_beyond_tolerance",
        ),
        pytest.param(CUSTOM, seen(FALLING, FALLING), "honoured", id="custom_exact"),
        pytest.param(
            CUSTOM,
            seen(moved(FALLING, 1e-7), FALLING),
            "other timesteps than expected, by up to 1e-07",
            id="custom_has_no_tolerance",
        ),
        pytest.param(
            BASE,
            seen(moved(EIGHT, float("nan"))),
            "timesteps that are no finite numbers",
            id="not_a_number",
        ),
        pytest.param(TURBO, seen(EIGHT), "as before the patches", id="turbo_table"),
        pytest.param(
            TURBO,
            seen(tuple(i / 8 for i in range(8, 0, -1))),
            "not the 8 timesteps that turbo models were distilled for",
            id="turbo_table_of_another_shift",
        ),
        pytest.param(
            TURBO,
            replace(seen(EIGHT), unpatched=None),
            "the checkout's own schedule raises for this",
            id="turbo_schedule_raises",
        ),
        pytest.param(
            BASE,
            replace(seen(()), error="KeyError: 'spans' (service_generate_execute.py:80)"),
            "raised KeyError: 'spans' (service_generate_execute.py:80)",
            id="executor_raises",
        ),
        pytest.param(
            replace(BASE, guidance_scale=7.0),
            replace(seen(EIGHT), guided=8),
            "honoured",
            id="guidance_applied",
        ),
    ],
)
def test_verdict(case: Case, observation: Observation, verdict: str) -> None:
    result = judge(case, observation)
    assert result.verdict == verdict
    assert result.ok is (verdict in {"honoured", "as before the patches"})


def test_all_kinds_are_driven_with_and_without_custom_timesteps() -> None:
    cases = plan_cases((27, 50), shift=2.0, guidance_scale=5.0)
    assert {(case.name, case.timesteps is None) for case in cases} == {
        (name, default) for name in ("base", "turbo", "no config") for default in (True, False)
    }
    assert [case.steps for case in cases if case.name == "base" and case.timesteps is None] == [27, 50]
    assert {case.shift for case in cases} == {2.0}
    assert {case.guidance_scale for case in cases if case.name == "base"} == {5.0}


def test_table_shows_asked_evaluated_distance_and_fallback() -> None:
    fell_back = replace(seen(()), fallback="TypeError: no such keyword (diffusion.py:3)")
    results = (judge(BASE, seen(EIGHT)), judge(BASE, fell_back))
    report = VerifyReport(Path("here"), 3.0, 1.0, {"mlx": "0.1"}, results, None)
    assert render_report(report) == (
        "here: its own three files, run with stand-ins (shift 3, guidance 1; mlx 0.1)\n"
        "\n"
        "model  wanted   asked  evaluated  distance  fallback  verdict\n"
        "base   8 steps  8      8          0         no        honoured\n"
        "base   8 steps  8      0          -         PyTorch   NOT OK: PyTorch ran instead of MLX: "
        "TypeError: no such keyword (diffusion.py:3)\n"
        "\n"
        "1 of 2 are not as they should be. Next: python -m patches check here"
    )
