"""The loop of a checkout that the decoder is called from, and how it came to end early."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType


@dataclass(frozen=True)
class DecoderLoop:
    """The loop that the decoder is called from, and the frame that calls the decoder itself."""

    code: CodeType
    node: ast.For | ast.While
    lines: list[int]
    caller: FrameType

    @property
    def _inside(self) -> list[int]:
        """The lines of the loop that were executed, in order."""
        return [line for line in self.lines if self.node.lineno <= line <= (self.node.end_lineno or 0)]

    @property
    def was_left(self) -> bool:
        """Whether a `break` or `return` was the last line executed in the loop."""
        leaving = {node.lineno for node in ast.walk(self.node) if isinstance(node, ast.Break | ast.Return)}
        return bool(self._inside) and self._inside[-1] in leaving

    def describe(self, calls: int, root: str) -> str:
        place = place_of(self.code, self.node.lineno, root)
        if self.was_left:
            where = place_of(self.code, self._inside[-1], root)
            return f"the loop ended early, after {calls} evaluations, at {where}"
        turns = Counter(self._inside)[self.node.body[0].lineno]
        if turns <= calls:
            return f"the decoder is called {calls} times by the loop at {place}"
        through = place_of(self.caller.f_code, self.caller.f_code.co_firstlineno, root)
        return (
            f"the loop at {place} runs {turns} times, the decoder is called {calls} times, "
            f"by {self.caller.f_code.co_name} at {through}"
        )


def enclosing_loop(code: CodeType, line: int) -> ast.For | ast.While | None:
    """The innermost loop of the frame's function around `line`."""
    try:
        loops = _loops(Path(code.co_filename).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    around = [node for node in loops if code.co_firstlineno <= node.lineno <= line <= (node.end_lineno or 0)]
    return max(around, key=lambda node: node.lineno, default=None)


@lru_cache(maxsize=8)  # of a few files, asked for by every evaluation until the loop is found
def _loops(source: bytes) -> tuple[ast.For | ast.While, ...]:
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For | ast.While))


def place_of(code: CodeType, line: int, root: str) -> str:
    """`file:line`, the file relative to the checkout."""
    return f"{Path(code.co_filename).relative_to(root).as_posix()}:{line}"
