"""`check`, `diff`, `apply` and `revert` with `--series`: the same contract as for the three patches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ..checkout import Checkout, locate
from ..outcomes import NotApplicable
from ..unified import prefix_in_repository, unified_diff
from ..write import Change, write_all
from .series import PATCHES, SERIES_NAME, SeriesPlan, chosen, make_series_plan, take_out

DONE, TO_APPLY, CANNOT = 0, 1, 3
Say = Callable[[argparse.Namespace, str, object], None]
Fail = Callable[[argparse.Namespace, str, int], int]


def listing() -> str:
    """The patches by name, and what each brings about."""
    width = max(len(patch.NAME) for patch in PATCHES)
    rows = [f"  {patch.NAME.ljust(width)}  {patch.WHAT}" for patch in PATCHES]
    return "\n".join([f"--series {SERIES_NAME} is all of these; any can be named by itself:", *rows])


def check(options: argparse.Namespace, say: Say) -> int:
    _, plan = _planned(options)
    say(options, _table(options, plan), _facts(plan))
    if not plan.applicable:
        return CANNOT
    return DONE if plan.applied else TO_APPLY


def diff(options: argparse.Namespace, say: Say, fail: Fail) -> int:
    checkout, plan = _planned(options)
    if not plan.applicable:
        return fail(options, _refusal(options, plan), CANNOT)
    prefix = prefix_in_repository(checkout.root)
    made = b"".join(
        unified_diff(prefix + source.name, source.data, plan.after[path].data)
        for path, source in plan.before.items()
    )
    if options.json:
        say(options, "", {"state": _word(plan), "diff": made.decode("utf-8", "replace")})
        return DONE
    sys.stdout.flush()
    sys.stdout.buffer.write(made)
    if plan.applied:
        print(f"{checkout.root}: already applied, no difference.", file=sys.stderr)
    return DONE


def apply(options: argparse.Namespace, say: Say, fail: Fail) -> int:
    checkout, plan = _planned(options)
    if not plan.applicable:
        return fail(options, _refusal(options, plan), CANNOT)
    names = _write(checkout, plan)
    if names:
        lines = [f"applied: {name}" for name in names]
        text = "\n".join([*lines, f"Next: python -m patches verify {checkout.root} --all"])
    else:
        text = f"{checkout.root}: already applied, nothing was written."
    say(options, text, {"state": "applied", "written": names})
    return DONE


def revert(options: argparse.Namespace, say: Say) -> int:
    checkout = locate(options.root)
    names = _write(checkout, take_out(checkout, chosen(options.series)))
    text = "\n".join(f"reverted: {name}" for name in names)
    text = text or f"{checkout.root}: nothing of this series to revert."
    say(options, text, {"state": "reverted", "written": names})
    return DONE


def _planned(options: argparse.Namespace) -> tuple[Checkout, SeriesPlan]:
    patches = chosen(options.series)
    checkout = locate(options.root)
    return checkout, make_series_plan(checkout, patches)


def _write(checkout: Checkout, plan: SeriesPlan) -> list[str]:
    changes = [
        Change(path, source.data, plan.after[path].data)
        for path, source in plan.before.items()
        if plan.after[path].data != source.data
    ]
    write_all(changes)
    return [checkout.name(change.path) for change in changes]


def _table(options: argparse.Namespace, plan: SeriesPlan) -> str:
    rows = [("patch", "state", "file", "")]
    rows += [(row.patch.NAME, row.state.word, row.name, row.state.detail) for row in plan.rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*map(str.ljust, row[:3], widths), row[3]]).rstrip() for row in rows]
    return "\n".join([*lines, f"together: {_word(plan)}. {_next(options, plan)}"])


def _facts(plan: SeriesPlan) -> dict[str, object]:
    rows = [
        {"patch": row.patch.NAME, "file": row.name, "state": row.state.word, "detail": row.state.detail}
        for row in plan.rows
    ]
    return {"patches": rows, "state": _word(plan)}


def _word(plan: SeriesPlan) -> str:
    if plan.applied:
        return "applied"
    return "not applied" if plan.applicable else "not applicable"


def _next(options: argparse.Namespace, plan: SeriesPlan) -> str:
    if not plan.applicable:
        fit = [row.patch.NAME for row in plan.rows if not isinstance(row.state, NotApplicable)]
        asked = f"python -m patches apply {options.root} --series {','.join(fit)}"
        return (
            f"The others by name: {asked}" if fit else f"See: python -m patches verify {options.root} --all"
        )
    if plan.applied:
        return f"Nothing to apply; see it run: python -m patches verify {options.root} --all"
    return f"Next: python -m patches apply {options.root} --series {','.join(options.series)}"


def _refusal(options: argparse.Namespace, plan: SeriesPlan) -> str:
    reasons = [
        f"{row.name}: expected the place for `{row.patch.NAME}` as upstream has it, found: {row.state.detail}."
        for row in plan.rows
        if isinstance(row.state, NotApplicable)
    ]
    return " ".join([*reasons, "All or none: nothing was changed.", _next(options, plan)])
