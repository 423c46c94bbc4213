"""The report of a proof, as JSON and as a table for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from .cases import FURTHER
from .judge import CaseResult


@dataclass(frozen=True)
class VerifyReport:
    """What ran in a checkout, and whether it is what was requested.

    results: one for each case; empty where nothing could be run, for which `problem` gives the reason.
    findings: sentences on what else was noticed. They do not count in `honoured`.
    cut: where the steps were cut, or what was seen on their way; empty where nothing was cut.
    """

    root: Path
    shift: float
    guidance_scale: float
    versions: dict[str, str]
    results: tuple[CaseResult, ...] = ()
    findings: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def honoured(self) -> bool:
        """Every step count and custom timestep of a base model ran as requested; all else as before the patches."""
        return self.problem is None and bool(self.results) and all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "root": str(self.root), "honoured": self.honoured}


def render_report(report: VerifyReport) -> str:
    """The report as a small table, followed by the findings and one line for all of it."""
    if report.problem is not None:
        return f"{report.root} cannot be run, because {report.problem}"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    runs = ", ".join(
        dict.fromkeys(result.run for result in report.results if result.run not in ("", FURTHER))
    )
    head = [
        f"{report.root}: its own three files, run with a fake decoder (shift {report.shift:g}; {versions})",
        f"base: each request runs {runs}; one row for all of its runs. Each further one runs once, at another shift, "
        "guidance, batch and length, compiled or in a thread",
    ]
    rows: list[tuple[str, ...]] = [
        ("model", "request", "requested", "evaluated", "distance", "fallback", "verdict")
    ]
    for _, results in groupby(sorted(report.results, key=_order(report)), key=lambda r: (r.model, r.request)):
        rows.append(_row(list(results)))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    table = ["  ".join([*map(str.ljust, row[:6], widths), row[6]]) for row in rows]
    findings = [f"finding: {finding}" for finding in report.findings]
    return "\n".join([*head, "", *table, "", *findings, *report.cut, _summary(report)])


def _order(report: VerifyReport) -> Any:
    """By model and request, in the order of their first case."""
    first: dict[tuple[str, str], int] = {}
    for position, result in enumerate(report.results):
        first.setdefault((result.model, result.request), position)
    return lambda result: first[result.model, result.request]


def _row(results: list[CaseResult]) -> tuple[str, ...]:
    """One request in all of its runs; the first bad run is shown, else the largest distance."""
    bad = [result for result in results if not result.ok]
    shown = (bad or results)[0]
    distances = [result.distance for result in (bad or results)]
    verdict = shown.verdict
    if bad:
        where = f" ({_listed(result.run for result in bad)})" if len(bad) < len(results) else ""
        verdict = f"NOT OK{where}: {verdict}"
    return (
        shown.model,
        shown.request,
        _range(result.requested for result in bad[:1] or results),
        _range(result.evaluated for result in bad[:1] or results),
        _shown(None if None in distances else max(d for d in distances if d is not None)),
        "no" if shown.fallback is None else "PyTorch",
        verdict,
    )


def _range(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _listed(runs: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(runs))


def _shown(length: float | None) -> str:
    if length is None:
        return "-"
    return f"{length:.1e}" if length else "0"


def _summary(report: VerifyReport) -> str:
    if report.honoured:
        return (
            "The requested step counts and custom timesteps are honoured "
            f"in these {len(report.results)} runs; other requests did not run."
        )
    bad = len({(r.model, r.request) for r in report.results if not r.ok})
    total = len({(r.model, r.request) for r in report.results})
    return f"{bad} of {total} requests were not honoured."
