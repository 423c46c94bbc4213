"""The processes of this machine, and how to end all that descend from one of them.

Linux: read from /proc; a supervisor that is a subreaper stays the ancestor of every descendant, so none is missed.
Elsewhere (macOS): read with `ps`; a descendant is found as long as it was seen once while its parent was alive.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LINUX = sys.platform.startswith("linux")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


@dataclass(frozen=True)
class Process:
    """start: tells apart two processes that had the same pid one after the other. memory: resident, in bytes."""

    pid: int
    parent: int
    start: str
    memory: int


def become_subreaper() -> None:
    """Orphaned descendants become children of this process instead of init's. Linux alone; elsewhere no effect."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """The system kills this process when its parent ends, however it ends. Linux alone; elsewhere no effect."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def stay_on_one_processor() -> None:
    """Threads of this process take turns, on the processor that the system chose for it. Linux alone.

    MLX hands each operation to a thread of its own: over two processors, the wake-ups take longer than the small
    operations of a fake decoder.
    """
    if sys.platform == "linux":  # not LINUX: a type checker on another system knows this alone
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with contextlib.suppress(OSError, ValueError):  # not on every kernel, or not allowed
            os.sched_setaffinity(0, {ctypes.CDLL(None).sched_getcpu()})


def _prctl(option: int, value: int) -> None:
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Descendants:
    """Every process that descends from this one, as far as the system lets us know."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}

    def alive(self) -> list[Process]:
        """Those alive now, zombies left out."""
        table = {process.pid: process for process in _processes()}
        mine = {pid for pid, start in self._seen.items() if pid in table and table[pid].start == start}
        mine.add(os.getpid())
        grown = True
        while grown:
            more = {pid for pid, process in table.items() if process.parent in mine} - mine
            mine |= more
            grown = bool(more)
        found = [table[pid] for pid in mine - {os.getpid()} if pid in table]
        self._seen = {process.pid: process.start for process in found}
        return found

    def kill(self, seconds: float = 5.0) -> int:
        """Kill all until none is left or `seconds` have passed. Returns how many are left."""
        deadline = time.monotonic() + seconds
        while left := self.alive():
            for process in left:
                _kill(process.pid)
            _reap()
            if time.monotonic() > deadline:
                return len(left)
            time.sleep(0.005)
        _reap()
        return 0


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # ended meanwhile, or runs as another user
        os.kill(pid, signal.SIGKILL)


def _reap() -> None:
    """Collect children that ended; their entries would stay in the process table."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _processes() -> Iterator[Process]:
    return _from_proc() if LINUX else _from_ps()


def _from_proc() -> Iterator[Process]:
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            stat = Path("/proc", entry, "stat").read_bytes()
        except OSError:  # ended meanwhile, or not ours to read
            continue
        # the name in parentheses may hold spaces; what follows starts with field 3, the state
        fields = stat.rpartition(b")")[2].split()
        if fields[0] not in (b"Z", b"X"):
            yield Process(int(entry), int(fields[1]), fields[19].decode(), int(fields[21]) * page)


def _from_ps() -> Iterator[Process]:
    with subprocess.Popen(
        ["ps", "-A", "-o", "pid=,ppid=,rss=,state=,lstart="],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
        text=True,
    ) as ps:
        listing, _ = ps.communicate()
    for line in listing.splitlines():
        pid, parent, kibibytes, state, start = line.split(maxsplit=4)
        if not state.startswith("Z") and int(pid) != ps.pid:
            yield Process(int(pid), int(parent), start, int(kibibytes) * 1024)
