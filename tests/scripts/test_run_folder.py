"""Results are kept: whatever stops a run, finished stems are whole, nothing is overwritten, nothing runs on."""

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from acestep.errors import BackendError, OutputError, RequestError
from batch import run as batch_run
from batch.manifest import Song
from batch.worker import Model, Worker
from smoke import drive, lifeline, session, stop
from smoke.folder import SCRATCH_PREFIX, RunFolder, scratch_folder
from smoke.options import Options
from smoke.process import Process
from tests.stand_in_checkout import write_checkout

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "lego_smoke.py"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def put(folder: RunFolder, name: str, text: str) -> Path:
    return folder.publish(name, lambda path: path.write_text(text) and None)


class TestFolder:
    def test_each_run_has_its_own_and_latest_leads_to_the_last(self, tmp_path: Path, scratch: Path) -> None:
        folders = [RunFolder(tmp_path, ["drums", "bass"], scratch) for _ in range(3)]
        for number, folder in enumerate(folders):
            put(folder, "stem.wav", str(number))
        paths = [folder.path for folder in folders]
        assert len(set(paths)) == 3
        assert [path.joinpath("stem.wav").read_text() for path in paths] == ["0", "1", "2"]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}-drums-bass(-\d)?", path.name) for path in paths)
        assert (tmp_path / "latest").resolve() == paths[2]

    def test_many_tracks_have_a_short_name(self, tmp_path: Path, scratch: Path) -> None:
        assert RunFolder(tmp_path, list("abcd"), scratch).path.name.endswith("-4-tracks")

    def test_a_folder_without_a_finished_file_is_described(self, tmp_path: Path, scratch: Path) -> None:
        folder = RunFolder(tmp_path, ["drums"], scratch)
        put(folder, "stem.wav", "x").unlink()
        assert folder.describe() == f"{folder.path} has no finished file"

    def test_a_latest_that_is_no_link_is_left_alone(self, tmp_path: Path, scratch: Path) -> None:
        (tmp_path / "latest").mkdir()
        put(RunFolder(tmp_path, ["drums"], scratch), "stem.wav", "x")
        assert not (tmp_path / "latest").is_symlink()

    def test_a_full_disk_costs_nothing_that_was_there(self, tmp_path: Path, scratch: Path) -> None:
        folder = RunFolder(tmp_path, ["drums"], scratch)
        put(folder, "mix.wav", "before")

        def fills_the_disk(path: Path) -> None:
            path.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(OutputError) as caught:
            folder.publish("mix.wav", fills_the_disk)
        assert str(caught.value) == (
            f"mix.wav cannot be written to {folder.path} (No space left on device); {folder.path} has mix.wav"
        )
        assert (folder.path / "mix.wav").read_text() == "before"
        assert list(scratch.iterdir()) == []


FULL_DISK = (
    "below --out nothing more can be written (No space left on device); free space on that disk, "
    "or give an --out on another"
)


class TestFullDisk:
    """One sentence, and not that of a bug, wherever the disk is met."""

    ERRORS = (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tensors.npz"),
        RuntimeError(
            "Error while serializing: I/O error: No space left on device (os error 28)"
        ),  # safetensors
    )

    @pytest.mark.parametrize("error", ERRORS, ids=["by number", "by text"])
    def test_a_process_says_it_without_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fails(*_: object) -> None:
            raise error

        monkeypatch.setattr(drive, "drive", fails)
        monkeypatch.setattr(lifeline, "die_with_parent", lambda _: None)
        monkeypatch.setattr(drive, "refuse_network", lambda _: None)
        monkeypatch.setattr(drive, "hide_package", lambda _: None)
        monkeypatch.setattr(sys, "path", list(sys.path))
        events, told = os.pipe()
        with warnings.catch_warnings():
            assert drive.main(".", "{}", str(tmp_path / "full"), str(told), "0") == 0
        os.close(told)
        process = Process.__new__(Process)
        with os.fdopen(events) as process._events, pytest.raises(BackendError) as caught:
            process.load()
        assert str(caught.value) == FULL_DISK

    @pytest.mark.parametrize("error", ERRORS, ids=["by number", "by text"])
    def test_the_run_says_it_and_what_it_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fails(_: Path) -> Path:
            raise error

        monkeypatch.setattr(session, "write_tiny", fails)
        monkeypatch.setattr(batch_run, "write_tiny", fails)
        monkeypatch.setattr(stop.session, "kept", lambda: "kept")
        context, console = SCRIPT.parent / "smoke.wav", Console(file=io.StringIO())
        with pytest.raises(OutputError) as caught:
            session.run_smoke(tmp_path, Options(context), tmp_path / "out", console)
        assert str(caught.value) == f"{FULL_DISK}; kept"
        songs = [Song(1, tuple(Options(context).requests()))]
        with pytest.raises(OutputError) as caught:
            batch_run.run_batch(tmp_path, songs, tmp_path / "out", console, None, None)
        assert str(caught.value) == (
            f"{FULL_DISK}; 0 results are in {tmp_path / 'out'}; the same command makes the rest"
        )
        assert list(tmp_path.iterdir()) == []

    def test_a_song_of_a_batch_says_it_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*_: object) -> None:
            raise self.ERRORS[0]

        monkeypatch.setattr(Worker, "_tried", fails)
        worker = Worker(Model(tmp_path, tmp_path, {}), tmp_path)
        assert worker.run("key", Song(1, ())) == FULL_DISK
        worker.close()


