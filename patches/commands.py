"""The verbs: each takes the parsed options and returns how it ended."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .checkout import Checkout, locate
from .engine.diff import prefix_in_repository, unified_diff
from .engine.plan import Plan, make_plan, make_revert
from .engine.series import Series, choose
from .engine.states import Conflict
from .engine.write import Change, holds, remove_leftovers, write_all
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
    """One sentence for whoever interrupts the process."""
    names = written_files()
    return f"These files are written: {', '.join(names)}." if names else "All files are as they were."


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
        keep = report.honoured
    except BaseException:
        _write_back(changes)
        raise
    names = [checkout.name(change.path) for change in changes]
    facts = {"written": names if keep else [], "notes": notes, "proof": report.to_json()}
    if keep:
        notes += note_on_wavelet_correction(checkout)
        what = [f"kept: {name}" for name in names] or [
            f"{checkout.root}: nothing to patch, nothing was written."
        ]
        return Outcome(DONE, "\n".join([render_report(report), *what, *notes]), {**facts, "state": "proved"})
    _write_back(changes)
    back = "Not kept: every file is as it was before." if changes else "Nothing was written."
    status = CANNOT if report.problem else NOT_DONE
    return Outcome(
        status, "\n".join([render_report(report), back]), {**facts, "state": "not proved"}, is_error=True
    )


def revert(options: argparse.Namespace) -> Outcome:
    checkout, series = _chosen(options)
    plan = make_revert(checkout, series)
    remove_leftovers(plan.before)
    changes = list(
        reversed(plan.changes)
    )  # the callers first: a call never passes what is not taken any more
    notes = [*_write(changes), *plan.notes]
    names = [checkout.name(change.path) for change in changes]
    lines = [f"reverted: {name}" for name in names] or [f"{checkout.root}: holds no text of this kit."]
    return Outcome(DONE, "\n".join([*lines, *notes]), {"state": "reverted", "written": names, "notes": notes})


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
    """Every byte of the files that were written; a file that somebody changed since is named and left."""
    write_all([change.undone for change in reversed(changes) if holds(change.path, change.after)])
