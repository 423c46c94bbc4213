"""Has a checkout looked at, and shows the doctor's table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkout import locate
from ..harness.process import Talk, run_module
from .line import DEFECT, FINE, UNSEEN, Finding, Line, unseen

TIME_LIMIT = 180.0


@dataclass(frozen=True)
class Report:
    """One finding for each line; `problem` says why nothing at all could be looked at."""

    root: Path
    versions: dict[str, str]
    lines: tuple[tuple[Line, Finding], ...]
    problem: str | None = None

    @property
    def defects(self) -> list[str]:
        return self.having(DEFECT)

    def having(self, verdict: str) -> list[str]:
        return [line.name for line, finding in self.lines if finding.verdict == verdict]

    def to_json(self) -> dict[str, Any]:
        lines = [{**vars(line), **finding.to_json()} for line, finding in self.lines]
        for line in lines:
            line["remedy"] = line["remedy"].format(root=self.root)
        return {
            "root": str(self.root),
            "versions": self.versions,
            "lines": lines,
            "defects": self.defects,
            "cannot_be_looked_at": self.having(UNSEEN),
            "problem": self.problem,
        }


def examine(root: Path, time_limit: float = TIME_LIMIT) -> Report:
    """The doctor's table of the checkout below `root`. Raises KitError for a root that holds no checkout."""
    checkout = locate(root)
    files = {
        "execute": checkout.execute,
        "diffusion": checkout.diffusion,
        "generate": checkout.generate,
    }
    request = {
        "root": str(root.absolute()),
        "files": {role: str(path.absolute()) for role, path in files.items()},
    }
    return _report(root, run_module("doctor.probe", request, time_limit))


def _report(root: Path, talk: Talk) -> Report:
    told = _objects(talk.output)
    head = told[0] if told else {}
    if "lines" not in head:
        return Report(root, {}, (), head.get("cannot") or f"the probe {talk.end}")
    findings = {one["name"]: Finding.from_json(one["finding"]) for one in told[1:] if "finding" in one}
    lines = [Line(**line) for line in head["lines"]]
    lost = unseen(f"the probe {talk.end}")
    return Report(root, head["versions"], tuple((line, findings.get(line.name, lost)) for line in lines))


def _objects(output: str) -> list[dict[str, Any]]:
    """The whole lines of the answer; the last one may have been cut off with the process."""
    told = []
    for line in output.splitlines():
        try:
            told.append(json.loads(line))
        except ValueError:
            break
    return told


def render(report: Report) -> str:
    """One line for each known defect, and what to do about those that are there."""
    if report.problem is not None:
        return f"{report.root} cannot be probed, because {report.problem}"
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    rows = [_row(line, finding) for line, finding in report.lines]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    table = ["  ".join([*map(str.ljust, row[:2], widths), row[2]]) for row in rows]
    return "\n".join(
        [
            f"{report.root}: LEGO, run with stand-ins for the models ({versions})",
            "",
            *table,
            "",
            *_ending(report),
        ]
    )


def _row(line: Line, finding: Finding) -> tuple[str, str, str]:
    had = f"[upstream: {line.since or 'the start'} to {line.until or 'its newest known state'}]"
    if finding.verdict == UNSEEN:
        return line.name, UNSEEN, f"because {finding.got}  {had}"
    how = " (by reading)" if finding.by_reading else ""
    text = f"asked: {finding.asked}; got: {finding.got}{how}"
    if finding.verdict == DEFECT:
        text += f"; in {finding.where}"
    return line.name, finding.verdict, f"{text}  {had}"


def _ending(report: Report) -> list[str]:
    defects, unlooked = report.defects, report.having(UNSEEN)
    count = f"{len(report.lines)} lines: {len(report.having(FINE))} fine, {len(defects)} defects, "
    ending = [count + f"{len(unlooked)} that cannot be looked at."]
    remedies: dict[str, list[str]] = {}
    for line, finding in report.lines:
        if finding.verdict == DEFECT:
            remedies.setdefault(line.remedy.format(root=report.root), []).append(line.name)
    ending += [f"{', '.join(names)}: {remedy}" for remedy, names in remedies.items()]
    return ending
