"""Patches of this series that insert one block of lines."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.patch import Found, OlderForm, Patch
from ..engine.source import Source

Lines = tuple[str, ...]


def one_block(
    name: str,
    target: str,
    summary: str,
    find: Callable[[Source, Lines], Found],
    lines: Lines,
    older_mark: str = "",
    older_lines: Lines = (),
) -> Patch:
    """The patch that inserts `lines` where `find(source, lines)` says.

    lines: the first one begins with ": " and completes the mark; into the others `find` may write names of the file.
    older_mark, older_lines: what version 0.1 inserted at the same place, its mark and, behind "", its lines; patches
    that are newer have none.
    """

    def find_older(source: Source) -> Found:
        return find(source, older_lines)

    older = OlderForm(older_mark, find_older, {older_lines[0]: len(older_lines)}) if older_mark else None
    return Patch(
        name,
        target,
        summary,
        lambda source: find(source, lines),
        block_sizes={lines[0]: len(lines)},
        older=older,
    )
