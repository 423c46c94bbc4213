"""One checkout in the child process: its modules and its application, imported when a check first needs them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ..harness.application import Application
from ..harness.imports import CannotProbe, import_file
from ..harness.request import RequestRecord, run_request
from ..harness.torch_loop import TorchLoop

T = TypeVar("T")


class LoadedCheckout:
    """`files` are the paths of execute, diffusion and generate by these names. CannotProbe says what cannot be used."""

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root = root
        self.files = files

    def file_name(self, role: str) -> str:
        """The name of one of the three files, without its folders."""
        return self.files[role].name

    def module(self, role: str) -> ModuleType:
        """One of the three files, imported."""
        return import_file(self.root, self.files[role])

    @property
    def application(self) -> Application:
        return _value_or_raise(self._application)

    @property
    def torch_loop(self) -> TorchLoop:
        return _value_or_raise(self._torch_loop)

    def lego(self, **request: Any) -> RequestRecord:
        """One LEGO request to the public API; the keywords are those of `prepare_request`."""
        return run_request(self.application, **request)

    def has_param(self, name: str) -> bool:
        """Whether GenerationParams has this field."""
        return name in getattr(self.application.inference.GenerationParams, "__dataclass_fields__", {})

    # A failed import is kept too: each further check would repeat it.
    @cached_property
    def _application(self) -> Application | CannotProbe:
        try:
            for role in ("generate", "diffusion", "execute"):
                self.module(role)  # before the handler, so that their packages are entered as bare ones
            return Application(self.root)
        except CannotProbe as reason:
            return reason

    @cached_property
    def _torch_loop(self) -> TorchLoop | CannotProbe:
        try:
            return TorchLoop(self.root)
        except CannotProbe as reason:
            return reason


def _value_or_raise(value: T | CannotProbe) -> T:
    if isinstance(value, CannotProbe):
        raise value
    return value
