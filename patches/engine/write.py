"""Replaces files one by one, each atomically; a failure or a signal in between leaves all of them as they were."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from ..errors import ChangedMeanwhile, WriteFailed

_SUFFIX = ".patches-tmp"
_SIGNALS = [s for name in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None]


@dataclass(frozen=True)
class Change:
    """One file, its bytes when the change was planned, and its bytes to be."""

    path: Path
    before: bytes
    after: bytes

    @property
    def undone(self) -> Change:
        return Change(self.path, self.after, self.before)


def write_all(changes: Sequence[Change]) -> list[str]:
    """Replaces the files in the given order. Returns what has to be said about them (a file's new owner).

    A reader sees each file whole, old or new. Signals wait until all files are new, or all are old again. Only a
    process that is killed in between leaves some new and some old; `check` then shows which.

    Raises:
        ChangedMeanwhile: a file no longer holds `before`; nothing was written.
        WriteFailed: the system refused; what had been replaced was put back, or the message says what was not.
    """
    targets = [change.path.resolve() for change in changes]  # a link inside the checkout stays a link
    staged: list[Path] = []
    notes: list[str] = []
    with _signals_wait():
        try:
            for target, change in zip(targets, changes, strict=True):
                _refuse_changed(change, target)
                temporary, note = _stage(target, change.after)
                staged.append(temporary)
                notes += note
            for target, change, temporary in zip(targets, changes, staged, strict=True):
                _refuse_changed(change, target)
                os.replace(temporary, target)
                _sync_folder(target.parent)
        except OSError as error:
            reason = (
                f"{error.filename or 'the checkout'}: expected to be able to write, found: {error.strerror}."
            )
            _put_back(targets, changes, reason)
            raise WriteFailed(
                reason,
                "All files are as they were; make the folder and the files writable, then run this again.",
            ) from error
        except BaseException as error:
            _put_back(targets, changes, str(error) or "Interrupted.")
            raise
        finally:
            for temporary in staged:
                temporary.unlink(missing_ok=True)
    return notes


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that would end the process are delivered when the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        waiting.append(number)

    handlers = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in dict.fromkeys(waiting):
            signal.raise_signal(number)


def _put_back(targets: Sequence[Path], changes: Sequence[Change], reason: str) -> None:
    """Undoes the replacements that took place, the last one first. Raises WriteFailed if that is refused too."""
    replaced = [
        (t, c) for t, c in zip(targets, changes, strict=True) if holds(t, c.after) and c.before != c.after
    ]
    try:
        while replaced:
            target, change = replaced[-1]
            temporary, _ = _stage(target, change.before)
            try:
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            replaced.pop()
    except OSError as error:
        names = ", ".join(str(change.path) for _, change in replaced)
        raise WriteFailed(
            reason,
            f"Putting back what was written failed as well ({error.strerror}): {names} hold the new text, the others "
            "the old one. When the disk takes writes again, run the same command to finish, or `revert`.",
        ) from error


def holds(target: Path, data: bytes) -> bool:
    """Whether a file can be read and has these bytes."""
    try:
        return target.read_bytes() == data
    except OSError:
        return False


def _refuse_changed(change: Change, target: Path) -> None:
    if target.read_bytes() != change.before:
        raise ChangedMeanwhile(
            f"{change.path}: expected the bytes that were read a moment ago, found others. "
            "Nothing was changed; run this again when nothing else writes there."
        )


def _stage(target: Path, data: bytes) -> tuple[Path, list[str]]:
    """`data` in a file beside `target`, with its mode, owner and extended attributes as far as the system allows."""
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "the file is read-only", str(target))
    status = target.stat()
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            notes = _give_owner(file.fileno(), target, status)
            file.flush()
            os.fsync(file.fileno())
        _copy_attributes(target, name)
        os.chmod(name, status.st_mode & 0o7777)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), notes


def _give_owner(handle: int, target: Path, status: os.stat_result) -> list[str]:
    if not hasattr(os, "fchown") or (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid()):
        return []
    with contextlib.suppress(PermissionError):
        os.fchown(handle, status.st_uid, status.st_gid)
        return []
    with contextlib.suppress(PermissionError):
        os.fchown(handle, -1, status.st_gid)
    return [
        f"{target.name}: its owner was user {status.st_uid}, now it is user {os.geteuid()}, who wrote it."
    ]


def _copy_attributes(target: Path, name: str) -> None:
    """Linux alone lets Python read them; an attribute that the system keeps for itself is left out."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for attribute in os.listxattr(target):
                with contextlib.suppress(OSError):
                    os.setxattr(name, attribute, os.getxattr(target, attribute))


def _sync_folder(folder: Path) -> None:
    """So that the order of the replacements survives a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Removes the staged files of runs that were killed; those of a process that is alive are left alone."""
    if os.name != "posix":  # elsewhere asking whether a process is alive would end it
        return
    for target in (path.resolve() for path in paths):
        for path in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
            number = path.name[len(target.name) + 2 :].partition(".")[0]
            if number.isdigit() and not _is_alive(int(number)):
                with contextlib.suppress(OSError):  # a folder that cannot be written stops an edit by itself
                    path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
