"""The folder of a run's results: a new one for every run, each file in it whole, nothing overwritten.

Files are written in a scratch folder beside it and moved when they are complete, so that a run that is killed leaves
no half-written file. The scratch folder holds a lock; a later run removes those whose lock nobody holds any more.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from acestep.errors import AceStepError, OutputError, RequestError
from smoke import stop
from smoke.disk import full_disk

SCRATCH_PREFIX = ".lego_smoke-"
LOCK, LATEST = "lock", "latest"
MOST_NAMES = 3


@contextmanager
def scratch_folder(out: Path) -> Iterator[Path]:
    """A scratch folder below `out`, removed afterwards; RequestError where `out` cannot be written to."""
    made = [
        folder for folder in (out, *out.parents) if not os.path.exists(folder)
    ]  # False for a name that is too long
    created: list[Path] = []

    def clean() -> None:
        for path in created:
            shutil.rmtree(path, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # not empty: the run has results in it
                folder.rmdir()

    with stop.session.undoing(clean):
        try:
            with stop.session.held():
                out.mkdir(parents=True, exist_ok=True)
                with locked(out):
                    remove_abandoned(out)
                    created.append(Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=out)))
                    lock = os.open(created[0] / LOCK, os.O_CREAT | os.O_RDWR)
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            reason = "it is a file" if os.path.isfile(out) else error.strerror or error
            raise RequestError(
                f"--out {out} cannot be written to ({reason}); give a folder in which a new one can be made"
            ) from None
        try:
            yield created[0]
        finally:
            os.close(lock)


@contextmanager
def full_disk_refused() -> Iterator[None]:
    """OutputError, with what was kept, in place of any error of a full disk that has no sentence of its own yet."""
    try:
        yield
    except AceStepError:
        raise
    except Exception as error:
        if (problem := full_disk(error)) is None:
            raise
        raise OutputError(f"{problem}; {stop.session.kept()}") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time is in this block for a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_abandoned(out: Path) -> None:
    """Removes the scratch folders of runs that were killed: those whose lock can be taken."""
    for scratch in out.glob(f"{SCRATCH_PREFIX}*"):
        try:
            lock = os.open(scratch / LOCK, os.O_RDWR)
        except OSError:
            shutil.rmtree(scratch, ignore_errors=True)  # killed before it had one
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
        except BlockingIOError:
            pass  # another run is using it
        finally:
            os.close(lock)


class RunFolder:
    """`out`/DATE_TIME-NAMES, made with the first result that is put into it."""

    def __init__(self, out: Path, names: Sequence[str], scratch: Path) -> None:
        few = dict.fromkeys(names)
        tail = "-".join(few) if len(few) <= MOST_NAMES else f"{len(few)}-tracks"
        self._out, self._scratch = out, scratch
        self._name = f"{datetime.now():%Y-%m-%d_%H%M%S}-{tail}"
        self._made: Path | None = None
        self.linked = False

    @property
    def path(self) -> Path:
        """The folder; before it is made, where it would be."""
        return self._made or self._out / self._name

    @property
    def is_made(self) -> bool:
        """Whether there is a result in it."""
        return self._made is not None

    def publish(self, name: str, write: Callable[[Path], object]) -> Path:
        """`write` is given a scratch path; the complete file is moved into the folder. OutputError where that fails."""
        scratch = self._scratch / f"publish-{Path(name).name}"
        try:
            write(scratch)
            return self._move(scratch, name)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise self._cannot_write(name, error) from None

    def move(self, source: Path, name: str) -> Path:
        """Moves a complete folder from the scratch folder into this one. OutputError where that fails."""
        try:
            return self._move(source, name)
        except OSError as error:
            raise self._cannot_write(name, error) from None

    def _move(self, source: Path, name: str) -> Path:
        with stop.session.held():
            target = self._make() / name
            target.parent.mkdir(exist_ok=True)
            return source.replace(target)

    def _cannot_write(self, name: str, error: OSError) -> OutputError:
        return OutputError(
            f"{name} cannot be written to {self.path} ({error.strerror or error}); {self.describe()}"
        )

    def _make(self) -> Path:
        """The folder; of two runs that begin in the same second, the second has a number behind its name."""
        number = 1
        while self._made is None:
            path = self._out / (self._name if number == 1 else f"{self._name}-{number}")
            try:
                path.mkdir()
                self._made = path
            except FileExistsError:
                number += 1
                continue
            self.linked = self._link_latest(path.name)
        return self._made

    def _link_latest(self, name: str) -> bool:
        """`out`/latest leads to the folder, unless it is no link or the file system has none."""
        latest, link = self._out / LATEST, self._scratch / LATEST
        if latest.exists() and not latest.is_symlink():
            return False
        try:
            link.symlink_to(name, target_is_directory=True)
            os.replace(link, latest)
        except OSError:  # a file system without links
            return False
        return True

    def describe(self) -> str:
        """What is in the folder, for whoever stopped the run or lost it."""
        if self._made is None:
            return stop.NOTHING
        names = sorted(path.name for path in self._made.iterdir() if path.is_file())
        return f"{self._made} has {', '.join(names) or 'no finished file'}"
