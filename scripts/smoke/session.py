"""The smoke run from request to report."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from acestep.errors import BackendError
from blas import openblas_environment
from smoke.before import reverted_copy
from smoke.checkout import Checkout, prepare, with_context_note
from smoke.output import publish, workspace
from smoke.process import run_all
from smoke.progress import showing
from smoke.request import Request
from smoke.run import Tree

if TYPE_CHECKING:
    from smoke.stem import Stem

AFTER, BEFORE = "after: this fork", "before: patches reverted"


def run_smoke(
    fork: Path,
    requests: Sequence[Request],
    out: Path,
    console: Console,
    before: bool,
    checkout: Checkout | None = None,
) -> int:
    """Runs, compares, judges, prints and writes; returns the exit status, 0 or 1. AceStepError where it cannot.

    requests: a stem each, different in track and seed alone; before: the first of them is also run on a copy of the
    fork without the three patches, for the eye alone; checkout: is run and judged in the fork's place.
    """
    asked = requests[0]
    for request in requests:
        request.check()
    if checkout is not None:
        checkout.check(asked)
    say(console, introduction(requests))
    if checkout is not None:
        say(console, checkout.introduction())
    from acestep.core.generation.handler.io_audio import (
        IoAudioMixin,  # imports PyTorch; by now all options are good
    )

    with workspace(out) as scratch, ExitStack() as stack:
        audio = IoAudioMixin().process_target_audio(asked.context)
        parts = stack.enter_context(showing(sys.stderr))
        if asked.checkpoint is None:
            parts.begin("preparing")
        checkpoint = asked.checkpoint or write_tiny(scratch / "tiny")
        requests = [replace(request, checkpoint=checkpoint) for request in requests]
        trees: dict[str, tuple[Tree, Sequence[Request]]] = {}
        if before:
            reverted = reverted_copy(fork, scratch / "reverted")
            trees[BEFORE] = Tree(reverted, checkpoint), requests[:1]
        if checkout is None:
            judged = AFTER
            trees[judged] = Tree(fork, checkpoint), requests
        else:
            judged = checkout.name
            trees[judged] = prepare(checkout, checkpoint, scratch / "checkout"), requests
        if asked.backend == "mlx":
            blas, note = openblas_environment()
            if note:
                say(console, f"note: {note}")
            trees = {
                name: (replace(tree, environment={**tree.environment, **blas}), orders)
                for name, (tree, orders) in trees.items()
            }
        runs = run_all(trees, scratch, parts, together=asked.checkpoint is None)
        if checkout is not None:
            runs[judged] = [with_context_note(run, checkpoint) for run in runs[judged]]

        parts.begin("comparing with PyTorch", of=len(requests) * asked.steps)
        from smoke.compare import distances_to_pytorch  # imports for seconds; by now it is sure to be needed
        from smoke.html_report import write_html
        from smoke.report import print_table, report_json, write_audio, write_json
        from smoke.stem import by_mix, stems_of

        seen = [(name, run) for name, some in runs.items() for run in some]
        distances = distances_to_pytorch(requests[0], [run for _, run in seen], parts.at)
        rows = [(name, run, distance) for (name, run), distance in zip(seen, distances, strict=True)]
        others = [row for row in rows if row[0] != judged]
        stems = stems_of(requests, rows[len(others) :], samples=audio.shape[-1])
        parts.begin("writing the report", of=1 + len(stems) + len(by_mix(stems)))
        results = scratch / "results"
        results.mkdir()
        mix_gains = write_audio(stems, audio.T.numpy(), results)
        report = report_json(asked, others, stems, mix_gains)
        write_json(report, results / "report.json")
        write_html(report, audio.T.numpy(), results, parts.at)
        parts.end()
        publish(results, out)

    print_table(console, [*others, *(stem.row for stem in stems)])
    say_findings(console, stems)
    say(console, f"{verdict(stems)}; in {out}: {written(stems, mix_gains)}")
    return 0 if all(stem.good for stem in stems) else 1


def say(console: Console, sentence: str) -> None:
    """One line, however narrow the terminal is."""
    console.print(sentence, highlight=False, soft_wrap=True)


def introduction(requests: Sequence[Request]) -> str:
    """What is about to be run."""
    first = requests[0]
    tracks = list(dict.fromkeys(request.track for request in requests))
    seeds = len(requests) // len(tracks)
    weights = first.checkpoint.name if first.checkpoint else "tiny random weights (noise, not music)"
    return (
        f"{', '.join(tracks)} for {first.context.name}, {f'{seeds} seeds, ' if seeds > 1 else ''}{first.steps} steps, "
        f"guidance {first.guidance_scale:g}, shift {first.shift:g}, {first.backend}, {weights}"
    )


def say_findings(console: Console, stems: "Sequence[Stem]") -> None:
    """What does not hold, of each stem, and what else is to be known."""
    for stem in stems:
        of = f"{stem.label}: " if len(stems) > 1 else ""
        for check in stem.checks:
            if not check.holds:
                say(console, f"[bold red]{of}{check.name}[/]: {check.sentence}")
    for note in dict.fromkeys(note for stem in stems for note in stem.run.notes):
        say(console, f"note: {note}")


def verdict(stems: "Sequence[Stem]") -> str:
    """Good or bad, and of several how many are bad."""
    bad = sum(not stem.good for stem in stems)
    if not bad:
        return "[green]all holds[/]"
    return "[red]not all holds[/]" + (f" for {bad} of {len(stems)} stems" if len(stems) > 1 else "")


def written(stems: "Sequence[Stem]", mix_gains: Mapping[str, float]) -> str:
    """The files of a session."""
    over = "stem over context" if len(stems) == len(mix_gains) else "stems over context"
    files = [stems[0].file] if len(stems) == 1 else [f"{len(stems)} stems (stem-*.wav)"]
    files += [f"{file} ({over}, gain {gain:.2f})" for file, gain in mix_gains.items()]
    return ", ".join([*files, "report.json", "report.html"])


def write_tiny(folder: Path) -> Path:
    """The tiny base checkpoint, for whoever names no other; BackendError where its libraries are not there."""
    try:
        from acestep.models.tiny import write_tiny_checkpoint
    except ImportError as error:
        raise BackendError(f"{error}; run 'make smoke', which installs what is needed") from None
    return write_tiny_checkpoint(folder)
