"""Standard streams that a run can rely on: closed ones are replaced, and one that breaks does not end the run."""

import io
import os
import sys
from typing import Any, TextIO, cast


class Unbreakable:
    """A text stream; once it cannot be written to (a closed pipe or terminal, a full disk), output is dropped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As of a text stream."""
        try:
            return self._stream.write(text)
        except OSError:
            self._drop_the_rest()
            return len(text)

    def flush(self) -> None:
        """As of a text stream."""
        try:
            self._stream.flush()
        except OSError:
            self._drop_the_rest()

    def _drop_the_rest(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Replaces sys.stdout and sys.stderr; characters that the terminal cannot show are written as escapes."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened would be taken for it
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, Unbreakable(stream)))
