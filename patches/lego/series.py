"""The series' patches in order, and what each makes of a checkout: planned in memory, proved, all or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from ..checkout import Checkout, inside
from ..errors import KitError, UnreadableSource
from ..outcomes import Applied, CannotEdit, NotApplicable, NotApplied, State
from ..source import Source, read
from . import codes, context, fallback, momentum, prompt, seed, threads
from .block import Block, cut, insert

SERIES_NAME = "lego"


class Patch(Protocol):
    """What each module of this series defines; SIZE counts the lines of its block, the comment included."""

    NAME: str
    FILE: str
    WHAT: str
    COMMENT: str
    SIZE: int

    def settled(self, source: Source) -> str | None: ...
    def place(self, source: Source) -> Block: ...


PATCHES = cast(tuple[Patch, ...], (context, prompt, codes, seed, momentum, fallback, threads))


class UnknownPatch(KitError):
    """A name that is neither the series' nor one of its patches'."""

    exit_status = 2


class CannotTakeOut(KitError):
    """What a patch put in was edited since; nothing was written."""


@dataclass(frozen=True)
class Row:
    """One patch on one checkout. `name` is its file as people see it."""

    patch: Patch
    name: str
    state: State


@dataclass(frozen=True)
class SeriesPlan:
    """What is there, the state of each chosen patch, and the files after those that are still to be made."""

    before: Mapping[Path, Source]
    rows: Sequence[Row]
    after: Mapping[Path, Source]

    @property
    def applicable(self) -> bool:
        return not any(isinstance(row.state, NotApplicable) for row in self.rows)

    @property
    def applied(self) -> bool:
        return all(isinstance(row.state, Applied) for row in self.rows)


def chosen(names: Sequence[str]) -> list[Patch]:
    """The patches of these names, in the series' order. Raises UnknownPatch."""
    wanted = {name for joined in names for name in joined.split(",")}
    known = {patch.NAME for patch in PATCHES}
    unknown = sorted(wanted - known - {SERIES_NAME})
    if unknown:
        raise UnknownPatch(
            f"--series: expected {SERIES_NAME} or any of {', '.join(p.NAME for p in PATCHES)}, "
            f"found {', '.join(unknown)}; see them with --list."
        )
    return [patch for patch in PATCHES if SERIES_NAME in wanted or patch.NAME in wanted]


def make_series_plan(checkout: Checkout, patches: Sequence[Patch]) -> SeriesPlan:
    """Judges the patches one after the other, each on what those before it leave. Writes nothing."""
    before = _read_all(checkout, patches)
    now, rows = dict(before), []
    for patch in patches:
        path = _path(checkout, patch)
        source = now.get(path)
        state = NotApplicable("the file is not there") if source is None else _state(patch, source)
        if isinstance(state, NotApplied):
            now[path] = state.after
        rows.append(Row(patch, checkout.name(path), state))
    return SeriesPlan(before, rows, now)


def take_out(checkout: Checkout, patches: Sequence[Patch]) -> SeriesPlan:
    """The plan that goes back: `after` is without what the patches put in. Raises CannotTakeOut."""
    before = _read_all(checkout, patches)
    now, rows = dict(before), []
    for patch in reversed(patches):
        path = _path(checkout, patch)
        source = now.get(path)
        if source is None or patch.COMMENT not in source.text:
            continue
        without = _without(patch, source)
        if without is None:
            raise CannotTakeOut(
                f"{source.name}: expected what `apply --series {patch.NAME}` wrote, found it edited since, so the "
                "bytes before cannot be proved. Nothing was changed. See the difference with "
                f"`git diff HEAD -- {source.name}`, and go back with `git checkout HEAD -- {source.name}`."
            )
        now[path] = without
        rows.append(Row(patch, source.name, NotApplied("taken out", without, frozenset({patch.NAME}))))
    return SeriesPlan(before, rows, now)


def _read_all(checkout: Checkout, patches: Sequence[Patch]) -> dict[Path, Source]:
    paths = {_path(checkout, patch): None for patch in patches}
    return {path: read(checkout.name(path), path) for path in paths if path.is_file()}


def _path(checkout: Checkout, patch: Patch) -> Path:
    """Raises LeavesRoot for a link that leads out of the checkout."""
    if patch is fallback:
        return checkout.execute
    if patch is momentum:
        return checkout.generate
    return inside(checkout.root, checkout.root / patch.FILE)


def _state(patch: Patch, source: Source) -> State:
    if patch.COMMENT in source.text:
        if _without(patch, source) is None:
            return NotApplicable("what this kit put in was edited since")
        return Applied("put in by this kit")
    try:
        reason = patch.settled(source)
        if reason is not None:
            return Applied(reason)
        after = source.with_text(insert(source.text, patch.place(source)))
    except CannotEdit as reason_not:
        return NotApplicable(str(reason_not))
    except UnreadableSource:
        return NotApplicable("the edit would not compile here")
    without = _without(patch, after)
    if without is None or without.data != source.data:
        return NotApplicable("the edit could not be taken back to the same bytes")
    return NotApplied("does not do that yet", after, frozenset({patch.NAME}))


def _without(patch: Patch, source: Source) -> Source | None:
    """`source` without the patch's block; None unless putting it in again gives the same bytes."""
    text = cut(source.text, patch.COMMENT, patch.SIZE)
    if text is None:
        return None
    try:
        before = source.with_text(text)
        again = insert(text, patch.place(before)) if patch.settled(before) is None else None
    except (CannotEdit, UnreadableSource):
        return None
    return before if again == source.text else None
