"""A batch from manifest to summary: what is there is kept, what is missing is made, what fails is listed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from batch import cluster
from batch.manifest import Song
from batch.results import Batch, prepare, read_result, verdict
from batch.summary import write_summary
from batch.worker import Model, Worker
from blas import openblas_environment
from smoke import stop
from smoke.folder import full_disk_refused, scratch_folder
from smoke.progress import clock
from smoke.say import line
from smoke.session import write_tiny

SUMMARY = "index.html"


def run_batch(
    fork: Path, songs: Sequence[Song], out: Path, console: Console, ray: str | None, workers: int | None
) -> int:
    """Makes what is missing; returns the exit status. AceStepError where nothing can be made at all."""
    if ray:
        cluster.imported()
    batch = Batch(songs, out)
    stop.session.kept = batch.kept
    shared = songs[0].requests[0]
    with full_disk_refused(), scratch_folder(out) as scratch:
        checkpoint = shared.checkpoint or write_tiny(scratch / "tiny")
        environment, note = openblas_environment() if shared.backend == "mlx" else ({}, None)
        if note:
            line(console, f"note: {note}")
        missing = prepare(batch, fork, checkpoint)
        for note in batch.notes:
            line(console, f"note: {note}")
        line(
            console,
            f"{len(songs)} songs: {len(batch.results)} have a result, {len(missing)} are to be made, "
            f"{len(batch.problems)} cannot be",
        )
        model = Model(fork, checkpoint.absolute(), environment)
        start = time.monotonic()
        outcomes = (
            cluster.on_cluster(missing, model, out, ray, workers)
            if ray and missing
            else on_this_machine(missing, model, out)
        )
        for done, (key, problem) in enumerate(outcomes, start=1):
            found = problem or settle(batch, key)
            left = (time.monotonic() - start) / done * (len(missing) - done)
            line(console, f"{done} of {len(missing)}, {clock(left)} left: {missing[key].name}: {found}")
            batch.problems |= {
                song.line: problem for song in songs if problem and batch.keys[song.line] == key
            }
        write_summary(batch, out / SUMMARY, scratch)
    return concluded(batch, console)


def settle(batch: Batch, key: str) -> str:
    """Takes up a result that was published; returns it in words."""
    batch.results[key] = result = read_result(batch.out / key)
    return verdict(result)


def on_this_machine(songs: Mapping[str, Song], model: Model, out: Path) -> Iterator[tuple[str, str]]:
    """Key of each song as it is over, and why it could not be made or ""."""
    if not songs:
        return
    worker = Worker(model, out)
    try:
        for key, song in songs.items():
            yield key, worker.run(key, song)
    finally:
        worker.close()


def concluded(batch: Batch, console: Console) -> int:
    """Lists what failed; returns the exit status."""
    failing = [song for song in batch.songs if not batch.is_good(song)]
    for song in failing:
        problem = batch.problems.get(song.line) or verdict(batch.results[batch.keys[song.line]])
        line(console, ("failed", "bold red"), f": line {song.line}, {song.name}: {problem}")
    good = len(batch.songs) - len(failing)
    line(console, f"{good} of {len(batch.songs)} songs are good; see {batch.out / SUMMARY}")
    return int(bool(failing))
