"""Runs the checks on a checkout, and shows their findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkout import locate
from ..engine.plan import make_plan
from ..harness.process import ChildResult, Limits, run_module
from ..report import command
from ..steps import STEPS
from .finding import DEFECT, FINE, SKIPPED, Finding, skipped
from .registry import APPLY, Check, select

TIME_LIMIT = 180.0
NOTHING_LEFT = {  # states in which `apply` writes nothing
    "patched": "the patches are applied",
    "nothing to patch": "there is nothing to patch",
    "other code": "there is nothing to patch",
}


@dataclass(frozen=True)
class Report:
    """One finding for each check that was run; `problem` says why none could be.

    patches: the state of the series `steps`, as `check` gives it in one word.
    """

    root: Path
    versions: dict[str, str]
    findings: tuple[tuple[Check, Finding], ...]
    problem: str | None = None
    patches: str = ""

    def names(self, verdict: str) -> list[str]:
        """The checks with this verdict, in their order."""
        return [check.name for check, finding in self.findings if finding.verdict == verdict]

    @property
    def defects(self) -> list[str]:
        return self.names(DEFECT)

    def exit_status(self, allowed: Collection[str] = ()) -> int:
        """0 where every check is fine or allowed, 1 where one is a defect or was skipped, 3 where none could be run."""
        if self.problem is not None:
            return 3
        return int(any(name not in allowed for name in self.defects + self.names(SKIPPED)))

    def remedy(self, check: Check) -> str:
        """What to do about a defect."""
        if check.remedy == APPLY and self.patches in NOTHING_LEFT:
            verify = command("verify", self.root)
            return (
                f"{NOTHING_LEFT[self.patches]}, and other code decides the steps; to see which, run {verify}"
            )
        apply = command("apply", self.root)
        return check.remedy.format(apply=apply, series=f"{apply} --series lego")

    def to_json(self) -> dict[str, Any]:
        checks = [
            {**asdict(check), "remedy": self.remedy(check), **finding.to_json()}
            for check, finding in self.findings
        ]
        return {
            "root": str(self.root),
            "versions": self.versions,
            "checks": checks,
            "defects": self.defects,
            "skipped": self.names(SKIPPED),
            "problem": self.problem,
        }


def examine(root: Path, only: Iterable[str] | None = None, time_limit: float = TIME_LIMIT) -> Report:
    """Runs the checks named in `only`, or all, on the checkout below `root`, in a child process.

    Raises KitError for a name that no check has, and for a root that holds no checkout.
    """
    checks = select(only)
    checkout = locate(root)
    files = {
        "execute": checkout.execute,
        "diffusion": checkout.diffusion,
        "generate": checkout.generate,
    }
    request = {
        "root": str(root.absolute()),
        "files": {role: str(path.absolute()) for role, path in files.items()},
        "checks": [check.name for check in checks],
    }
    state = make_plan(checkout, STEPS).word
    return _report(root, checks, run_module("doctor.probe", request, Limits(time_limit)), state)


def _report(root: Path, checks: tuple[Check, ...], child: ChildResult, state: str) -> Report:
    head = child.answers[0] if child.answers else {}
    end = f"the child process {child.end or 'ended too early'}"
    if "versions" not in head:
        return Report(root, {}, (), head.get("cannot") or end)
    found = {line.get("name"): Finding.from_json(line.get("finding")) for line in child.answers[1:]}
    missing = skipped(end)
    findings = tuple((check, found.get(check.name) or missing) for check in checks)
    return Report(root, head["versions"], findings, patches=state)


def render(report: Report, allowed: Collection[str] = ()) -> str:
    """A table with one row for each check, and what to do about the defects; where some are allowed, which are not."""
    if report.problem is not None:
        return f"{report.root} cannot be probed, because {report.problem}"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    rows = [_row(check, finding) for check, finding in report.findings]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    table = ["  ".join([*map(str.ljust, row[:2], widths), row[2]]) for row in rows]
    head = f"{report.root}: LEGO, run with fakes for the models ({versions})"
    note = "Only the check dcw leaves the wavelet correction at the checkout's default; all others switch it off."
    return "\n".join([head, note, "", *table, "", *_ending(report, allowed)])


def _row(check: Check, finding: Finding) -> tuple[str, str, str]:
    states = f"[upstream: {check.upstream}]"
    if finding.verdict == SKIPPED:
        return check.name, SKIPPED, f"because {finding.observed}  {states}"
    text = f"requested: {finding.requested}; observed: {finding.observed}"
    if finding.verdict == DEFECT:
        text += f"; in {finding.where}"
    return check.name, finding.verdict, f"{text}  {states}"


def _ending(report: Report, allowed: Collection[str]) -> list[str]:
    defects, not_run = report.defects, report.names(SKIPPED)
    lines = [
        f"{len(report.findings)} checks: {len(report.names(FINE))} fine, {len(defects)} defects, "
        f"{len(not_run)} skipped."
    ]
    excused = [name for name in defects + not_run if name in allowed]
    if excused:
        lines.append(f"Allowed, and not counted in the exit status: {', '.join(excused)}.")
    remedies: dict[str, list[str]] = {}
    for check, finding in report.findings:
        if finding.verdict == DEFECT:
            remedies.setdefault(report.remedy(check), []).append(check.name)
    lines += [f"{', '.join(names)}: {remedy}" for remedy, names in remedies.items()]
    others = [name for name in defects + not_run if name not in allowed]
    if allowed and others:  # last, where the log of a CI run ends
        lines.append(f"Not allowed: {', '.join(others)}.")
    return lines
