"""The proof: what a checkout's own three files do with the steps and timesteps that they are asked for.

A base model has to take one decoder evaluation a step, at the timesteps that PyTorch's schedule has. A turbo
model, and a host that has no `config`, have to do what the checkout did before the patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkout import locate
from ..errors import KitError
from ..harness.imports import CannotProbe
from ..harness.process import run_probe
from .cases import Case, Observation

TOLERANCE = 1e-6  # of a timestep in (0, 1]; float32 resolves 6e-8 there
CUSTOM = tuple(1.0 - 0.024 * i for i in range(40))  # longer than turbo's limit of 20, and on no turbo grid
TURBO_STEPS, TURBO_SHIFTS = 8, (1.0, 2.0, 3.0)  # what turbo models were distilled for


class BadRequest(KitError):
    """Steps, shift or guidance that nobody can run."""

    exit_status = 2


@dataclass(frozen=True)
class CaseResult:
    """One row of the proof. `distance` is the largest one of a timestep to the expected schedule, over all
    evaluations; None where the two cannot be held against each other. `verdict` says in words what `ok` says."""

    model: str
    wanted: str
    asked: int
    evaluated: int
    distance: float | None
    fallback: str | None
    ok: bool
    verdict: str


@dataclass(frozen=True)
class VerifyReport:
    """`problem` says why nothing could be run; otherwise there is one result for each case."""

    root: Path
    shift: float
    guidance_scale: float
    versions: dict[str, str]
    results: tuple[CaseResult, ...]
    problem: str | None

    @property
    def ok(self) -> bool:
        return self.problem is None and all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "root": str(self.root), "ok": self.ok}


def verify_checkout(
    root: Path, *, steps: Sequence[int] = (8, 27, 50), shift: float = 3.0, guidance_scale: float = 1.0
) -> VerifyReport:
    """Run the checkout below `root` with stand-ins and judge what its decoder saw.

    Raises KitError for a request that makes no sense and for a root that holds no checkout.
    """
    _refuse_nonsense(steps, shift, guidance_scale)
    checkout = locate(root)
    cases = plan_cases(steps, shift, guidance_scale)
    try:
        answer = run_probe(checkout, cases)
    except CannotProbe as reason:
        return VerifyReport(root, shift, guidance_scale, {}, (), str(reason))
    results = tuple(judge(case, seen) for case, seen in zip(cases, answer.observations, strict=True))
    return VerifyReport(root, shift, guidance_scale, answer.versions, results, None)


def _refuse_nonsense(steps: Sequence[int], shift: float, guidance_scale: float) -> None:
    if not steps:
        raise BadRequest("steps: expected at least one number of steps, found none")
    for count in steps:
        if count < 1:
            raise BadRequest(f"steps: expected whole numbers of at least 1, found {count}")
    if not (math.isfinite(shift) and shift > 0):
        raise BadRequest(f"shift: expected a finite number above 0, found {shift}")
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise BadRequest(f"guidance scale: expected a finite number of at least 1, found {guidance_scale}")


def plan_cases(steps: Sequence[int], shift: float, guidance_scale: float) -> list[Case]:
    """Base as asked; turbo and a host without config at the steps where a mix-up would show, unguided."""
    most = max(steps)
    base, turbo = {"is_turbo": False}, {"is_turbo": True}
    cases = [Case("base", base, count, shift, guidance_scale) for count in steps]
    cases.append(Case("base", base, most, shift, guidance_scale, CUSTOM))
    cases += [Case("turbo", turbo, count, shift) for count in sorted({TURBO_STEPS, most})]
    cases.append(Case("turbo", turbo, TURBO_STEPS, shift, timesteps=CUSTOM))
    cases.append(Case("no config", None, most, shift))
    cases.append(Case("no config", None, most, shift, timesteps=CUSTOM))
    return cases


def judge(case: Case, seen: Observation) -> CaseResult:
    """Hold one observation to what its case asks for."""
    is_base = case.name == "base"
    expected = seen.reference if is_base else seen.unpatched
    fault = _fault(case, seen, expected)
    praise = "honoured" if is_base else "as before the patches"
    if fault is not None and _needs_a_config(case, seen):
        fault, praise = None, "not run: this checkout wants a config, as every real host has one"
    return CaseResult(
        model=case.name,
        wanted=f"{len(seen.reference)} {'steps' if case.timesteps is None else 'custom timesteps'}",
        asked=len(seen.reference),
        evaluated=len(seen.evaluated),
        distance=None if expected is None else distance(seen.evaluated, expected),
        fallback=seen.fallback,
        ok=fault is None,
        verdict=fault or praise,
    )


def _fault(case: Case, seen: Observation, expected: tuple[float, ...] | None) -> str | None:
    """What is wrong, the cause before its consequences; None if nothing is."""
    if seen.error is not None:
        return f"raised {seen.error}"
    if seen.fallback is not None:
        return f"PyTorch ran instead of MLX: {seen.fallback}"
    if expected is None:
        return "the checkout's own schedule raises for this"
    if len(seen.evaluated) != len(expected):
        return _wrong_count(case, seen, expected)
    tolerance = TOLERANCE if case.name == "base" and case.timesteps is None else 0.0
    worst = distance(seen.evaluated, expected)
    if worst is None:
        return "timesteps that are no finite numbers"
    if worst > tolerance:
        return f"other timesteps than expected, by up to {worst:.2g}"
    if case.guidance_scale > 1 and seen.guided == 0:
        return f"guidance {case.guidance_scale:g} is ignored on MLX (upstream guides there since 82a5d84)"
    if _has_turbo_table(case) and (distance(seen.evaluated, seen.reference) or 0.0) > TOLERANCE:
        return "not the 8 timesteps that turbo models were distilled for"
    return None


def _needs_a_config(case: Case, seen: Observation) -> bool:
    """A checkout that reads `self.config.is_turbo` its own way raises without one, and did so before."""
    reason = seen.error or seen.fallback or ""
    return case.config is None and reason.startswith("AttributeError") and "'config'" in reason


def _wrong_count(case: Case, seen: Observation, expected: tuple[float, ...]) -> str:
    if case.name != "base":
        return f"evaluated {len(expected)} before the patches, {len(seen.evaluated)} now"
    fault = f"asked {len(expected)}, evaluated {len(seen.evaluated)}"
    foreign = len(set(seen.evaluated) - set(expected))
    if case.timesteps is not None and foreign:
        fault += f", {foreign} timesteps that nobody asked for"
    return fault


def _has_turbo_table(case: Case) -> bool:
    return case.timesteps is None and case.steps == TURBO_STEPS and case.shift in TURBO_SHIFTS


def distance(evaluated: Sequence[float], expected: Sequence[float]) -> float | None:
    """The largest distance between two lists of timesteps; None for other lengths or values without end."""
    if len(evaluated) != len(expected) or not all(map(math.isfinite, evaluated)):
        return None
    return max((abs(a - b) for a, b in zip(evaluated, expected, strict=True)), default=0.0)


def render_report(report: VerifyReport) -> str:
    """The report as a small table, with one line for all of it and what to do next."""
    if report.problem is not None:
        return f"{report.root} cannot be probed, because {report.problem}"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    head = (
        f"{report.root}: its own three files, run with stand-ins "
        f"(shift {report.shift:g}, guidance {report.guidance_scale:g}; {versions})"
    )
    rows: list[tuple[str, ...]] = [
        ("model", "wanted", "asked", "evaluated", "distance", "fallback", "verdict")
    ]
    rows += [_row(result) for result in report.results]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    table = ["  ".join([*map(str.ljust, row[:6], widths), row[6]]) for row in rows]
    return "\n".join([head, "", *table, "", _summary(report)])


def _row(result: CaseResult) -> tuple[str, ...]:
    return (
        result.model,
        result.wanted,
        str(result.asked),
        str(result.evaluated),
        _shown(result.distance),
        "no" if result.fallback is None else "PyTorch",
        result.verdict if result.ok else f"NOT OK: {result.verdict}",
    )


def _shown(length: float | None) -> str:
    if length is None:
        return "-"
    return f"{length:.1e}" if length else "0"


def _summary(report: VerifyReport) -> str:
    if report.ok:
        return "Everything that was asked for was honoured."
    bad = sum(not result.ok for result in report.results)
    return (
        f"{bad} of {len(report.results)} are not as they should be. "
        f"Next: python -m patches check {report.root}"
    )
