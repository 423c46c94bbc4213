"""The sentences of a run on the screen. What they quote is never taken for markup."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from smoke import words
from smoke.compare import FULL, Comparison
from smoke.folder import RunFolder
from smoke.judge import verdict_on_quantised
from smoke.request import RECOMMENDED, SWEPT, Request, shown
from smoke.run import Run
from smoke.stem import Stem, farthest, labels_of

SCRIPT = Path(__file__).resolve().parent.parent / "lego_smoke.py"


def line(console: Console, *parts: str | tuple[str, str]) -> None:
    """One line, however narrow the terminal is; a part with a style is (text, style)."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def introduction(requests: Sequence[Request]) -> str:
    """What is about to be run."""
    first = requests[0]
    tracks = list(dict.fromkeys(request.track for request in requests))
    seeds = len({request.seed for request in requests})

    def values(name: str) -> str:
        return ", ".join(dict.fromkeys(shown(getattr(request, name)) for request in requests))

    weights = first.checkpoint.name if first.checkpoint else "tiny random weights (noise, not music)"
    names = ", ".join(tracks) if first.layer is None else f"layers {', '.join(labels_of(requests))}"
    return (
        f"{names} for {first.context.name}, {f'{seeds} seeds, ' if seeds > 1 else ''}{values('steps')} steps, "
        f"guidance {values('guidance_scale')}, shift {values('shift')}, {first.backend}, {weights}"
    )


def settings(requests: Sequence[Request], is_fork: bool) -> str | None:
    """What upstream recommends for LEGO, what of it is set otherwise, and what is worth giving besides.

    None on random weights, where nothing changes the noise. is_fork: a checkout words its own instruction and has
    its own default for the language model.
    """
    if requests[0].checkpoint is None:
        return None
    values = [f"{SWEPT[name]} {shown(value)}" for name, value in RECOMMENDED.items()]
    if is_fork:
        values += ["the track in upper case", "no language model"]
    others = dict.fromkeys(
        f"{SWEPT[name]} {shown(getattr(request, name))}"
        for name, value in RECOMMENDED.items()
        for request in requests
        if getattr(request, name) != value
    )
    found = f"this run has {', '.join(others)}" if others else "so does this run"
    missing = [
        option
        for option, name in (("--bpm", "bpm"), ("--key", "key"))
        if any(not getattr(request, name) for request in requests)
    ]
    worth = f"; worth giving: {' and '.join(missing)} of the song" if missing else ""
    return f"upstream recommends {', '.join(values)} for LEGO; {found}{worth}"


def comparing(comparison: Comparison, runs: Sequence[Run]) -> str:
    """What is compared, where, and how long it is expected to take."""
    counts = [comparison.evaluations(run) for run in runs]
    how = (
        "all steps"
        if comparison.mode == FULL
        else f"{max(counts)} of {max(run.requested for run in runs)} steps"
    )
    expected = words.seconds(comparison.expected_seconds(runs))
    return f"comparing with PyTorch at {how} on {comparison.device}, expected {expected} and loading"


def again(folder: Path) -> str:
    """The command that goes on with an unfinished run or repeats a finished one; it can be pasted."""
    return shlex.join([os.path.relpath(sys.executable), os.path.relpath(SCRIPT), "--again", str(folder)])


def encodings(counts: Mapping[str, int]) -> str:
    """How often contexts and prompts were encoded, counted at the encoders."""
    return f"encodings: {', '.join(f'{part} {count}' for part, count in counts.items())}"


def findings(console: Console, stems: Sequence[Stem]) -> None:
    """The checks that fail, of each stem, and the notes."""
    for stem in stems:
        of = f"{stem.label}: " if len(stems) > 1 else ""
        for check in stem.checks:
            if not check.holds:
                line(console, (f"{of}{check.name}", "bold red"), f": {check.sentence}")
    for note in dict.fromkeys(note for stem in stems for note in stem.run.notes):
        line(console, f"note: {note}")


VERDICTS = {0: ("PASS", "green"), 1: ("FAIL", "red"), 3: ("INCOMPLETE", "yellow")}


def verdict(
    console: Console,
    status: int,
    stems: Sequence[Stem],
    not_compared: str,
    folder: RunFolder,
    gains: Mapping[str, float],
) -> None:
    """The meaning of the exit status, of several stems how many fail, what was not compared, and the files."""
    bad = sum(not stem.good for stem in stems)
    of = f" for {bad} of {len(stems)} stems" if bad and len(stems) > 1 else ""
    without = f", not compared with PyTorch ({not_compared})" if not_compared else ""
    shown = farthest(stems)
    words = verdict_on_quantised(shown.run, shown.row[-1])
    of += f", {words}" if words else ""
    line(console, VERDICTS[status], f"{of}{without}; in {folder.path}: {files(stems, gains)}")


def files(stems: Sequence[Stem], gains: Mapping[str, float]) -> str:
    """The files of a run."""
    over = (
        "stem over context"
        if stems[0].request.layer is None and len(stems) == len(gains)
        else "stems over context"
    )
    named = [stems[0].file] if len(stems) == 1 else [f"{len(stems)} stems (stem-*.wav)"]
    named += [f"{file} ({over}, gain {gain:.2f})" for file, gain in gains.items()]
    return ", ".join([*named, "report.json", "report.html"])
