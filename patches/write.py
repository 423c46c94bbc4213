"""Replaces files one by one, each atomically; on an error all that were replaced are put back."""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ChangedMeanwhile, WriteFailed

_SUFFIX = ".patches-tmp"


@dataclass(frozen=True)
class Change:
    """One file, its bytes when the change was planned, and its bytes to be."""

    path: Path
    before: bytes
    after: bytes


def write_all(changes: Sequence[Change]) -> None:
    """Replaces the files in the given order.

    A reader sees each file whole, old or new. Killed in between, some are new and some are old.

    Raises:
        ChangedMeanwhile: a file no longer holds `before`; nothing was written.
        WriteFailed: the system refused; what had been replaced was put back, or the message says what was not.
    """
    targets = [change.path.resolve() for change in changes]  # a link inside the checkout stays a link
    staged: list[Path] = []
    replaced: list[tuple[Path, Change]] = []
    try:
        for target, change in zip(targets, changes, strict=True):
            _clear_leftovers(target)
            _refuse_changed(change, target)
            staged.append(_stage(target, change.after))
        for target, change, temporary in zip(targets, changes, tuple(staged), strict=True):
            _refuse_changed(change, target)
            os.replace(temporary, target)
            replaced.append((target, change))
            _sync_folder(target.parent)
    except OSError as error:
        told = f"{error.filename or 'the checkout'}: expected to be able to write, found: {error.strerror}."
        _put_back(replaced, told)
        raise WriteFailed(
            f"{told} All files are as they were; make the folder and the files writable, then run this again."
        ) from error
    except BaseException as error:  # a file changed meanwhile, or somebody pressed Ctrl-C
        _put_back(replaced, str(error) or "Interrupted.")
        raise
    finally:
        for temporary in staged:
            temporary.unlink(missing_ok=True)


def _put_back(replaced: Sequence[tuple[Path, Change]], told: str) -> None:
    """Undoes the replacements, the last one first. Raises WriteFailed if the system refuses that too."""
    left = list(replaced)
    try:
        while left:
            target, change = left[-1]
            os.replace(_stage(target, change.before), target)
            left.pop()
    except OSError as error:
        names = ", ".join(str(change.path) for _, change in left)
        raise WriteFailed(
            f"{told} Putting back what was written failed as well ({error.strerror}): {names} hold the new text, "
            "the others the old one. When the disk takes writes again, run the same command to finish, or `revert`."
        ) from error


def _refuse_changed(change: Change, target: Path) -> None:
    if target.read_bytes() != change.before:
        raise ChangedMeanwhile(
            f"{change.path}: expected the bytes that were read a moment ago, found others. "
            "Nothing was changed; run this again when nothing else writes there."
        )


def _stage(target: Path, data: bytes) -> Path:
    """`data` in a file beside `target`, with its mode and owner."""
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "the file is read-only", str(target))
    status = target.stat()
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.{os.getpid()}.", suffix=_SUFFIX, dir=target.parent
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if hasattr(os, "fchown") and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, status.st_mode & 0o7777)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _sync_folder(folder: Path) -> None:
    """So that the order of the replacements survives a power cut, where the system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _clear_leftovers(target: Path) -> None:
    """Removes the staged files of earlier runs that were killed; those of a run that lives are left alone."""
    if os.name != "posix":  # elsewhere asking whether a process lives would end it
        return
    for path in target.parent.glob(f".{target.name}.*{_SUFFIX}"):
        pid = path.name[len(target.name) + 2 :].partition(".")[0]
        if pid.isdigit() and not _lives(int(pid)):
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
