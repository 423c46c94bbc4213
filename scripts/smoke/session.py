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
from smoke.before import reverted_copy
from smoke.checkout import prepare
from smoke.checkout_findings import with_findings
from smoke.compare import NONE, SAMPLED, Comparison, Distances, distances_to_pytorch
from smoke.folder import RunFolder, scratch_folder
from smoke.options import Options
from smoke.process import Process
from smoke.progress import Parts, showing
from smoke.request import Request
from smoke.run import Run, Tree
from smoke.stem import Row, files_of, labels_of, mix_of, stems_of
from smoke.texts import check_texts

AFTER, BEFORE = "after: this fork", "before: patches reverted"
CANNOT = 3


@dataclass
class Session:
    """What is run, what came of it so far. judged: the name of the checkout that is judged, in the table."""

    requests: list[Request]
    comparison: Comparison
    judged: str
    scratch: Path
    folder: RunFolder
    parts: Parts
    tiny: bool
    runs: list[Run] = field(default_factory=list)
    others: list[Run] = field(default_factory=list)
    not_compared: str = ""

    @property
    def labels(self) -> list[str]:
        """Of the stems."""
        return labels_of(self.requests)

    def kept(self) -> str:
        """For whoever stops the session: what there is, and what was not compared."""
        there = self.folder.describe()
        done = self.labels[: len(self.runs)]
        return f"{there}; not compared with PyTorch: {', '.join(done)}" if done else there


def run_smoke(
    fork: Path,
    options: Options,
    out: Path,
    console: Console,
) -> int:
    """Generates, keeps, compares, judges, prints; returns the exit status. AceStepError where there is no stem."""
    before, checkout = options.runs_before(), options.checkout()
    requests = options.requests()
    first = requests[0]
    comparison = options.comparison().chosen(tiny=first.checkpoint is None)
    comparison.check()
    for request in requests:
        request.check()
    if checkout is not None:
        checkout.check(first)
    say.line(console, say.introduction(requests))
    if advice := say.advice(requests):
        say.line(console, advice)
    if checkout is not None:
        say.line(console, checkout.introduction())
    from acestep.core.generation.handler.io_audio import IoAudioMixin

    with scratch_folder(out) as scratch, ExitStack() as stack:
        audio = IoAudioMixin().process_target_audio(first.context)
        context = audio.T
        for request in requests:
            request.check_range(len(context) / SAMPLE_RATE)
        parts = stack.enter_context(showing(sys.stderr))
        if first.checkpoint is None:
            parts.begin("preparing")
        checkpoint = first.checkpoint or write_tiny(scratch / "tiny")
        check_texts(requests, checkpoint, len(context) / SAMPLE_RATE)
        requests = [replace(request, checkpoint=checkpoint) for request in requests]
        judged = AFTER if checkout is None else checkout.name
        folder = RunFolder(out, [request.track for request in requests], scratch)
        session = Session(
            list(requests), comparison, judged, scratch, folder, parts, tiny=first.checkpoint is None
        )
        stop.session.kept = session.kept
        environment: dict[str, str] = {}
        if first.backend == "mlx":
            environment, note = openblas_environment()
            if note:
                say.line(console, f"note: {note}")
        tree = (
            Tree(fork, checkpoint)
            if checkout is None
            else prepare(checkout, checkpoint, scratch / "checkout")
        )
        gains = generate(session, tree, context, environment, fork if before else None)
        if checkout is not None:
            session.runs = [with_findings(run, checkout.root, checkpoint) for run in session.runs]
        rows, others = compare(session, console)

        from smoke.html_report import CONTEXT_FILE, write_html  # imports for seconds
        from smoke.report import print_table, report_json, write_json, write_wav

        stems = stems_of(session.requests, rows, samples=len(context))
        parts.begin("writing the report", of=1 + len(stems) + len(gains))
        asked = replace(requests[0], checkpoint=first.checkpoint)
        report = report_json(asked, others, stems, gains, how_compared(session))
        folder.publish("report.json", lambda path: write_json(report, path))
        folder.publish(CONTEXT_FILE, lambda path: write_wav(path, context))
        folder.publish("report.html", lambda path: write_html(report, folder.path, path, parts.at))
        parts.end()
        stop.session.kept = lambda: f"all is written: {folder.describe()}"

    print_table(console, [*others, *(stem.row for stem in stems)])
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


def generate(
    session: Session, tree: Tree, context: Any, environment: dict[str, str], fork: Path | None
) -> dict[str, float]:
    """Every stem, in its folder with the mix so far as soon as it is decoded; returns the gains of the mixes.

    fork: the first request is run on a copy of it without the patches, after all stems; None: it is not.
    """
    from smoke.report import Audio

    first, scratch, parts = session.requests[0], session.scratch, session.parts
    record = session.comparison.mode == SAMPLED
    audio = Audio(context, session.folder)

    def started(tree: Tree, name: str) -> Process:
        tree = replace(tree, environment={**tree.environment, **environment})
        return Process(tree, first, scratch / name, record)

    def before() -> Process:
        copy = Tree(reverted_copy(fork, scratch / "reverted"), tree.checkpoint) if fork else tree
        return started(copy, "before")

    parts.begin("loading")
    with ExitStack() as stack:
        process = stack.enter_context(started(tree, "run"))
        # Tiny weights are loaded side by side: that halves the wait for imports.
        side_by_side = stack.enter_context(before()) if fork and session.tiny else None
        process.load()
        heard = first.context
        for request, label, file in zip(
            session.requests, session.labels, files_of(session.requests), strict=True
        ):
            number, count = len(session.runs) + 1, len(session.requests)
            if request.layer is not None:  # on the layers before it
                request = session.requests[request.layer - 1] = replace(request, context=heard)
            run, stem = process.run(request, parts, f"{label} ({number} of {count}): " if count > 1 else "")
            with stop.session.held():
                mix_file = mix_of(session.requests, request)
                group = mix_file if request.layer is None else "layers"
                heard = audio.add(file, stem, mix_file, group, request.gain_db)
                session.runs.append(run)
            parts.stem(number, count)
        if side_by_side is not None:
            run_before(side_by_side, session)
    if fork and not session.tiny:
        with before() as process:
            run_before(process, session)
    return audio.mix_gains


def run_before(process: Process, session: Session) -> None:
    """The first request on the fork without the patches."""
    session.parts.begin("before: loading")
    process.load()
    session.others.append(process.run(session.requests[0], session.parts, "before: ")[0])


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


def how_compared(session: Session) -> dict[str, Any]:
    """For the report."""
    comparison = session.comparison
    return {
        "mode": comparison.mode,
        "device": comparison.device,
        "not_compared": session.not_compared or None,
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
