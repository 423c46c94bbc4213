"""One source file as bytes and as text, so that text can be edited and every other byte stays.

Refused here, before anything parses it for real: what Python itself does not compile, what cannot be carried
back to the same bytes, and nesting so deep that a parser may take the whole process down.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .errors import UnreadableSource

BOM = b"\xef\xbb\xbf"
MAX_NESTING = 100  # real sources stay below 30; LibCST gives up at some 250
_LONE_CR = re.compile(r"\r(?!\n)")


@dataclass(frozen=True)
class Source:
    """A readable Python file. `text` is without a byte order mark and has the file's own newlines."""

    name: str
    data: bytes
    text: str
    encoding: str
    tree: ast.Module

    def with_text(self, text: str) -> "Source":
        """The same file holding `text`, in the same encoding. Raises UnreadableSource if it does not compile."""
        if text == self.text:
            return self
        head = BOM if self.data.startswith(BOM) else b""
        data = head + text.encode(self.encoding)
        return replace(self, data=data, text=text, tree=_tree(self.name, data))


def read(name: str, path: Path) -> Source:
    """Reads `path`; `name` is what messages call it. Raises UnreadableSource, in one sentence."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableSource(f"{name}: expected a readable file, found: {error.strerror}.") from error
    return from_bytes(name, data)


def from_bytes(name: str, data: bytes) -> Source:
    """The source that `data` is. Raises UnreadableSource."""
    encoding = _encoding(name, data)
    body = data[len(BOM) :] if data.startswith(BOM) else data
    try:
        text = body.decode(encoding)
        same = text.encode(encoding) == body
    except (UnicodeError, LookupError) as error:
        raise _refusal(name, f"text in {encoding}", str(error)) from error
    if not same:
        raise _refusal(name, f"{encoding} that reads and writes the same", "bytes that come back changed")
    lone = _LONE_CR.search(text)
    if lone:
        line = text.count("\n", 0, lone.start()) + 1
        raise _refusal(name, "lines that end in LF or CRLF", f"a lone CR in line {line}")
    return Source(name, data, text, encoding, _tree(name, data))


def _encoding(name: str, data: bytes) -> str:
    try:
        found, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    except SyntaxError as error:
        raise _refusal(name, "a Python source in its declared encoding", str(error)) from error
    return "utf-8" if found == "utf-8-sig" else found


@lru_cache(maxsize=64)
def _tree(name: str, data: bytes) -> ast.Module:
    """Compiles for good, not just parses: `return` outside of a function must be seen here too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data, name)
            _refuse_deep_nesting(name, tree)
            compile(data, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        found = f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
        raise _refusal(name, "a source that compiles", found) from error
    except (RecursionError, MemoryError) as error:
        raise _refusal(name, "a source that compiles", "nesting too deep for Python's compiler") from error
    except (ValueError, OverflowError) as error:
        raise _refusal(name, "a source that compiles", str(error)) from error
    return tree


def _refuse_deep_nesting(name: str, tree: ast.AST) -> None:
    """Level by level, because a walk that recurses is what must not happen here."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    lines: Iterable[int] = (line for node in level if (line := getattr(node, "lineno", 0)))
    raise _refusal(name, f"at most {MAX_NESTING} levels of nesting", f"more in line {next(iter(lines), 1)}")


def _refusal(name: str, expected: str, found: str) -> UnreadableSource:
    return UnreadableSource(
        f"{name}: expected {expected}, found {found}. Nothing was changed; "
        "mend the file or take it anew from git, then run this again."
    )
