"""What the verbs say: tables, sentences and JSON, and the commands that they recommend."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .checkout import Checkout
from .engine.plan import Plan
from .engine.series import Series
from .engine.states import Conflict, Missing, OtherCode, Patched

DONE, NOT_DONE, CANNOT = 0, 1, 3


@dataclass(frozen=True)
class Outcome:
    """How a verb ended: `status` is the exit status, `facts` is the JSON object, `data` goes to standard output."""

    status: int
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)
    data: bytes | None = None
    is_error: bool = False


def command(*words: str | Path) -> str:
    """A command of this kit as it can be pasted: this interpreter, and paths in quotes where they need them."""
    program = Path(sys.argv[0])
    if program.name == "acestep-lego-patches":
        start = [str(program)]
    elif __package__ == "patches":
        start = [_short(sys.executable), "-m", "patches"]
    else:
        start = [_short(sys.executable), str(Path(__file__).parent)]
    return " ".join(shlex.quote(str(word)) for word in [*start, *words])


def _short(path: str) -> str:
    """Relative to the current directory where the path is below it."""
    try:
        here = os.path.join(os.getcwd(), "")
    except OSError:  # it was deleted
        return path
    return path.removeprefix(here) if path.startswith(here) else path


def fits_terminal(text: str) -> str:
    """Control characters that a file name may hold are shown as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def check_text(checkout: Checkout, series: Series, plan: Plan, notes: Sequence[str]) -> str:
    """One line a patch, then what to run next. Nothing of it says what runs."""
    rows = [("patch", "state", "file", "")]
    rows += [(row.patch.name, row.state.word, row.file, row.state.detail) for row in plan.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    return "\n".join(
        [*table, *notes, f"Together: {plan.word} (read, not run). {next_step(checkout, series, plan)}"]
    )


def check_facts(checkout: Checkout, series: Series, plan: Plan, notes: Sequence[str]) -> dict[str, object]:
    """`check` for machines."""
    patches = [
        {"patch": row.patch.name, "file": row.file, "state": row.state.word, "detail": row.state.detail}
        for row in plan.rows
    ]
    return {
        "root": str(checkout.root),
        "series": series.name,
        "patches": patches,
        "state": plan.word,
        "notes": list(notes),
        "next": next_step(checkout, series, plan),
    }


def check_status(plan: Plan) -> int:
    if plan.having(Conflict):
        return CANNOT
    return NOT_DONE if plan.having(Missing) or plan.having(OtherCode) else DONE


def refusal(checkout: Checkout, series: Series, plan: Plan) -> str:
    """Why nothing is written: each conflict with its reason, and the patches that would go in."""
    reasons = [
        f"{row.file}: {row.patch.name} cannot be applied: {row.state.detail}."
        for row in plan.having(Conflict)
    ]
    fit = ", ".join(row.patch.name for row in plan.having(Missing))
    rest = f" {fit} would go in." if fit else ""
    return " ".join([*reasons, f"All or none: nothing was changed.{rest}", next_step(checkout, series, plan)])


def next_step(checkout: Checkout, series: Series, plan: Plan) -> str:
    """The one command to run next."""
    root = checkout.root
    is_steps = series.name == "steps"
    proof = command("verify", root) if is_steps else command("doctor", root)
    if plan.having(Conflict):
        fit = [row.patch.name for row in plan.rows if isinstance(row.state, Missing)]
        if fit and not is_steps:
            return f"Apply the others: {command('apply', root, '--series', ','.join(fit))}"
        return f"See what runs: {proof}"
    if plan.having(Missing):
        if is_steps:
            return f"Next: {command('apply', '--verify', root)}"
        names = ",".join(row.patch.name for row in plan.having(Missing))
        return f"Next: {command('apply', root, '--series', names)}"
    if plan.having(OtherCode):
        return f"Not proved: run {proof}"
    return (
        f"To see what runs: {proof}"
        if plan.having(Patched)
        else f"Nothing to patch; to see what runs: {proof}"
    )
