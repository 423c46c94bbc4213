"""A series: an ordered set of patches that is applied all or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import UnknownPatch
from .patch import Patch
from .source import Source

Older = Callable[[Mapping[str, Source]], Mapping[str, Source]]
Failing = Callable[[Mapping[str, Source]], Mapping[str, str]]


def _no_older_form(_files: Mapping[str, Source]) -> Mapping[str, Source]:
    return {}


def _no_failing_call(_files: Mapping[str, Source]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Series:
    """name: as given to `--series`. patches: in the order in which a request passes them.

    older: given the files by target, those that an older version of this kit edited, as they were before; raises
    CannotRevert. failing: given the files by target, the calls between them that would fail, as reasons by target.
    """

    name: str
    summary: str
    patches: tuple[Patch, ...]
    older: Older = _no_older_form
    failing: Failing = _no_failing_call


def choose(all_series: Sequence[Series], names: Sequence[str]) -> Series:
    """The series with the patches of these names (a series' own name means all of it). Raises UnknownPatch."""
    wanted = [name for joined in names for name in joined.split(",")]
    for series in all_series:
        known = {patch.name for patch in series.patches}
        if set(wanted) <= known | {series.name} and (series.name in wanted or _may_be_split(series)):
            chosen = [p for p in series.patches if series.name in wanted or p.name in wanted]
            return replace(series, patches=tuple(chosen))
    raise UnknownPatch(
        f"--series: expected {' or '.join(s.name for s in all_series)}, or names of one series, found "
        f"{', '.join(wanted)}. See them with --list."
    )


def _may_be_split(series: Series) -> bool:
    """Files whose calls depend on one another are patched together."""
    return series.failing is _no_failing_call
