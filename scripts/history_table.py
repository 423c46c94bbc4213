"""The doctor's verdicts on upstream's states, from anybody's clone of ACE-Step 1.5.

usage: python scripts/history_table.py CLONE [--revision REV] [--out FILE.md]
       python scripts/history_table.py CLONE [--revision REV] --newest FILE.md

The first form examines the states that the registry of checks names, the commit before each of them, and the newest
one; it writes the table, docs/doctor-history.md if no other file is named, and compares it with the registry. The
second form examines the newest state alone, and compares it with the last column of a stored table.

Exit status: 0 all as the registry or the stored table has it, 1 not, 2 wrong usage, 3 a state cannot be examined.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sweep_history import extract, git

from patches.checkout import EXECUTE
from patches.doctor.finding import DEFECT, FINE, SKIPPED
from patches.doctor.registry import CHECKS, NEVER, Check
from patches.doctor.report import Report, examine

OUT = Path(__file__).resolve().parent.parent / "docs" / "doctor-history.md"
MARKS = {FINE: ".", DEFECT: "D", SKIPPED: "?"}
COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Column:
    """One state: its commit, its date, and the mark of each check by name."""

    commit: str
    date: str
    marks: Mapping[str, str]


def boundaries() -> list[str]:
    """The commits that the registry names as the beginning or the end of a defect."""
    named = [COMMIT.match(text) for check in CHECKS for text in (check.since, check.until)]
    return list(dict.fromkeys(found.group() for found in named if found))


def states(clone: Path, revision: str) -> list[str]:
    """Full hashes, oldest first: the registry's commits and their parents as far as `revision` has them, and itself."""
    wanted = [name for commit in boundaries() for name in (commit, f"{commit}^")]
    found = {git(clone, "rev-parse", revision).decode().strip()}
    for name in wanted:
        done = subprocess.run(
            ["git", "-C", str(clone), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 and holds(clone, done.stdout.strip(), revision):
            found.add(done.stdout.strip())
    with_files = [commit for commit in found if git(clone, "ls-tree", commit, "--", EXECUTE.as_posix())]
    walked = git(clone, "rev-list", "--topo-order", "--reverse", revision).decode().split()
    return sorted(with_files, key=walked.index)


def holds(clone: Path, commit: str, state: str) -> bool:
    """Whether `commit` is part of the history of `state`."""
    done = subprocess.run(
        ["git", "-C", str(clone), "merge-base", "--is-ancestor", commit, state],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def examined(clone: Path, commit: str) -> Column:
    """Raises SystemExit with status 3 where nothing of the state can be run."""
    with tempfile.TemporaryDirectory() as name:
        extract(clone, commit, "", Path(name), b"\n")
        report: Report = examine(Path(name))
    if report.problem is not None:
        print(f"{commit[:7]} cannot be examined, because {report.problem}", file=sys.stderr)
        raise SystemExit(3)
    print(f"examined {commit[:7]}", file=sys.stderr)
    date = git(clone, "log", "-1", "--format=%cs", commit).decode().strip()
    marks = {check.name: MARKS[finding.verdict] for check, finding in report.findings}
    return Column(commit[:7], date, marks)


def expected(clone: Path, check: Check, commit: str) -> bool:
    """Whether the registry says that this state has the defect."""
    since, until = COMMIT.match(check.since), COMMIT.match(check.until)
    if check.since == NEVER or (since and not holds(clone, since.group(), commit)):
        return False
    return not (until and holds(clone, until.group(), commit))


def differences(clone: Path, columns: Sequence[Column]) -> list[str]:
    """Where a verdict is not the registry's; a skipped check contradicts nothing."""
    return [
        f"{column.commit} {check.name}: the registry says {MARKS[DEFECT] if has else MARKS[FINE]}, found {mark}"
        for column in columns
        for check in CHECKS
        for has, mark in [(expected(clone, check, column.commit), column.marks[check.name])]
        if mark != MARKS[SKIPPED] and (mark == MARKS[DEFECT]) != has
    ]


def table(columns: Sequence[Column]) -> str:
    """Checks by states, in Markdown."""
    rows = [
        ["check", *(f"{column.commit} {column.date}" for column in columns)],
        ["---"] * (len(columns) + 1),
        *([check.name, *(column.marks[check.name] for column in columns)] for check in CHECKS),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(columns: Sequence[Column]) -> str:
    return (
        "# The doctor on upstream's states\n\n"
        "Written by `scripts/history_table.py` from a clone of ACE-Step 1.5: the commits that the registry names as\n"
        "the beginning or the end of a defect, the commit before each, and the newest state that was at hand.\n"
        "`D` is a defect, `.` is fine, `?` is skipped.\n\n"
        f"{table(columns)}\n"
    )


def stored_marks(text: str) -> dict[str, str]:
    """The last column of a stored table."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return {row[0]: row[-1] for row in rows[1:] if row[-1] in MARKS.values()}


def changes(stored: Mapping[str, str], column: Column) -> list[str]:
    """The checks whose mark is not the stored one, or that only one side has."""
    return [
        f"{name}: {stored.get(name, 'nothing')} before, {column.marks.get(name, 'nothing')} at {column.commit}"
        for name in dict.fromkeys([*stored, *column.marks])
        if stored.get(name) != column.marks.get(name)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", metavar="CLONE", type=Path, help="a clone of ACE-Step 1.5 (bare or not)")
    parser.add_argument("--revision", default="HEAD", help="the newest state (default HEAD)")
    parser.add_argument("--out", metavar="FILE.md", type=Path, default=OUT, help="where the table is written")
    parser.add_argument(
        "--newest", metavar="FILE.md", type=Path, help="compare the newest state with a stored table"
    )
    options = parser.parse_args(arguments)
    try:
        found = compare_newest(options) if options.newest else write_table(options)
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except subprocess.CalledProcessError as error:  # git has said why
        parser.error(
            f"{' '.join(map(str, error.cmd))} failed; expected a clone with the revision {options.revision}"
        )
    print("\n".join(found) if found else "no difference")
    return int(bool(found))


def compare_newest(options: argparse.Namespace) -> list[str]:
    stored = stored_marks(options.newest.read_text(encoding="utf-8"))
    commit = git(options.clone, "rev-parse", options.revision).decode().strip()
    return changes(stored, examined(options.clone, commit))


def write_table(options: argparse.Namespace) -> list[str]:
    columns = [examined(options.clone, commit) for commit in states(options.clone, options.revision)]
    options.out.write_text(page(columns), encoding="utf-8")
    print(table(columns))
    return differences(options.clone, columns)


if __name__ == "__main__":
    sys.exit(main())
