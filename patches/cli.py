"""`python -m patches VERB ROOT`: parse, call, print.

argparse and not a richer library: `--steps 8 27 50` is one option with many values, and the text verbs need
nothing but LibCST.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .checkout import Checkout, locate
from .errors import KitError
from .outcomes import NotApplied, Role
from .plan import WRITE_ORDER, Plan, make_plan, read_files
from .report import check_json, check_text, refusal
from .revert import REVERT_ORDER, make_revert
from .unified import prefix_in_repository, unified_diff
from .write import Change, write_all

DONE, TO_APPLY, CANNOT = 0, 1, 3


def run() -> int:
    """The command line in a terminal: no traceback for a closed pipe, for Ctrl-C, or for a name beyond UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("Interrupted; all files are as they were.", file=sys.stderr)
        return 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns 0 done, 1 something to apply (check), 2 wrong usage, 3 cannot be applied."""
    options = _parser().parse_args(argv)
    verb: Callable[[argparse.Namespace], int] = options.run
    try:
        return verb(options)
    except KitError as error:
        return _failed(options, str(error), error.exit_status)


def check(options: argparse.Namespace) -> int:
    if options.series:
        from .lego import verbs

        return verbs.check(options, _say)
    checkout, plan = _planned(options)
    _say(options, check_text(checkout, plan), check_json(plan))
    if not plan.applicable:
        return CANNOT
    return DONE if plan.applied else TO_APPLY


def diff(options: argparse.Namespace) -> int:
    if options.series:
        from .lego import verbs

        return verbs.diff(options, _say, _failed)
    checkout, plan = _planned(options)
    if not plan.applicable:
        return _failed(options, refusal(checkout, plan), CANNOT)
    prefix = prefix_in_repository(checkout.root)
    pairs = [(plan.before[role], plan.after[role]) for role in Role]
    made = b"".join(unified_diff(prefix + before.name, before.data, after.data) for before, after in pairs)
    if options.json:
        state = "applied" if plan.applied else "not applied"
        _say(options, "", {"state": state, "diff": made.decode("utf-8", "replace")})
        return DONE
    sys.stdout.flush()
    sys.stdout.buffer.write(made)
    if plan.applied:
        print(f"{checkout.root}: already applied, no difference.", file=sys.stderr)
    return DONE


def apply(options: argparse.Namespace) -> int:
    if options.series:
        from .lego import verbs

        return verbs.apply(options, _say, _failed)
    checkout, plan = _planned(options)
    if not plan.applicable:
        return _failed(options, refusal(checkout, plan), CANNOT)
    changes = [
        _change(checkout, plan, role) for role in WRITE_ORDER if isinstance(plan.states[role], NotApplied)
    ]
    write_all(changes)
    names = [checkout.name(change.path) for change in changes]
    if not names:
        text = f"{checkout.root}: already applied, nothing was written."
    else:
        text = "\n".join(
            [f"applied: {name}" for name in names] + [f"Next: python -m patches verify {checkout.root}"]
        )
    _say(options, text, {"state": "applied", "written": names})
    return DONE


def revert(options: argparse.Namespace) -> int:
    if options.series:
        from .lego import verbs

        return verbs.revert(options, _say)
    checkout = locate(options.root)
    files = read_files(checkout)
    before = make_revert(files)
    paths = _paths(checkout)
    changes = [
        Change(paths[role], files[role].data, before[role].data)
        for role in REVERT_ORDER
        if before[role].data != files[role].data
    ]
    write_all(changes)
    names = [checkout.name(change.path) for change in changes]
    text = (
        "\n".join(f"reverted: {name}" for name in names) or f"{checkout.root}: nothing of this kit to revert."
    )
    _say(options, text, {"state": "reverted", "written": names})
    return DONE


def verify(options: argparse.Namespace) -> int:
    if options.all:
        return _doctor(options)
    from .verify.report import render_report, verify_checkout  # torch and mlx only for this verb

    report = verify_checkout(
        options.root, steps=tuple(options.steps), shift=options.shift, guidance_scale=options.guidance_scale
    )
    _say(options, "" if options.json else render_report(report), report.to_json())
    if report.problem:
        return CANNOT
    return DONE if report.ok else TO_APPLY


def _doctor(options: argparse.Namespace) -> int:
    from .doctor.report import examine, render

    report = examine(options.root)
    _say(options, "" if options.json else render(report), report.to_json())
    if report.problem:
        return CANNOT
    return TO_APPLY if report.defects else DONE


def _planned(options: argparse.Namespace) -> tuple[Checkout, Plan]:
    checkout = locate(options.root)
    return checkout, make_plan(read_files(checkout))


def _paths(checkout: Checkout) -> dict[Role, Path]:
    return dict(zip(Role, (checkout.execute, checkout.diffusion, checkout.generate), strict=True))


def _change(checkout: Checkout, plan: Plan, role: Role) -> Change:
    return Change(_paths(checkout)[role], plan.before[role].data, plan.after[role].data)


def _say(options: argparse.Namespace, text: str, facts: object) -> None:
    print(json.dumps(facts, indent=2) if options.json else text)


def _failed(options: argparse.Namespace, message: str, status: int) -> int:
    if options.json:
        print(json.dumps({"error": message, "exit": status}, indent=2))
    else:
        print(message, file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m patches",
        description="Three surgical patches that make ACE-Step 1.5's MLX path take the asked-for steps.",
        epilog="Exit status: 0 done (check: all applied), 1 something to apply, 2 wrong usage, 3 cannot be applied.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for run, what in (
        (check, "say of each of the three sites whether it is applied"),
        (diff, "print the unified diff that apply would make, fit for `git apply` in ROOT"),
        (apply, "make the three edits: all or none"),
        (revert, "go back to the bytes before apply, where that can be proved"),
        (verify, "run the checkout's three files with a decoder that only counts"),
    ):
        verb = verbs.add_parser(run.__name__, help=what, description=what[0].upper() + what[1:] + ".")
        verb.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds acestep/")
        verb.add_argument("--json", action="store_true", help="print one JSON object")
        verb.set_defaults(run=run)
        if run is not verify:
            verb.add_argument(
                "--series",
                metavar="NAME",
                action="append",
                help="instead of the three: `lego`, or patches of that series by name, with commas between",
            )
            verb.add_argument("--list", action=_List, nargs=0, help="list the series' patches and stop")
    verb.add_argument(
        "--all", action="store_true", help="look for every known way in which LEGO is not what was asked for"
    )
    verb.add_argument(
        "--steps", metavar="N", type=_count, nargs="+", default=[8, 27, 50], help="steps to ask for"
    )
    verb.add_argument("--shift", metavar="S", type=float, default=3.0, help="timestep shift (default 3)")
    verb.add_argument(
        "--guidance-scale", metavar="G", type=float, default=1.0, help="guidance (default 1: off)"
    )
    return parser


class _List(argparse.Action):
    """Prints what `--series` takes; no checkout is needed for that."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from .lego.verbs import listing

        print(listing())
        parser.exit()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)
