"""What the lines share in the probe process: the checkout's files, imported once, and its application."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from ..harness.imports import CannotProbe, import_file
from ..verify.cases import Case, Observation
from ..verify.probe import observe, reference_schedule
from .application import Application


class Site:
    """One checkout. Each part is imported when a line first asks; CannotProbe says why one cannot be."""

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root = root
        self.files = files

    def name(self, role: str) -> str:
        """The file of a site, without its folders."""
        return self.files[role].name

    def module(self, role: str) -> ModuleType:
        return import_file(self.root, self.files[role])

    @cached_property
    def _application(self) -> Application | CannotProbe:
        try:
            return Application(self.root)
        except CannotProbe as reason:
            return reason

    @property
    def application(self) -> Application:
        """`inference.generate_music` and the handler, with stand-ins. Raises CannotProbe."""
        made = self._application
        if isinstance(made, CannotProbe):
            raise made
        return made

    def drive(self, *cases: Case) -> list[Observation]:
        """The cases through the three files, as a plain `verify` drives them."""
        # In this order, so that the packages that D imports from are entered as bare ones.
        generate, diffusion, execute = (self.module(role) for role in ("generate", "diffusion", "execute"))
        return [observe(case, reference_schedule(case), execute, diffusion, generate) for case in cases]


def base_case(steps: int = 8, **further: Any) -> Case:
    return Case("base", {"is_turbo": False}, steps, **further)
