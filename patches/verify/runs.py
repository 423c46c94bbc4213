"""All cases of a request, run one after the other, and the trace of one that failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx

from ..harness.imports import CannotProbe, decisions, import_file
from .cases import Case, Observation
from .generation import Host, Run
from .probe import versions
from .schedules import reference_schedule, unpatched_schedule
from .trace import StepTrace

FILES = ("generate", "diffusion", "execute")  # in this order: packages that D imports from are bare by then


def run_cases(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request of `run_probe`. Raises CannotProbe where the checkout cannot be run at all."""
    cases = [Case.from_json(case) for case in request["cases"]]
    references = [reference_schedule(case) for case in cases]  # before any code of the checkout runs
    found = versions()
    do_not_compile()
    root = Path(request["root"])
    files = {name: import_file(root, Path(request[name])) for name in FILES}
    decisions.clear()
    observations = observe_all(cases, references, files)
    if decisions:
        raise CannotProbe(
            f"what it runs depends on {', '.join(dict.fromkeys(decisions))}, of what is not installed here; install it"
        )
    return {
        "versions": found,
        "observations": [vars(observation) for observation in observations],
        "cut": trace_cut(root, cases, observations, files),
    }


def do_not_compile() -> None:
    """Replace mx.compile: a compiled step calls the decoder once, while it is traced; uncompiled, each time."""

    def uncompiled(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    vars(mx)["compile"] = uncompiled


def observe_all(
    cases: list[Case], references: list[tuple[float, ...]], files: dict[str, ModuleType]
) -> list[Observation]:
    """Run the cases in their order, those of one model kind on one host: an application has one for all requests.

    The checkout's own schedule is asked last: asked in between, it could change what a cache in it holds.
    """
    hosts: dict[Any, Host] = {}
    runs = []
    for case in cases:
        key = (case.model, case.compiled)
        if key not in hosts:
            hosts[key] = Host(case, files)
        runs.append(Run(case, hosts[key]))
    unpatched = {key: unpatched_schedule(case, files["generate"]) for key, case in _distinct(cases).items()}
    return [
        run.observation(reference, unpatched[_schedule_key(case)])
        for case, run, reference in zip(cases, runs, references, strict=True)
    ]


def _distinct(cases: list[Case]) -> dict[Any, Case]:
    return {_schedule_key(case): case for case in cases}


def _schedule_key(case: Case) -> tuple[Any, ...]:
    return case.steps, case.shift, case.timesteps, case.config is None


def trace_cut(
    root: Path, cases: list[Case], observations: list[Observation], files: dict[str, ModuleType]
) -> list[str]:
    """Where the steps are cut, in words; empty where no base case ran on MLX with another count than requested."""
    wrong = [
        (case, seen)
        for case, seen in zip(cases, observations, strict=True)
        if case.is_base and not (seen.error or seen.fallback) and len(seen.evaluated) != len(seen.reference)
    ]
    if not wrong:
        return []
    case, seen = min(wrong, key=_trace_order)
    name = "infer_steps" if case.timesteps is None else "timesteps"
    trace = StepTrace(root, name, len(seen.reference), len(seen.evaluated))
    run = Run(case, Host(case, files), trace)
    lines = [f"cut: {trace.cut}"] if trace.cut else []
    if len(run.decoder.timesteps) == len(seen.reference):
        lines.append(
            f"Run once more, {case.requested} were evaluated as requested: it depends on what ran before."
        )
    kind = f"{case.requested} ({case.run})" if case.run else case.requested
    return [*lines, f"on the way, {kind}: {trace.seen}"]


def _trace_order(failing: tuple[Case, Observation]) -> tuple[Any, ...]:
    """Steps first; small counts could be mistaken for any other small number, large ones take long."""
    case, count = failing[0], len(failing[1].reference)
    return case.timesteps is not None, not 20 <= count <= 200, count
