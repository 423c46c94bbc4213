"""The smoke run from request to report."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.errors import BackendError, RequestError
from smoke.before import reverted_copy
from smoke.checkout import Checkout, prepare, with_context_note
from smoke.request import Request
from smoke.run import Run, Tree, finish, start


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out`; gone afterwards, and with it whatever was half-written."""
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"{out} is a file")
        folder = Path(tempfile.mkdtemp(prefix=".lego_smoke-", dir=out if out.is_dir() else out.parent))
    except OSError as error:
        raise RequestError(
            f"--out {out} cannot be written ({error.strerror or error}); give a folder that can"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: the run was good and `out` is in it
                parent.rmdir()


def run_smoke(
    fork: Path, request: Request, out: Path, console: Console, before: bool, checkout: Checkout | None = None
) -> int:
    """Runs, compares, judges, prints and writes; returns the exit status, 0 or 1. AceStepError where it cannot.

    before: the same request is also run on a copy of the fork without the three patches, for the eye alone;
    checkout: is run and judged in the fork's place.
    """
    request.check()
    if checkout is not None:
        checkout.check(request)
    weights = request.checkpoint.name if request.checkpoint else "tiny random weights (noise, not music)"
    console.print(
        f"{request.track} for {request.context.name}, {request.steps} steps, guidance {request.guidance_scale:g}, "
        f"shift {request.shift:g}, {request.backend}, {weights}",
        highlight=False,
        soft_wrap=True,
    )
    with workspace(out) as scratch:
        asked, audio = request, IoAudioMixin().process_target_audio(request.context)
        checkpoint = request.checkpoint or write_tiny(scratch / "tiny")
        request = replace(request, checkpoint=checkpoint)
        if checkout is not None:
            console.print(checkout.introduction(), highlight=False, soft_wrap=True)
            trees = {checkout.name: prepare(checkout, checkpoint, scratch / "checkout")}
        else:
            trees = {"after: this fork": Tree(fork, checkpoint)}
        if before:
            reverted = reverted_copy(fork, scratch / "reverted")
            trees = {"before: patches reverted": Tree(reverted, checkpoint)} | trees
        runs = run_all(trees, request, scratch, together=asked.checkpoint is None)
        if checkout is not None:
            runs = {name: with_context_note(run, checkpoint) for name, run in runs.items()}

        from smoke.compare import distances_to_pytorch  # imports for seconds; by now it is sure to be needed
        from smoke.html_report import write_html
        from smoke.judge import judge
        from smoke.report import print_table, report_json, write_audio, write_json

        distances = distances_to_pytorch(request, list(runs.values()))
        rows = list(zip(runs, runs.values(), distances, strict=True))
        _, run, distance = rows[-1]
        checks = judge(run, distance)
        results = scratch / "results"
        results.mkdir()
        mix_gain = write_audio(run, audio.T.numpy(), results)
        report = report_json(asked, rows, checks, mix_gain)
        write_json(report, results / "report.json")
        write_html(report, audio.T.numpy(), results)
        out.mkdir(exist_ok=True)
        for path in results.iterdir():
            path.replace(out / path.name)

    print_table(console, rows)
    for check in checks:
        if not check.holds:
            console.print(f"[bold red]{check.name}[/]: {check.sentence}", highlight=False, soft_wrap=True)
    for note in run.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    good = all(check.holds for check in checks)
    verdict = "[green]all holds[/]" if good else "[red]not all holds[/]"
    console.print(
        f"{verdict}; in {out}: stem.wav, mix.wav (stem over context, gain {mix_gain:.2f}), report.json, report.html",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if good else 1


def run_all(trees: Mapping[str, Tree], request: Request, scratch: Path, together: bool) -> dict[str, Run]:
    """One run of each tree; what the last one shows on its way goes to the terminal.

    together: side by side, which halves the wait for imports and doubles the memory: for tiny weights.
    """
    folders = {name: scratch / f"run{i}" for i, name in enumerate(trees)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    runs = {}
    try:
        for name, tree in trees.items():
            folders[name].mkdir()
            processes[name] = start(tree, request, folders[name], quiet=tree != list(trees.values())[-1])
            if not together:
                runs[name] = finish(processes[name], request, folders[name])
        for name in trees.keys() - runs.keys():
            runs[name] = finish(processes[name], request, folders[name])
    finally:
        for process in processes.values():
            process.kill()
    return {name: runs[name] for name in trees}


def write_tiny(folder: Path) -> Path:
    """The tiny base checkpoint, for whoever names no other; BackendError where its libraries are not there."""
    try:
        from acestep.models.tiny import write_tiny_checkpoint
    except ImportError as error:
        raise BackendError(f"{error}; run 'make smoke', which installs what is needed") from None
    return write_tiny_checkpoint(folder)
