"""What `apply` and `revert` would write: worked out in memory, file by file, before a byte is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..checkout import Checkout, inside
from ..errors import CannotRevert, KitError, UnreadableSource
from .patch import Patch
from .series import Series
from .source import Source, read
from .states import Conflict, Missing, OtherCode, Patched, State
from .write import Change


@dataclass(frozen=True)
class Row:
    """The state of one patch; `file` is the name of its file as people see it."""

    patch: Patch
    file: str
    state: State


@dataclass(frozen=True)
class Plan:
    """The state of each patch of a series, the files before and after, and what has to be said about the latter."""

    rows: tuple[Row, ...]
    before: Mapping[Path, Source] = field(default_factory=dict)
    after: Mapping[Path, Source] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def having(self, kind: type) -> list[Row]:
        """The rows whose state is of this kind."""
        return [row for row in self.rows if isinstance(row.state, kind)]

    @property
    def word(self) -> str:
        """One word for all patches together, as text alone tells."""
        for kind, word in ((Conflict, "conflict"), (Missing, "missing"), (OtherCode, "other code")):
            if self.having(kind):
                return "partly patched" if kind is Missing and self.having(Patched) else word
        return "patched" if self.having(Patched) else "nothing to patch"

    @property
    def changes(self) -> list[Change]:
        """The files that differ, the last patch's file first.

        A call then never passes what its function does not take yet, which upstream would answer with PyTorch.
        """
        return [
            Change(path, source.data, self.after[path].data)
            for path, source in reversed(list(self.before.items()))
            if self.after[path].data != source.data
        ]


def make_plan(checkout: Checkout, series: Series) -> Plan:
    """The plan of `apply`. Each patch is judged on what the patches before it leave."""
    before, unreadable = _read(checkout, series)
    older = _older(series, checkout, before)
    now, rows = dict(before), []
    for patch in series.patches:
        path = checkout.path(patch.target)
        problem = unreadable.get(path, "").removeprefix(f"{checkout.name(path)}: ").removesuffix(".")
        state = _state(patch, now.get(path), problem, older)
        if isinstance(state, Missing):
            now[path] = state.after
        rows.append(Row(patch, checkout.name(path), state))
    clear = {row.patch.target for row in rows if not isinstance(row.state, Conflict)}
    failing = series.failing(
        {t: source for t, source in _by_target(checkout, series, now).items() if t in clear}
    )
    if failing:
        rows = [
            replace(row, state=Conflict(failing[row.patch.target]))
            if row.patch.target in failing and isinstance(row.state, Missing)
            else row
            for row in rows
        ]
    return Plan(tuple(rows), before, now)


def make_revert(checkout: Checkout, series: Series) -> Plan:
    """The plan of `revert`: every file without what the patches inserted.

    Raises CannotRevert where the bytes before cannot be proved, UnreadableSource where a patched file cannot be read.
    """
    before, unreadable = _read(checkout, series)
    now, rows = dict(before), []
    older = series.older(_by_target(checkout, series, before))
    for patch in reversed(series.patches):
        path = checkout.path(patch.target)
        if path in unreadable:
            raise UnreadableSource(f"{unreadable[path]} Nothing was changed.")
        source = now.get(path)
        if source is None:
            continue
        without = older.get(patch.target) or (patch.revert(source) if patch.is_in(source) else source)
        if patch.trace and patch.trace in without.text:
            raise CannotRevert(
                f"{source.name}: the text of this kit (patch {patch.name}) stands there without its mark, so the "
                "bytes before `apply` cannot be proved"
            )
        if without.data != source.data:
            rows.append(Row(patch, source.name, Patched(without, "")))
            now[path] = without
    failing = series.failing(_by_target(checkout, series, now)) if rows else {}
    notes = [f"{checkout.name(checkout.path(target))}: {reason}." for target, reason in failing.items()]
    return Plan(tuple(rows), before, now, tuple(notes))


def _read(checkout: Checkout, series: Series) -> tuple[dict[Path, Source], dict[Path, str]]:
    before: dict[Path, Source] = {}
    unreadable: dict[Path, str] = {}
    for path in dict.fromkeys(checkout.path(patch.target) for patch in series.patches):
        name = checkout.name(path)
        try:
            before[path] = read(name, inside(checkout.root, path))
        except KitError as error:
            unreadable[path] = str(error)
    return before, unreadable


def _by_target(checkout: Checkout, series: Series, files: Mapping[Path, Source]) -> dict[str, Source]:
    paths = {patch.target: checkout.path(patch.target) for patch in series.patches}
    return {target: files[path] for target, path in paths.items() if path in files}


def _older(series: Series, checkout: Checkout, files: Mapping[Path, Source]) -> dict[str, State]:
    """The states of files that an older version of this kit edited."""
    found = _by_target(checkout, series, files)
    try:
        before = series.older(found)
    except CannotRevert as reason:
        return {target: Conflict(str(reason)) for target in found}
    return {
        target: Patched(source, "the edit of version 0.1 of this kit, byte for byte")
        for target, source in before.items()
    }


def _state(patch: Patch, source: Source | None, problem: str, older: Mapping[str, State]) -> State:
    if source is None:
        return Conflict(problem)
    return older.get(patch.target) or patch.status(source)
