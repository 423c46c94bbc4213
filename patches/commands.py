"""The verbs: each takes the parsed options and returns how it ended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .checkout import Checkout, locate
from .engine.diff import prefix_in_repository, unified_diff
from .engine.plan import Plan, Row, make_plan, make_revert
from .engine.series import Series, choose
from .engine.source import Source
from .engine.states import Conflict, Patched
from .engine.write import Change, holds, remove_leftovers, write_all
from .errors import WriteFailed
from .lego import LEGO
from .report import CANNOT, DONE, NOT_DONE, Outcome, check_facts, check_status, check_text, command, refusal
from .steps import STEPS
from .wavelet import note_on_wavelet_correction

ALL_SERIES = (STEPS, LEGO)
_changes: list[Change] = []


def written_files() -> list[str]:
    """The files that this process changed and that hold its text now."""
    return [str(change.path) for change in _changes if holds(change.path, change.after)]


def what_was_written() -> str:
    """What the files of this process hold now, for whoever interrupts it."""
    written = written_files()
    others = [
        str(change.path)
        for change in _changes
        if str(change.path) not in written and not holds(change.path, change.before)
    ]
    said = [f"These files are written: {', '.join(written)}."] if written else []
    said += [_left_alone(others)] if others else []
    return " ".join(said) or "All files are as they were."


def _left_alone(names: Sequence[str]) -> str:
    return f"Changed by something else meanwhile, and left as they are: {', '.join(names)}."


def listing() -> str:
    """The series, their patches, and what each brings about."""
    lines = []
    for series in ALL_SERIES:
        lines.append(f"--series {series.name}: {series.summary}")
        lines += [f"  {patch.name.ljust(10)}  {patch.summary}" for patch in series.patches]
    return "\n".join(lines)


def check(options: argparse.Namespace) -> Outcome:
    checkout, series, plan = _planned(options)
    notes = note_on_wavelet_correction(checkout)
    text = check_text(checkout, series, plan, notes)
    return Outcome(check_status(plan), text, check_facts(checkout, series, plan, notes))


def diff(options: argparse.Namespace) -> Outcome:
    checkout, series, plan = _planned(options)
    if plan.having(Conflict):
        return _refused(checkout, series, plan)
    prefix = prefix_in_repository(checkout.root)
    made = b"".join(
        unified_diff(prefix + source.name, source.data, plan.after[path].data)
        for path, source in plan.before.items()
    )
    facts = {"state": plan.word, "diff": made.decode("utf-8", "surrogateescape")}
    return Outcome(
        DONE, "" if made else f"{checkout.root}: nothing to patch, no difference.", facts, data=made
    )


def apply(options: argparse.Namespace) -> Outcome:
    checkout, series, plan = _planned(options)
    if plan.having(Conflict):
        return _refused(checkout, series, plan)
    remove_leftovers(plan.before)
    if options.verify:
        return _apply_and_verify(checkout, series, plan)
    notes = [*_write(plan.changes), *note_on_wavelet_correction(checkout)]
    names = [checkout.name(change.path) for change in plan.changes]
    proof = command("verify" if series.name == "steps" else "doctor", checkout.root)
    if names:
        lines = [*(f"patched: {name}" for name in names), *notes, f"Patched, not proved: run {proof}"]
    else:
        lines = [*notes, f"{checkout.root}: nothing to patch, nothing was written. To see what runs: {proof}"]
    return Outcome(DONE, "\n".join(lines), {"state": "patched, not proved", "written": names, "notes": notes})


def _apply_and_verify(checkout: Checkout, series: Series, plan: Plan) -> Outcome:
    """Keeps the edits only where a run shows that the step counts and custom timesteps are honoured."""
    from .verify import render_report, verify_checkout

    changes = plan.changes
    try:
        notes = _write(changes)
        report = verify_checkout(checkout.root)
    except BaseException:
        _write_back(changes)
        raise
    others = [checkout.name(path) for path, source in plan.after.items() if not holds(path, source.data)]
    facts = {"notes": notes, "proof": report.to_json()}
    text, names = render_report(report), [checkout.name(change.path) for change in changes]
    if report.honoured and not others:
        notes += note_on_wavelet_correction(checkout)
        kept = [f"kept: {name}" for name in names] or [
            f"{checkout.root}: nothing to patch, nothing was written."
        ]
        facts |= {"state": "proved", "written": names}
        return Outcome(DONE, "\n".join([text, *kept, *notes]), facts)
    back = [f"put back: {name}" for name in names if name not in others]
    _write_back(changes)
    left = [f"{_left_alone(others)} See what they hold: {command('check', checkout.root)}"] if others else []
    facts |= {"state": "not proved", "written": [], "changed_meanwhile": others}
    lines = [text, *(back if names else ["Nothing was written."]), *left]
    return Outcome(CANNOT if report.problem else NOT_DONE, "\n".join(lines), facts, is_error=True)


def revert(options: argparse.Namespace) -> Outcome:
    checkout, series = _chosen(options)
    plan = make_revert(checkout, series)
    remove_leftovers(plan.before)
    changes = list(
        reversed(plan.changes)
    )  # the callers first: a call never passes what is not taken any more
    left = _still_applied(checkout, series)
    notes = [*_write(changes), *plan.notes]
    names = [checkout.name(change.path) for change in changes]
    lines = [f"reverted: {name}" for name in names] or [
        f"{checkout.root}: holds no text of {'this series' if left else 'this kit'}."
    ]
    lines += [
        f"Still applied, of the series {other}: {', '.join(patches)}. To revert them: "
        f"{command('revert', checkout.root, '--series', other)}"
        for other, patches in left.items()
    ]
    facts = {"state": "reverted", "written": names, "notes": notes, "still_applied": left}
    return Outcome(DONE, "\n".join([*lines, *notes]), facts)


def _still_applied(checkout: Checkout, series: Series) -> dict[str, list[str]]:
    """The patches of the other series that the files hold, by series."""
    left = {}
    for other in (one for one in ALL_SERIES if one.name != series.name):
        plan = make_plan(checkout, other)
        sources = {row.patch.name: plan.before.get(checkout.path(row.patch.target)) for row in plan.rows}
        names = [row.patch.name for row in plan.rows if _is_in(row, sources[row.patch.name])]
        if names:
            left[other.name] = names
    return left


def _is_in(row: Row, source: Source | None) -> bool:
    """Whether the file holds the patch, edited since or not."""
    return isinstance(row.state, Patched) or (source is not None and row.patch.is_in(source))


def verify(options: argparse.Namespace) -> Outcome:
    if options.all:
        return doctor(options)
    from .verify import render_report, verify_checkout
    from .verify.run import STEPS

    report = verify_checkout(options.root, steps=options.steps or STEPS, shift=options.shift)
    status = CANNOT if report.problem else DONE if report.honoured else NOT_DONE
    return Outcome(status, render_report(report), report.to_json())


def doctor(options: argparse.Namespace) -> Outcome:
    from .doctor.registry import select
    from .doctor.report import examine, render

    allowed = [check.name for check in select(options.allow)] if options.allow else []
    report = examine(options.root, options.only)
    return Outcome(report.exit_status(allowed), render(report, allowed), report.to_json())


def _chosen(options: argparse.Namespace) -> tuple[Checkout, Series]:
    series = choose(ALL_SERIES, options.series or [STEPS.name])
    return locate(options.root), series


def _planned(options: argparse.Namespace) -> tuple[Checkout, Series, Plan]:
    checkout, series = _chosen(options)
    return checkout, series, make_plan(checkout, series)


def _refused(checkout: Checkout, series: Series, plan: Plan) -> Outcome:
    text = refusal(checkout, series, plan)
    facts = {**check_facts(checkout, series, plan, []), "error": text}
    return Outcome(CANNOT, text, facts, is_error=True)


def _write(changes: Sequence[Change]) -> list[str]:
    _changes.extend(changes)
    return write_all(changes)


def _write_back(changes: Sequence[Change]) -> None:
    """Puts back every file that still holds what was written. Raises WriteFailed where the system refuses that."""
    try:
        write_all([change.undone for change in reversed(changes) if holds(change.path, change.after)])
    except WriteFailed as error:
        raise WriteFailed(
            error.reason,
            f"The edits are not proved, and putting the files back failed. {what_was_written()} When the disk takes "
            "writes again, run `revert`.",
        ) from error
