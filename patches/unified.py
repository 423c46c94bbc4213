"""The unified diff of planned changes, as bytes that `git apply` takes in the checkout, CRLF or not."""

import difflib
from collections.abc import Iterable
from pathlib import Path

_NO_NEWLINE = b"\n\\ No newline at end of file\n"


def prefix_in_repository(root: Path) -> str:
    """Where `root` is in its git repository, with a slash ("" at the top or without one).

    `git apply` takes names from the top of the repository, wherever it runs: others it leaves out silently.
    """
    here = root.resolve()
    top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return "" if top == here else f"{here.relative_to(top).as_posix()}/"


def unified_diff(name: str, before: bytes, after: bytes) -> bytes:
    """The diff of one file called `name`; empty if nothing changes."""
    if before == after:
        return b""
    path = name.encode()
    lines = difflib.diff_bytes(
        difflib.unified_diff, _lines(before), _lines(after), b"a/" + path, b"b/" + path, lineterm=b"\n"
    )
    body = b"".join(line if line.endswith(b"\n") else line + _NO_NEWLINE for line in lines)
    return b"diff --git a/" + path + b" b/" + path + b"\n" + body


def _lines(data: bytes) -> list[bytes]:
    """Split at LF alone: a CR stays part of its line, as git sees it."""
    parts: Iterable[bytes] = data.split(b"\n")
    *whole, rest = parts
    return [line + b"\n" for line in whole] + ([rest] if rest else [])
