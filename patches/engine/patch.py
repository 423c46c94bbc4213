"""The protocol that every patch of every series has: one file, one small edit, and its exact removal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import CannotRevert, UnreadableSource
from .edits import AddBlock, Insertion, insert, mark_of, remove
from .source import Source
from .states import CannotEdit, Conflict, Missing, NotAffected, OtherCode, Patched, State, UpstreamFix


@dataclass(frozen=True)
class Edit:
    """What is to be inserted; `lacks` says what the file does not do without it, for people."""

    lacks: str
    insertions: Sequence[Insertion]


Found = Edit | UpstreamFix | NotAffected | OtherCode


@dataclass(frozen=True)
class OlderForm:
    """What version 0.1 of this kit inserted: its mark, and `find` as in Patch; it is read and never written."""

    mark: str
    find: Callable[[Source], Found]
    block_sizes: Mapping[str, int]


@dataclass(frozen=True)
class Patch:
    """One patch of one file.

    name: short, unique among all series. target: which file of a checkout (see `Checkout.path`). summary: what it
    brings about, one line. find: reads a source that does not hold the patch, and returns what is to be inserted, or
    what is there in its place; raises CannotEdit. items: the names of all parameters and arguments that the patch
    may insert. block_sizes: the number of lines of each block, by what its first line says behind
    the mark. trace: text that
    stands nowhere but in this patch; "" where others might write it too.
    """

    name: str
    target: str
    summary: str
    find: Callable[[Source], Found]
    items: tuple[str, ...] = ()
    block_sizes: Mapping[str, int] = field(default_factory=dict)
    trace: str = ""
    older: OlderForm | None = None

    def __post_init__(self) -> None:
        for first in self.block_sizes:
            if not first.startswith(": "):
                raise ValueError(
                    f"patch {self.name}: the first line of a block begins with ': ', found {first!r}"
                )

    def is_in(self, source: Source) -> bool:
        """Whether the file holds a mark of this patch."""
        return any(mark in source.text for mark, _, _ in self._forms())

    def status(self, source: Source) -> State:
        """The state of the patch in a file.

        Raises ValueError where `find` returns a block that is not in `block_sizes`: a mistake of the patch itself.
        """
        if self.is_in(source):
            try:
                return Patched(self.revert(source), "the edit of this kit, byte for byte")
            except CannotRevert as reason:
                return Conflict(str(reason))
        try:
            found = self.find(source)
            if not isinstance(found, Edit):
                return found
            self._refuse_other_blocks(found)
            after = source.with_text(insert(source, mark_of(self.name), found.insertions))
        except CannotEdit as reason:
            return Conflict(str(reason))
        except UnreadableSource:
            return Conflict("the edit would not compile here")
        if self._before(after) != source.data:
            return Conflict("the edit could not be reverted to the same bytes")
        return Missing(found.lacks, after)

    def revert(self, source: Source) -> Source:
        """The file without the patch, proved by inserting it again.

        Raises CannotRevert where the inserted text is not what `status` would insert.
        """
        for mark, find, block_sizes in self._forms():
            if mark not in source.text:
                continue
            text = remove(source, mark, self.items, block_sizes)
            try:
                before = source.with_text(source.text if text is None else text)
                found = find(before) if not self.is_in(before) else None
                if isinstance(found, Edit) and insert(before, mark, found.insertions) == source.text:
                    return before
            except (CannotEdit, UnreadableSource):
                pass
        raise CannotRevert(
            f"{source.name}: the text of this kit (patch {self.name}) was edited after `apply`, so the bytes before it "
            "cannot be proved"
        )

    def _refuse_other_blocks(self, found: Edit) -> None:
        for block in (insertion for insertion in found.insertions if isinstance(insertion, AddBlock)):
            if self.block_sizes.get(block.lines[0]) != len(block.lines):
                raise ValueError(
                    f"patch {self.name}: expected block_sizes to hold {block.lines[0]!r}: {len(block.lines)}, found "
                    f"{dict(self.block_sizes)}"
                )

    def _forms(self) -> list[tuple[str, Callable[[Source], Found], Mapping[str, int]]]:
        forms = [(mark_of(self.name), self.find, self.block_sizes)]
        return [*forms, (self.older.mark, self.older.find, self.older.block_sizes)] if self.older else forms

    def _before(self, source: Source) -> bytes | None:
        try:
            return self.revert(source).data
        except CannotRevert:
            return None
