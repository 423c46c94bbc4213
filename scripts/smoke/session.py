"""The smoke run from request to report."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.errors import BackendError, RequestError
from smoke.request import Request
from smoke.run import finish, start


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out`; gone afterwards, and with it whatever was half-written."""
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


def run_smoke(fork: Path, request: Request, out: Path, console: Console) -> int:
    """Runs, compares, judges, prints and writes; returns the exit status, 0 or 1. AceStepError where it cannot."""
    request.check()
    weights = request.checkpoint.name if request.checkpoint else "tiny random weights (noise, not music)"
    console.print(
        f"{request.track} for {request.context.name}, {request.steps} steps, guidance {request.guidance_scale:g}, "
        f"shift {request.shift:g}, {request.backend}, {weights}",
        highlight=False,
        soft_wrap=True,
    )
    with workspace(out) as scratch:
        audio = IoAudioMixin().process_target_audio(request.context)
        (scratch / "run").mkdir()
        (scratch / "results").mkdir()
        if request.checkpoint is None:
            request = replace(request, checkpoint=write_tiny(scratch / "tiny"))
        process = start(fork, request, scratch / "run")
        try:
            from smoke.compare import distances_to_pytorch  # imports for seconds, meanwhile the run starts
            from smoke.judge import judge
            from smoke.report import print_table, report_json, write_audio, write_json

            run = finish(process, request, scratch / "run")
        finally:
            process.kill()
        (distances,) = distances_to_pytorch(request, [run])
        checks = judge(run, distances)
        mix_gain = write_audio(run, audio.T.numpy(), scratch / "results")
        write_json(
            report_json(request, run, distances, checks, mix_gain), scratch / "results" / "report.json"
        )
        out.mkdir(exist_ok=True)
        for path in (scratch / "results").iterdir():
            path.replace(out / path.name)

    print_table(console, [(f"{request.backend} on {run.device}", run, distances)])
    for check in checks:
        if not check.holds:
            console.print(f"[bold red]{check.name}[/]: {check.sentence}", highlight=False, soft_wrap=True)
    good = all(check.holds for check in checks)
    verdict = "[green]all holds[/]" if good else "[red]not all holds[/]"
    console.print(
        f"{verdict}; in {out}: stem.wav, mix.wav (stem over context, gain {mix_gain:.2f}), report.json",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if good else 1


def write_tiny(folder: Path) -> Path:
    """The tiny base checkpoint, for whoever names no other; BackendError where its libraries are not there."""
    try:
        from acestep.models.tiny import write_tiny_checkpoint
    except ImportError as error:
        raise BackendError(f"{error}; run 'make smoke', which installs what is needed") from None
    return write_tiny_checkpoint(folder)
