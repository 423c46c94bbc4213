"""A worker: songs one after another on a model that is loaded once, each published whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from acestep.constants import SAMPLE_RATE
from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.errors import AceStepError, BackendError, OutputError
from batch.manifest import Song
from smoke.disk import full_disk
from smoke.folder import scratch_folder
from smoke.inputs import file_hash
from smoke.judge import judge
from smoke.process import Process, ProcessDied
from smoke.progress import Parts
from smoke.report import mix_over_context, read_wav, write_json, write_wav
from smoke.request import Request
from smoke.run import Run, Tree
from smoke.stem import files_of, labels_of, mix_of

RESULT = "result.json"
TRIES = 3  # of a song whose process dies


@dataclass(frozen=True)
class Model:
    """What is loaded: the fork, the checkpoint, and environment variables of the process that loads it."""

    fork: Path
    checkpoint: Path
    environment: Mapping[str, str]


class Worker:
    """Holds a process with the model loaded. One that dies or refuses a song is replaced for the next song."""

    def __init__(self, model: Model, out: Path) -> None:
        self._model, self._out = model, out
        self._stack, self._running = ExitStack(), ExitStack()
        self._scratch = self._stack.enter_context(scratch_folder(out))
        self._stack.push(self._running)
        self._process: Process | None = None
        self._started = 0

    def run(self, key: str, song: Song) -> str:
        """Makes the song and publishes it as `out`/key; returns "", or a sentence for why it could not be made."""
        if (self._out / key).is_dir():  # by a worker that died before it could say so
            return ""
        staged = self._scratch / key
        try:
            made = self._tried(song, staged)
            files = {path.name: file_hash(path) for path in sorted(staged.iterdir())}
            write_json({"key": key, "sha256": files, **made}, staged / RESULT)
            publish(staged, self._out / key)
        except AceStepError as error:
            return str(error)
        except Exception as error:  # a song that meets a bug does not cost the others
            if problem := full_disk(error):
                return problem
            if isinstance(error, OSError):
                return f"{self._out} cannot be written ({error.strerror or error})"
            return f"this is a bug ({type(error).__name__}: {error})"
        finally:
            for seen in self._scratch.glob(
                "run*/[0-9]*"
            ):  # what a process leaves of each stem fills the disk
                shutil.rmtree(seen, ignore_errors=True)
        return ""

    def close(self) -> None:
        """Ends the process and removes the scratch folder."""
        self._stack.close()

    def _stop(self) -> None:
        """The next song starts a process."""
        self._process = None
        self._running.close()

    def _tried(self, song: Song, folder: Path) -> dict[str, Any]:
        """As `_make`, again where the process dies."""
        for _ in range(TRIES):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                return self._make(song, folder)
            except ProcessDied as error:
                reason = str(error)
        raise BackendError(f"{reason}, {TRIES} times")

    def _loaded(self, shared: Request) -> Process:
        """The process, started where there is none."""
        if self._process is None:
            self._started += 1
            tree = Tree(self._model.fork, self._model.checkpoint, environment=self._model.environment)
            process = Process(tree, shared, self._scratch / f"run{self._started}")
            self._process = self._running.enter_context(process)
            process.load()
        return self._process

    def _make(self, song: Song, folder: Path) -> dict[str, Any]:
        """The stems and mixes in `folder`, and what is to be known of them."""
        requests = [replace(request, checkpoint=self._model.checkpoint) for request in song.requests]
        context = IoAudioMixin().process_target_audio(requests[0].context).T
        for request in requests:
            request.check_range(len(context) / SAMPLE_RATE)
        try:
            return {
                "context": str(song.requests[0].context),
                "seconds": len(context) / SAMPLE_RATE,
                "requests": [request.to_json() for request in song.requests],
                **self._generate(requests, context, folder),
            }
        except Exception:
            self._stop()  # after an error a process ends
            raise

    def _generate(self, requests: list[Request], context: np.ndarray, folder: Path) -> dict[str, Any]:
        """The stems one after another, each with the mix so far; context: [samples, 2] at 48 kHz."""
        process, parts = self._loaded(requests[0]), Parts(StringIO())
        heard: list[np.ndarray] = []
        stems: list[dict[str, Any]] = []
        mixes: dict[str, float] = {}
        source = requests[0].context
        for request, label, file in zip(requests, labels_of(requests), files_of(requests), strict=True):
            run, stem = process.run(replace(request, context=source), parts)
            write_wav(folder / file, stem)
            heard.append(read_wav(folder / file) * np.float32(10 ** (request.gain_db / 20)))
            mix_file = mix_of(requests, request)
            mix, mixes[mix_file] = mix_over_context(context, *heard)
            write_wav(folder / mix_file, mix)
            if request.layer is not None:
                source = folder / mix_file
            stems.append(stem_json(label, file, run, len(context)))
        return {"ok": all(stem["ok"] for stem in stems), "stems": stems, "mixes": mixes}


def stem_json(label: str, file: str, run: Run, samples: int) -> dict[str, Any]:
    """A stem as it was counted and judged."""
    checks = judge(run, None, samples)
    return {
        "label": label,
        "file": file,
        "requested": run.requested,
        "evaluated": run.evaluated,
        "ok": all(check.holds for check in checks),
        "checks": [asdict(check) for check in checks],
        "time_costs": dict(run.time_costs),
        "versions": dict(run.versions),
        **run.stem,
    }


def publish(staged: Path, folder: Path) -> None:
    """Moves a complete folder to its place; of two workers that made the same song, the first one's stays."""
    try:
        os.rename(staged, folder)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        if not folder.is_dir():
            raise OutputError(f"{folder} cannot be written ({error.strerror})") from None
