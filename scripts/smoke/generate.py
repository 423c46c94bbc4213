"""The stems of a session, each in the run folder as soon as it is decoded; those of an unfinished run are reused."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoke import stop
from smoke.before import reverted_copy
from smoke.compare import SAMPLED
from smoke.process import Process
from smoke.request import Request
from smoke.run import Run, Tree, read_run
from smoke.state import copy_of
from smoke.stem import files_of, mix_of

if TYPE_CHECKING:
    from smoke.session import Session


def generate(
    session: "Session", tree: Tree, context: Any, environment: Mapping[str, str], fork: Path | None
) -> dict[str, float]:
    """Every stem, in its folder with the mix so far as soon as it is decoded; returns the gains of the mixes.

    fork: the first request is run on a copy of it without the patches, after all stems; None: it is not.
    """
    from smoke.report import Audio

    first, scratch, parts = session.requests[0], session.scratch, session.parts
    record = session.comparison.mode == SAMPLED
    audio = Audio(context, session.folder)
    process: Process | None = None
    side_by_side: Process | None = None

    def started(tree: Tree, name: str) -> Process:
        tree = replace(tree, environment={**tree.environment, **environment})
        return Process(tree, first, scratch / name, record)

    def before() -> Process:
        copy = Tree(reverted_copy(fork, scratch / "reverted"), tree.checkpoint) if fork else tree
        return started(copy, "before")

    with ExitStack() as stack:
        heard = first.context
        for request, label, file in zip(
            session.requests, session.labels, files_of(session.requests), strict=True
        ):
            number, count = len(session.runs) + 1, len(session.requests)
            if request.layer is not None:  # on the layers before it
                request = session.requests[request.layer - 1] = replace(request, context=heard)
            inputs = session.inputs.of_stem(request, heard)
            stem: Any
            if found := reused(session, request, inputs, record):
                run, stem, written = found
            else:
                if process is None:
                    parts.begin("loading")
                    process = stack.enter_context(started(tree, "run"))
                    # Tiny weights are loaded side by side: that halves the wait for imports.
                    side_by_side = stack.enter_context(before()) if fork and session.tiny else None
                    process.load()
                of = f"{label} ({number} of {count}): " if count > 1 else ""
                run, stem = process.run(request, parts, of)
                written = process.written
            with stop.session.held():
                if not session.runs:
                    session.state.write()
                mix_file = mix_of(session.requests, request)
                group = mix_file if request.layer is None else "layers"
                mix = audio.add(file, stem, mix_file, group, request.gain_db)
                kept = session.state.add(session.folder.path / file, inputs, written)
                session.runs.append(replace(run, steps=run.steps and kept / run.steps.name))
            heard = heard if request.layer is None else mix
            parts.stem(number, count)
        if side_by_side is not None:
            run_before(side_by_side, session)
    if fork and side_by_side is None:
        with before() as process:
            run_before(process, session)
    return audio.mix_gains


def reused(session: "Session", request: Request, inputs: str, record: bool) -> tuple[Run, bytes, Path] | None:
    """A finished stem of the earlier run, made of these inputs: its run, its WAV, and a copy of what was kept of it."""
    if session.earlier is None or (kept := session.earlier.stem(request, inputs, record)) is None:
        return None
    number = len(session.runs)
    copy = copy_of(session.earlier.folder / kept.folder, session.scratch / f"reused{number}")
    session.reused.append(session.labels[number])
    return read_run(request, copy)[0], (session.earlier.folder / kept.file).read_bytes(), copy


def run_before(process: Process, session: "Session") -> None:
    """The first request on the fork without the patches."""
    session.parts.begin("before: loading")
    process.load()
    session.others.append(process.run(session.requests[0], session.parts, "before: ")[0])
