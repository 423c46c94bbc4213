"""The unified diff of planned changes, as bytes that `git apply` takes in the checkout, CRLF or not."""

from __future__ import annotations

import difflib
from pathlib import Path

_NO_NEWLINE = b"\n\\ No newline at end of file\n"
_ESCAPES = {
    7: b"\\a",
    8: b"\\b",
    9: b"\\t",
    10: b"\\n",
    11: b"\\v",
    12: b"\\f",
    13: b"\\r",
    34: b'\\"',
    92: b"\\\\",
}


def prefix_in_repository(root: Path) -> str:
    """Where `root` is in its git repository, with a slash ("" at the top or without one).

    `git apply` takes names from the top of the repository, wherever it runs, and leaves out others without a word.
    """
    here = root.resolve()
    top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    return "" if top == here else f"{here.relative_to(top).as_posix()}/"


def unified_diff(name: str, before: bytes, after: bytes) -> bytes:
    """The diff of one file called `name`; empty if nothing changes."""
    if before == after:
        return b""
    raw = name.encode("utf-8", "surrogateescape")
    old, new = _quoted(b"a/" + raw), _quoted(b"b/" + raw)
    # As git writes it: without the tab a space would end the name.
    tab = b"\t" if b" " in raw and not old.startswith(b'"') else b""
    lines = difflib.diff_bytes(
        difflib.unified_diff, _lines(before), _lines(after), old + tab, new + tab, lineterm=b"\n"
    )
    body = b"".join(line if line.endswith(b"\n") else line + _NO_NEWLINE for line in lines)
    return b"diff --git " + old + b" " + new + b"\n" + body


def _quoted(name: bytes) -> bytes:
    """The name as git writes it: quoted where it holds a control character, a quote or a backslash."""
    if not any(byte < 32 or byte in (34, 92, 127) for byte in name):
        return name
    escaped = (_ESCAPES.get(b) or (bytes([b]) if 32 <= b < 127 else b"\\%03o" % b) for b in name)
    return b'"' + b"".join(escaped) + b'"'


def _lines(data: bytes) -> list[bytes]:
    """Split at LF alone: a CR stays part of its line, as git sees it."""
    *whole, rest = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([rest] if rest else [])
