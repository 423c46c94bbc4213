"""What is going on and how long it will take: bars on a terminal, elsewhere a plain line for each part that is over."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from smoke import stop, words

KEPT = 6  # parts that are over and still shown


class Times(ProgressColumn):
    """How much of a part is done and in how long, and how long the rest will take where that can be known."""

    def render(self, task: Task) -> Text:
        """Such as '12/50  0:04, 0:13 left'."""
        count = f"{task.completed:.0f}/{task.total:.0f}  " if task.total and task.fields["counted"] else ""
        left = "" if task.finished or task.time_remaining is None else f", {clock(task.time_remaining)} left"
        return Text(f"{count}{clock((task.finished_time or task.elapsed) or 0.0)}{left}")


def clock(seconds: float) -> str:
    """0:07, 12:30"""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Parts:
    """The parts of a session, one after another on `stream`; of several stems, how many are done besides."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: Progress | None = None
        self._tasks: list[TaskID] = []
        self._stems: TaskID | None = None
        self._part = ""
        self._start = 0.0
        if stream.isatty():
            console = Console(file=stream)
            columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), Times()
            self._bars = Progress(*columns, console=console)
            self._bars.start()

    def begin(self, part: str, of: int | None = None) -> None:
        """The former part is over, this one begins; `of`: how many times `at` will count, None where nobody knows."""
        self.end()
        self._part, self._start = part, time.monotonic()
        if self._bars is not None:
            self._tasks.append(self._bars.add_task(part, total=of, counted=of is not None))
            for task in self._tasks[:-KEPT]:
                self._bars.remove_task(task)
            del self._tasks[:-KEPT]

    def at(self, done: int) -> None:
        """So many of the part's are done."""
        if self._bars is not None and self._tasks:
            self._bars.update(self._tasks[-1], completed=done)

    def end(self) -> None:
        """The part is over."""
        if not self._part:
            return
        if self._bars is None:
            spent = words.seconds(time.monotonic() - self._start)
            print(f"{self._part}: {spent}", file=self._stream, flush=True)
        else:
            task = self._tasks[-1]
            total = next(found.total for found in self._bars.tasks if found.id == task) or 1
            self._bars.update(task, total=total, completed=total)
        self._part = ""

    def stem(self, done: int, of: int) -> None:
        """Of several stems so many are done."""
        if self._bars is None or of == 1:
            return
        if self._stems is None:
            self._stems = self._bars.add_task("stems", total=of, counted=True)
        self._bars.update(self._stems, completed=done)

    def close(self) -> None:
        """Nothing more is shown, and the terminal is as it was. May be called twice."""
        self._part = ""
        if self._bars is not None:
            self._bars.stop()


@contextmanager
def showing(stream: TextIO) -> Iterator[Parts]:
    """Parts on a stream that is as it was afterwards, also when the session is stopped."""
    parts = Parts(stream)
    with stop.session.undoing(parts.close):
        yield parts
