"""The command line: parse, call, print.

argparse and not a richer library, because the kit needs nothing but Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from . import __version__, commands
from .errors import KitError, WrongUsage
from .interrupt import Ended, signals_raise
from .report import CANNOT, Outcome, fits_terminal

INTERRUPTED = 130


def run() -> int:
    """The command line in a terminal: one line for Ctrl-C, SIGTERM, SIGHUP, a closed or full output; no traceback."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        with signals_raise():
            status = main()
        sys.stdout.flush()
        return status
    except Ended as error:
        with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"Ended by {error.number.name}. {commands.what_was_written()}", file=sys.stderr, flush=True)
        return 128 + error.number
    except KeyboardInterrupt:
        print(f"Interrupted. {commands.what_was_written()}", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        return _output_failed(error)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    try:
        options = _parser().parse_args(arguments)
        verb: Callable[[argparse.Namespace], Outcome] = options.run
        outcome = verb(options)
    except KitError as error:
        outcome = Outcome(error.exit_status, str(error), {"error": str(error)}, is_error=True)
    except OSError as error:
        text = f"{error.filename or 'The system'}: {error.strerror}. {commands.what_was_written()}"
        outcome = Outcome(CANNOT, text, {"error": text}, is_error=True)
    if as_json:
        print(json.dumps({**outcome.facts, "exit": outcome.status}, indent=2))
    elif outcome.data is not None:
        sys.stdout.flush()
        sys.stdout.buffer.write(outcome.data)
        if outcome.text:
            print(outcome.text, file=sys.stderr)
    elif outcome.text:
        print(fits_terminal(outcome.text), file=sys.stderr if outcome.is_error else sys.stdout)
    return outcome.status


def _output_failed(error: OSError) -> int:
    """Standard output is closed or full; what was written into files has to be said all the same."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not isinstance(error, BrokenPipeError):
        print(f"Standard output: {error.strerror}. {commands.what_was_written()}", file=sys.stderr)
    elif commands.written_files():
        print(commands.what_was_written(), file=sys.stderr)
    return 141 if isinstance(error, BrokenPipeError) else 1


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that `--json` covers wrong usage too."""

    def error(self, message: str) -> NoReturn:
        raise WrongUsage(f"{message}. Usage: {' '.join(self.format_usage().split()[1:])}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="patches",
        description="Three patches that make ACE-Step 1.5's MLX path run the requested number of steps, and a doctor.",
        epilog="Exit status: 0 done, 1 something to apply or not proved, 2 wrong usage, 3 cannot be done.",
    )
    parser.add_argument("--version", action="version", version=f"acestep-lego {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", parser_class=_Parser)
    for run_verb, what in (
        (commands.check, "show which text each file holds; nothing is run"),
        (commands.diff, "print the unified diff that apply would make, for `git apply` in ROOT"),
        (commands.apply, "make the edits of a series: all or none"),
        (commands.revert, "go back to the bytes before apply, where they can be proved"),
        (commands.verify, "run the checkout's three files with a decoder that counts its evaluations"),
        (commands.doctor, "run every check for what LEGO loses in this checkout"),
    ):
        verb = verbs.add_parser(run_verb.__name__, help=what, description=what[0].upper() + what[1:] + ".")
        verb.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds acestep/")
        verb.add_argument("--json", action="store_true", help="print one JSON object")
        verb.set_defaults(run=run_verb)
        if run_verb in (commands.check, commands.diff, commands.apply, commands.revert):
            verb.add_argument(
                "--series",
                metavar="NAME",
                action="append",
                help="`steps` (default), `lego`, or patches of the series lego by name, with commas between",
            )
            verb.add_argument("--list", action=_List, nargs=0, help="list the series and their patches")
        if run_verb is commands.apply:
            verb.add_argument(
                "--verify", action="store_true", help="keep the edits only if a run shows that they work"
            )
        if run_verb is commands.verify:
            _add_verify_options(verb)
        if run_verb in (commands.verify, commands.doctor):
            _add_doctor_options(verb)
    return parser


def _add_verify_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--all", action="store_true", help="the same as the verb doctor")
    verb.add_argument("--steps", metavar="N", type=_count, nargs="+", help="the step counts to request")
    verb.add_argument("--shift", metavar="S", type=float, default=3.0, help="timestep shift (default 3)")


def _add_doctor_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--only", metavar="NAME", action="append", help="run these checks alone (commas between)"
    )
    verb.add_argument(
        "--allow", metavar="NAME", action="append", help="defects that do not fail (commas between)"
    )


class _List(argparse.Action):
    """Prints what `--series` takes; no checkout is needed for that."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(commands.listing())
        parser.exit()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)