class TestScratch:
    def test_it_is_gone_afterwards_with_the_folders_made_for_it(self, tmp_path: Path) -> None:
        with scratch_folder(tmp_path / "new" / "out") as scratch:
            assert scratch.parent == tmp_path / "new" / "out"
        assert list(tmp_path.iterdir()) == []

    def test_that_of_a_killed_run_is_removed_and_that_of_a_living_one_is_not(self, tmp_path: Path) -> None:
        killed = tmp_path / f"{SCRATCH_PREFIX}killed"
        killed.mkdir()
        (killed / "lock").touch()
        with scratch_folder(tmp_path) as living, scratch_folder(tmp_path) as other:
            assert not killed.exists()
            assert living.exists()
            assert other.exists()

    @pytest.mark.parametrize("kind", ["file", "dangling link"])
    def test_an_out_that_cannot_be_made_is_refused(self, tmp_path: Path, kind: str) -> None:
        out = tmp_path / "out"
        if kind == "file":
            out.write_text("kept")
        else:
            out.symlink_to(tmp_path / "nowhere")
        with pytest.raises(RequestError, match=f"^--out {out} cannot be written to"), scratch_folder(out):
            pass
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def command(tmp_path: Path, tiny_root: Callable[..., Path]) -> Callable[..., list[str]]:
    """command(habits, *arguments): a run of a fake checkout, not compared, its results below `out`."""

    def made(habits: dict[str, object], *arguments: str) -> list[str]:
        checkpoint = tiny_root() / "checkpoints" / "acestep-v15-base"
        given = [
            "--checkpoint",
            str(checkpoint),
            "--acestep-root",
            str(write_checkout(tmp_path / "checkout", **habits)),
        ]
        quick = ["--compare", "none", "--steps", "5"]
        return [sys.executable, str(SCRIPT), *given, *quick, *arguments]

    return made


TRACKS = ("drums", "bass", "vocals")
OF_ALL = [argument for track in TRACKS for argument in ("--track", track)]
# a step of the last stem takes longer than a run may take to end
SLOW = {"seconds_a_step": 5, "slow_for": "vocals"}


@contextmanager
def stopped_in_the_third_stem(command: list[str], number: int) -> Iterator["subprocess.Popen[str]"]:
    """A run of three tracks that got a signal in the steps of the third."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr is not None
        assert any(
            line.startswith("vocals (3 of 3): encoding") for line in process.stderr
        )  # the steps have begun
        process.send_signal(number)
        yield process
    finally:
        process.kill()
        process.wait()


def is_gone(text: str, seconds: float) -> bool:
    """Whether no process names `text` in its command within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        listed = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
        if text not in listed:
            return True
        time.sleep(0.02)
    return False


def check_two_stems(out: Path) -> None:
    """The two finished stems and their mix are there and whole."""
    (run,) = out.glob("2*")
    assert sorted(path.name for path in run.iterdir()) == [
        "mix.wav",
        "stem-bass.wav",
        "stem-drums.wav",
        "unfinished",
    ]
    context, _ = soundfile.read(SCRIPT.parent / "smoke.wav")
    drums, bass, mix = (soundfile.read(run / f"{name}.wav")[0] for name in ("stem-drums", "stem-bass", "mix"))
    together = context.copy()
    together[: len(drums)] += drums + bass
    assert np.abs(mix / np.abs(mix).max() - together / np.abs(together).max()).max() < 1e-5


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name
)
def test_a_stopped_run_keeps_its_finished_stems_and_says_so(
    tmp_path: Path, command: Callable[..., list[str]], number: signal.Signals
) -> None:
    out = tmp_path / "out"
    with stopped_in_the_third_stem(command(SLOW, *OF_ALL, "--out", str(out)), number) as process:
        start = time.monotonic()
        _, errors = process.communicate()
        assert time.monotonic() - start < 1
    assert process.returncode == 128 + number
    (run,) = out.glob("2*")
    assert errors.splitlines()[-1] == (
        f"lego_smoke: stopped; {run} has mix.wav, stem-bass.wav, stem-drums.wav; "
        "not compared with PyTorch: drums, bass; "
        f"go on: {os.path.relpath(sys.executable)} {os.path.relpath(SCRIPT)} --again {run}"
    )
    check_two_stems(out)
    assert list(out.glob(".*")) == []
    assert is_gone(str(out), 1)


def test_a_killed_run_keeps_its_finished_stems_and_its_processes_end(
    tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    out = tmp_path / "out"
    with stopped_in_the_third_stem(command(SLOW, *OF_ALL, "--out", str(out)), signal.SIGKILL):
        assert is_gone(str(out), 1)
    check_two_stems(out)
    assert len(list(out.glob(f"{SCRATCH_PREFIX}*"))) == 1
    with scratch_folder(out) as scratch:
        assert list(out.glob(f"{SCRATCH_PREFIX}*")) == [scratch]


def test_closed_streams_a_name_that_is_no_text_and_a_context_among_the_results(
    tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    out = tmp_path / os.fsdecode(b"out\xff")
    before = out / "2020-01-01_000000-drums"
    before.mkdir(parents=True)
    mix = before / "mix.wav"
    shutil.copy(SCRIPT.parent / "smoke.wav", mix)
    (tmp_path / "link").symlink_to(before)
    arguments = command({}, "--out", str(out), "--context", str(tmp_path / "link" / "mix.wav"))
    run = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert run.returncode == 1  # the fake's stem is four samples long
    assert f"in {tmp_path}/out\\udcff/20" in run.stdout
    assert mix.read_bytes() == (SCRIPT.parent / "smoke.wav").read_bytes()
    latest = out / "latest"
    assert latest.resolve() != before
    names = sorted(path.name for path in latest.iterdir())
    assert names == ["context.wav", "mix.wav", "report.html", "report.json", "stem.wav"]
    assert json.loads((latest / "report.json").read_text())["comparison"]["mode"] == "none"
