"""Verdicts: what a case requested against what was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .cases import FURTHER, TURBO_STEPS, Case, Observation

TOLERANCE = 1e-6  # of a timestep in (0, 1]; float32 resolves 6e-8 there
LATENTS_TOLERANCE = 2e-5  # relative L2; a step of 1,000 left out is 3e-4, float32 rounding 1e-6
TURBO_SHIFTS = (1.0, 2.0, 3.0)  # what turbo models were distilled for


@dataclass(frozen=True)
class CaseResult:
    """The verdict on one case.

    distance: the largest one of a timestep to the expected schedule; None where the two cannot be compared.
    latents: see Observation.latents. verdict: in words, what `ok` says.
    """

    model: str
    request: str
    run: str
    requested: int
    evaluated: int
    distance: float | None
    latents: float | None
    fallback: str | None
    ok: bool
    verdict: str


def judge(case: Case, seen: Observation) -> CaseResult:
    """Hold one observation to what its case requests. `case.thread`: see `worker_thread_falls_back`."""
    expected = expected_schedule(case, seen)
    fault = _fault(case, seen, expected)
    success = "honoured" if case.is_base else "as before the patches"
    if fault is not None and _needs_a_config(case, seen):
        fault, success = None, "not run: this checkout needs a config, as every real host has one"
    if worker_thread_falls_back(case, seen):
        fault, success = None, "not on MLX: the worker thread falls back to PyTorch"
    return CaseResult(
        model=case.model,
        request=_row_of(case),
        run=case.run,
        requested=len(seen.reference),
        evaluated=len(seen.evaluated),
        distance=None if expected is None else distance(seen.evaluated, expected),
        latents=seen.latents,
        fallback=seen.fallback,
        ok=fault is None,
        verdict=fault or success,
    )


def _row_of(case: Case) -> str:
    """What the report calls the request; the further ones stand together in one row."""
    if case.run != FURTHER:
        return case.requested
    return "further steps" if case.timesteps is None else "further timesteps"


def expected_schedule(case: Case, seen: Observation) -> tuple[float, ...] | None:
    """PyTorch's for a base model, the checkout's own from before the patches for any other host."""
    return seen.reference if case.is_base else seen.unpatched


def worker_thread_falls_back(case: Case, seen: Observation) -> bool:
    """A defect of its own, which no step count can repair: reported, not held against the patches."""
    return case.thread and seen.fallback is not None and not seen.evaluated


def distance(evaluated: Sequence[float], expected: Sequence[float]) -> float | None:
    """The largest distance between two lists of timesteps; None for different lengths or values not finite."""
    if len(evaluated) != len(expected) or not all(map(math.isfinite, evaluated)):
        return None
    return max((abs(a - b) for a, b in zip(evaluated, expected, strict=True)), default=0.0)


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
    tolerance = TOLERANCE if case.is_base and case.timesteps is None else 0.0
    largest = distance(seen.evaluated, expected)
    if largest is None:
        return "timesteps that are not finite numbers"
    if largest > tolerance:
        return f"other timesteps than expected, by up to {largest:.2g}"
    if _has_turbo_table(case) and (distance(seen.evaluated, seen.reference) or 0.0) > TOLERANCE:
        return "not the 8 timesteps that turbo models were distilled for"
    if case.has_known_latents and (seen.latents is None or not seen.latents <= LATENTS_TOLERANCE):
        size = "not finite" if seen.latents is None else f"{seen.latents:.2g} away"
        return f"the count is right, the latents are not those of these steps (relative L2 {size})"
    return None


def _needs_a_config(case: Case, seen: Observation) -> bool:
    """A checkout that reads `self.config.is_turbo` its own way raises without one, and did so before."""
    reason = seen.error or seen.fallback or ""
    return case.config is None and reason.startswith("AttributeError") and "'config'" in reason


def _wrong_count(case: Case, seen: Observation, expected: tuple[float, ...]) -> str:
    if not case.is_base:
        return f"evaluated {len(seen.evaluated)}, the schedule before the patches has {len(expected)} values"
    fault = f"requested {len(expected)}, evaluated {len(seen.evaluated)}"
    foreign = len(set(seen.evaluated) - set(expected))
    if case.timesteps is not None and foreign:
        fault += f", {foreign} of them timesteps that were not requested"
    return fault


def _has_turbo_table(case: Case) -> bool:
    return (
        not case.is_base
        and case.timesteps is None
        and case.steps == TURBO_STEPS
        and case.shift in TURBO_SHIFTS
    )
