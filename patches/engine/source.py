"""One source file as bytes, as text with its syntax tree, and as tokens, so that every byte outside an edit stays."""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
import warnings
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from ..errors import UnreadableSource

BOM = b"\xef\xbb\xbf"
_LONE_CR = re.compile(r"\r(?!\n)")
_UNDECODED = re.compile("[\udc80-\udcff]")
_SKIPPED = (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


@dataclass(frozen=True)
class Token:
    """One token; `start` and `end` are offsets in the text, in characters."""

    kind: int
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Source:
    """A readable Python file. `text` has no byte order mark and keeps the file's own newlines.

    A byte that is not UTF-8 but stands in a comment, where Python accepts it, is kept as a lone surrogate.
    """

    name: str
    data: bytes
    text: str
    encoding: str
    tree: ast.Module

    def with_text(self, text: str) -> Source:
        """The same file holding `text`, in the same encoding. Raises UnreadableSource if it does not compile."""
        if text == self.text:
            return self
        head = BOM if self.data.startswith(BOM) else b""
        try:
            data = head + text.encode(self.encoding, "surrogateescape")
        except UnicodeError as error:
            raise _refusal(self.name, f"text in {self.encoding}", str(error)) from error
        return replace(self, data=data, text=text, tree=_tree(self.name, data))

    def offset(self, line: int, column: int) -> int:
        """The offset in the text of ast's line (from 1) and column (in UTF-8 bytes)."""
        start = self._line_starts[line - 1]
        end = self._line_starts[line] if line < len(self._line_starts) else len(self.text)
        encoded = self.text[start:end].encode("utf-8", "surrogateescape")
        return start + len(encoded[:column].decode("utf-8", "surrogateescape"))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The offsets at which `node` begins and ends."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def code(self, node: ast.expr | ast.stmt) -> str:
        """The text of `node` as it stands in the file."""
        start, end = self.span(node)
        return self.text[start:end]

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens of the file in their order, comments included, line ends and indentation left out."""
        return _tokens(self.text)

    def token_index(self, offset: int) -> int:
        """The index of the first token that begins at `offset` or behind it."""
        return bisect_left(self.tokens, offset, key=lambda token: token.start)

    @cached_property
    def brackets(self) -> dict[int, int]:
        """For each bracket's index among the tokens, the index of its partner."""
        partners, opened = {}, []
        for index, token in enumerate(self.tokens):
            if token.kind != tokenize.OP:
                continue
            if token.text in "([{":
                opened.append(index)
            elif token.text in ")]}":
                partners[index] = opened.pop()
                partners[partners[index]] = index
        return partners

    @cached_property
    def _line_starts(self) -> list[int]:
        return _starts(self.text)


def nodes_of(node: ast.AST) -> tuple[ast.AST, ...]:
    """`node` and all below it, in the order of `ast.walk`; kept with the node, since no tree is ever changed."""
    kept: tuple[ast.AST, ...] | None = vars(node).get("nodes_of")
    if kept is None:
        kept = vars(node)["nodes_of"] = tuple(ast.walk(node))
    return kept


def read(name: str, path: Path) -> Source:
    """Reads `path`; `name` is what messages call it. Raises UnreadableSource, in one sentence."""
    if not os.path.isfile(path):
        raise UnreadableSource(f"{name}: expected a file, found none.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableSource(
            f"{name}: expected a file that can be read, found: {error.strerror}."
        ) from error
    return from_bytes(name, data)


def from_bytes(name: str, data: bytes) -> Source:
    """The source that `data` is. Raises UnreadableSource."""
    tree = _tree(name, data)
    encoding = _encoding(name, data)
    body = data[len(BOM) :] if data.startswith(BOM) else data
    try:
        text = body.decode(encoding, "surrogateescape")
        same = text.encode(encoding, "surrogateescape") == body
    except (UnicodeError, LookupError) as error:
        raise _refusal(name, f"text in {encoding}", str(error)) from error
    if not same:
        raise _refusal(name, f"{encoding} that reads and writes the same", "bytes that come back changed")
    lone = _LONE_CR.search(text)
    if lone:
        line = text.count("\n", 0, lone.start()) + 1
        raise _refusal(name, "lines that end in LF or CRLF", f"a lone CR in line {line}")
    return Source(name, data, text, encoding, tree)


def _encoding(name: str, data: bytes) -> str:
    first_lines = b"\n".join(data.split(b"\n", 2)[:2]).decode("latin-1").encode("ascii", "replace")
    head = (
        data if data.startswith(BOM) else first_lines
    )  # a byte that is not UTF-8 may stand in a comment there
    try:
        found, _ = tokenize.detect_encoding(io.BytesIO(head).readline)
    except SyntaxError as error:
        raise _refusal(name, "a Python source in its declared encoding", str(error)) from error
    return "utf-8" if found == "utf-8-sig" else found


@lru_cache(maxsize=64)  # an edit is made, removed and made again: the same bytes are compiled several times
def _tree(name: str, data: bytes) -> ast.Module:
    """Compiles and does not only parse: `return` outside of a function must be found here too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(data, name)
            compile(data, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        found = f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)
        raise _refusal(name, "a source that compiles", found) from error
    except (RecursionError, MemoryError) as error:
        raise _refusal(name, "a source that compiles", "nesting too deep for Python's compiler") from error
    except (ValueError, OverflowError) as error:
        raise _refusal(name, "a source that compiles", str(error)) from error
    return tree


@lru_cache(maxsize=64)
def _tokens(text: str) -> tuple[Token, ...]:
    starts = _starts(text)
    lines = _UNDECODED.sub("?", text)  # Python's tokenizer takes no lone surrogates
    return tuple(
        Token(
            token.type,
            token.string,
            starts[token.start[0] - 1] + token.start[1],
            starts[token.end[0] - 1] + token.end[1],
        )
        for token in tokenize.generate_tokens(io.StringIO(lines, newline="").readline)
        if token.type not in _SKIPPED
    )


def _starts(text: str) -> list[int]:
    """The offset of each line."""
    return [0, *(found.end() for found in re.finditer("\n", text))]


def _refusal(name: str, expected: str, found: str) -> UnreadableSource:
    return UnreadableSource(
        f"{name}: expected {expected}, found {found}. Correct the file and run this again."
    )
