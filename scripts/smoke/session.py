"""The smoke run from request to report. Stems come first: what follows them cannot cost one."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from acestep.constants import SAMPLE_RATE
from acestep.errors import AceStepError, BackendError, RequestError
from acestep.models.checkpoint.layout import is_utf8
from blas import openblas_environment
from smoke import say, stop
from smoke.again import Earlier, record_of
from smoke.checkout import prepare
from smoke.checkout_findings import with_findings
from smoke.compare import NONE, Comparison, Distances, distances_to_pytorch
from smoke.folder import RunFolder, full_disk_refused, scratch_folder
from smoke.generate import generate
from smoke.inputs import Inputs
from smoke.options import Options
from smoke.progress import Parts, showing
from smoke.request import Request
from smoke.run import Run, Tree
from smoke.state import State
from smoke.stem import Row, files_of, labels_of, stems_of
from smoke.texts import check_texts

TF32_OFF = {"MLX_ENABLE_TF32": "0"}  # of a run that is compared: PyTorch computes float32 as float32
AFTER, BEFORE = "after: this fork", "before: patches reverted"
CANNOT = 3


@dataclass
class Session:
    """What is run, what came of it so far.

    judged: the name of the checkout that is judged, in the table; earlier: the run that is repeated; reused: the
    labels of the stems that it had finished.
    """

    requests: list[Request]
    comparison: Comparison
    judged: str
    scratch: Path
    folder: RunFolder
    parts: Parts
    tiny: bool
    inputs: Inputs
    state: State
    earlier: Earlier | None = None
    runs: list[Run] = field(default_factory=list)
    others: list[Run] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    not_compared: str = ""

    @property
    def labels(self) -> list[str]:
        """Of the stems."""
        return labels_of(self.requests)

    def kept(self) -> str:
        """For whoever stops the session: what there is, and what was not compared."""
        there = self.folder.describe()
        done = self.labels[: len(self.runs)]
        if not done:
            return there
        return f"{there}; not compared with PyTorch: {', '.join(done)}; go on: {say.again(self.folder.path)}"


def run_smoke(
    fork: Path,
    options: Options,
    out: Path,
    console: Console,
    earlier: Earlier | None = None,
) -> int:
    """Generates, keeps, compares, judges, prints; returns the exit status. AceStepError where there is no stem.

    earlier: the run that is repeated, whose options these are; what it had finished is reused.
    """
    before, checkout = options.runs_before(), options.checkout()
    requests = options.requests()
    first = requests[0]
    comparison = options.comparison().chosen(tiny=first.checkpoint is None)
    comparison.check()
    for request in requests:
        request.check()
    if checkout is not None:
        checkout.check(first)
    if earlier is not None:
        earlier.check()
        say.line(console, earlier.introduction())
    say.line(console, say.introduction(requests))
    if settings := say.settings(requests, is_fork=checkout is None):
        say.line(console, settings)
    if checkout is not None:
        say.line(console, checkout.introduction())
    from acestep.core.generation.handler.io_audio import IoAudioMixin

    with full_disk_refused(), scratch_folder(out) as scratch, ExitStack() as stack:
        audio = IoAudioMixin().process_target_audio(first.context)
        context = audio.T
        for request in requests:
            request.check_range(len(context) / SAMPLE_RATE)
        parts = stack.enter_context(showing(sys.stderr))
        if first.checkpoint is None:
            parts.begin("preparing")
        checkpoint = first.checkpoint or write_tiny(scratch / "tiny")
        check_texts(requests, checkpoint, len(context) / SAMPLE_RATE)
        comparison.check_reference(checkpoint)
        requests = [replace(request, checkpoint=checkpoint) for request in requests]
        judged = AFTER if checkout is None else checkout.name
        folder = RunFolder(out, [request.track for request in requests], scratch)
        inputs = inputs_of(options, fork, checkpoint)
        record = record_of(options, inputs)
        session = Session(
            list(requests),
            comparison,
            judged,
            scratch,
            folder,
            parts,
            tiny=first.checkpoint is None,
            inputs=inputs,
            state=State(folder, record),
            earlier=earlier,
        )
        stop.session.kept = session.kept
        environment: dict[str, str] = {}
        if first.backend == "mlx":
            environment, note = openblas_environment()
            if comparison.mode != NONE:
                environment |= TF32_OFF
            if note:
                say.line(console, f"note: {note}")
        tree = (
            Tree(fork, checkpoint)
            if checkout is None
            else prepare(checkout, checkpoint, scratch / "checkout")
        )
        try:
            gains = generate(session, tree, context, environment, fork if before else None)
        except BackendError as error:
            raise BackendError(f"{error}; {session.kept()}" if folder.is_made else str(error)) from None
        if checkout is not None:
            session.runs = [with_findings(run, checkout.root, checkpoint) for run in session.runs]
        rows, others = compare(session, console)

        from smoke.html_report import CONTEXT_FILE, write_html  # imports for seconds
        from smoke.report import print_table, report_json, write_json, write_wav

        stems = stems_of(session.requests, rows, samples=len(context))
        parts.begin("writing the report", of=1 + len(stems) + len(gains))
        asked = replace(requests[0], checkpoint=first.checkpoint)
        report = report_json(asked, others, stems, gains, how_compared(session)) | {"run": record}
        folder.publish("report.json", lambda path: write_json(report, path))
        folder.publish(CONTEXT_FILE, lambda path: write_wav(path, context))
        folder.publish("report.html", lambda path: write_html(report, folder.path, path, parts.at))
        if not session.not_compared or comparison.mode == NONE:
            session.state.remove()
        parts.end()
        stop.session.kept = lambda: f"all is written: {folder.describe()}"

    print_table(console, [*others, *(stem.row for stem in stems)])
    if session.reused and earlier is not None:
        say.line(console, f"reused from {earlier.folder}: {', '.join(session.reused)}")
    if len(stems) > 1 and report["encodings"]:
        say.line(console, say.encodings(report["encodings"]))
    say.findings(console, stems)
    status = (
        CANNOT
        if session.not_compared and comparison.mode != NONE
        else int(not all(stem.good for stem in stems))
    )
    say.verdict(console, status, stems, session.not_compared, folder, gains)
    return status


def compare(session: Session, console: Console) -> tuple[list[Row], list[Row]]:
    """The rows of the judged runs and of the others; where the comparison fails, without distances."""
    comparison, parts = session.comparison, session.parts
    runs = [*session.others, *session.runs]
    requests = [*session.requests[: len(session.others)], *session.requests]
    distances: Sequence[Distances | None] = [None] * len(runs)
    if comparison.mode == NONE:
        session.not_compared = "--compare none"
    else:
        count = sum(comparison.evaluations(run) for run in runs)
        parts.begin(say.comparing(comparison, runs), of=count)
        for reason in dict.fromkeys(run.not_recorded for run in runs if run.not_recorded):
            say.line(console, f"note: compared in full, because {reason}")
        try:
            wavs = [None] * len(session.others) + [
                session.folder.path / name for name in files_of(session.requests)
            ]
            distances = distances_to_pytorch(comparison, requests, runs, wavs, parts.at)
        except AceStepError as error:
            session.not_compared = str(error)
        except Exception as error:  # whatever it is, the stems are there and the report is to say so
            session.not_compared = f"the comparison failed ({type(error).__name__}: {error})"
    names = [BEFORE] * len(session.others) + [session.judged] * len(session.runs)
    rows = list(zip(names, runs, distances, strict=True))
    return rows[len(session.others) :], rows[: len(session.others)]


def inputs_of(options: Options, fork: Path, checkpoint: Path) -> Inputs:
    """What the result depends on, by content; BackendError where it cannot be read."""
    how: dict[str, Any] = {}
    if options.acestep_root is not None:
        how = {
            "python": str(options.python),
            "thread": options.worker_thread,
            "without": list(options.without),
        }
    try:
        return Inputs.of(options.context, checkpoint, options.acestep_root or fork, how)
    except OSError as error:
        raise BackendError(f"{error.filename} cannot be read ({error.strerror})") from None


def how_compared(session: Session) -> dict[str, Any]:
    """For the report."""
    comparison = session.comparison
    return {
        "mode": comparison.mode,
        "device": comparison.device,
        "not_compared": session.not_compared or None,
        "reused": list(session.reused),
    }


def write_tiny(folder: Path) -> Path:
    """The tiny base checkpoint, for whoever names no other.

    BackendError where its libraries are not there, RequestError where they cannot write below --out.
    """
    if not is_utf8(folder):
        raise RequestError(
            f"--out {folder.parent.parent} has bytes in its path that are not UTF-8, below which the tiny checkpoint "
            f"cannot be written; give another folder, or --checkpoint"
        )
    try:
        from acestep.models.tiny import write_tiny_checkpoint
    except ImportError as error:
        raise BackendError(f"{error}; run 'make smoke', which installs what is needed") from None
    return write_tiny_checkpoint(folder)
