"""Run the proof on a checkout: plan the cases, run them in a child process, judge what was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkout import Checkout, locate
from ..errors import KitError
from ..harness.imports import CannotProbe
from ..harness.process import ChildResult, Limits, run_module
from .cases import Case, Observation, plan_cases
from .judge import judge, worker_thread_falls_back
from .report import VerifyReport

STEPS = (1, 8, 27, 50, 137, 1000)
MOST_STEPS = 10_000  # more is no step count of this kind of model, and would not end in time


class BadRequest(KitError):
    """Steps, shift or guidance that cannot be run."""

    exit_status = 2


@dataclass(frozen=True)
class Answer:
    """One observation for each case, and the versions that they were made with."""

    observations: tuple[Observation, ...]
    versions: dict[str, str]
    cut: tuple[str, ...] = ()


def verify_checkout(
    root: Path,
    *,
    steps: Sequence[int] = STEPS,
    shift: float = 3.0,
    guidance_scale: float = 7.0,
    limits: Limits | None = None,
) -> VerifyReport:
    """Run the checkout below `root` with fakes and judge what its decoder got.

    Args:
        steps: step counts to request of a base model.
        guidance_scale: of the runs that request guidance.

    Raises KitError for a request that makes no sense and for a root that holds no checkout.
    """
    _refuse_bad_request(steps, shift, guidance_scale)
    checkout = locate(root)
    cases = plan_cases(steps, shift, guidance_scale)
    try:
        answer = run_probe(checkout, cases, limits)
    except CannotProbe as reason:
        return VerifyReport(root, shift, guidance_scale, {}, problem=str(reason))
    seen = list(zip(cases, answer.observations, strict=True))
    results = tuple(judge(case, observation) for case, observation in seen)
    return VerifyReport(
        root, shift, guidance_scale, answer.versions, results, tuple(_findings(seen)), answer.cut
    )


def run_probe(checkout: Checkout, cases: Sequence[Case], limits: Limits | None = None) -> Answer:
    """Run `cases` through the three files of a checkout, all in one child process.

    Raises CannotProbe if there is no complete answer: what is missing, what does not import, a crash, a limit.
    """
    request = {
        "root": str(checkout.root.absolute()),
        "execute": str(checkout.execute.absolute()),
        "diffusion": str(checkout.diffusion.absolute()),
        "generate": str(checkout.generate.absolute()),
        "cases": [vars(case) for case in cases],
    }
    return _read_answer(run_module("verify.probe", request, limits), len(cases))


def _read_answer(child: ChildResult, cases: int) -> Answer:
    if not child.answers:
        raise CannotProbe(f"the child process {child.end or 'ended without an answer'}")
    data: dict[str, Any] = child.answers[0]
    if "cannot" in data:
        raise CannotProbe(str(data["cannot"]))
    try:
        observations = tuple(Observation.from_json(one) for one in data["observations"])
        versions = {str(name): str(number) for name, number in data["versions"].items()}
        cut = tuple(str(line) for line in data.get("cut", ()))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise CannotProbe("the child process gave an answer of another form") from None
    if len(observations) != cases:
        raise CannotProbe(f"the child process answered for {len(observations)} of {cases} cases")
    return Answer(observations, versions, cut)


def _findings(seen: Sequence[tuple[Case, Observation]]) -> list[str]:
    guided = [(case, one) for case, one in seen if case.guidance_scale > 1 and one.evaluated]
    findings = []
    if guided and not any(one.guided for _, one in guided):
        scale = guided[0][0].guidance_scale
        findings.append(f"guidance {scale:g} is ignored on MLX (upstream applies it there since 82a5d84)")
    for case, one in seen:
        if worker_thread_falls_back(case, one):
            findings.append(f"in a worker thread PyTorch runs instead of MLX: {one.fallback}")
            break
    return findings


def _refuse_bad_request(steps: Sequence[int], shift: float, guidance_scale: float) -> None:
    if not steps:
        raise BadRequest("steps: expected at least one number of steps, found none")
    for count in steps:
        if not 1 <= count <= MOST_STEPS:
            raise BadRequest(f"steps: expected whole numbers from 1 to {MOST_STEPS}, found {count}")
    if not (math.isfinite(shift) and shift > 0):
        raise BadRequest(f"shift: expected a finite number above 0, found {shift}")
    if not (math.isfinite(guidance_scale) and guidance_scale >= 1):
        raise BadRequest(f"guidance scale: expected a finite number of at least 1, found {guidance_scale}")
