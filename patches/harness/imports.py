"""Import single files of a checkout without running its packages, and with stubs for missing modules.

A handler package imports the whole application (audio libraries, a web interface, language models), of which the three
files need next to nothing. Their packages are registered as bare ones, whose `__init__.py` runs only when a name that
it defines is requested.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE_FOLDER = Path(__file__).resolve().parent.parent
NEVER_STUBBED = {"acestep", "torch", "mlx", "numpy"}


class CannotProbe(Exception):
    """The checkout cannot be run; the text says why, in words that follow 'because'."""


decisions: list[str] = []  # the values of stubs that code of the checkout decided by


class Inert:
    """A value of a module that is not installed. It does nothing.

    It can be called, subscripted, joined by `|` in an annotation and used as a decorator or as a base class, and has
    every attribute. Where code decides by it (its truth, an equality, its items), its name is noted in `decisions`.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) and not kwargs else self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Inert(f"{self._name}.{name}")

    def __getitem__(self, _key: Any) -> Any:
        return self

    def __or__(self, _other: Any) -> Any:
        return self

    __ror__ = __or__
    __hash__ = object.__hash__

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()

    def __bool__(self) -> bool:
        decisions.append(self._name)
        return True

    def __eq__(self, other: object) -> bool:
        decisions.append(self._name)
        return self is other

    def __iter__(self) -> Iterator[Any]:
        decisions.append(self._name)
        return iter(())


def _inert(module: str, attribute: str) -> Any:
    return Inert(f"{module}.{attribute}")


class StubModule(ModuleType):
    """Replaces a module that is not installed.

    attribute: is called with the names of the module and of each attribute that is read and not set.
    """

    def __init__(self, name: str, attribute: Callable[[str, str], Any] = _inert) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = ModuleSpec(name, None, is_package=True)  # without it find_spec raises
        self._attribute = attribute

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_attribute":
            raise AttributeError(name)
        return self._attribute(self.__name__, name)


class BarePackage(ModuleType):
    """A package folder of the checkout whose `__init__.py` has not run (yet)."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name)
        self.__path__ = [str(folder)]
        self.__package__ = name
        self.__spec__ = ModuleSpec(name, None, is_package=True)
        self.__spec__.submodule_search_locations = self.__path__
        self._initialiser: Path | None = folder / "__init__.py"

    def __getattr__(self, name: str) -> Any:
        initialiser = self.__dict__.get("_initialiser")
        if name.startswith("__") or initialiser is None or self._is_submodule(name):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self._initialiser = None
        if initialiser.is_file():
            self.__file__ = str(initialiser)
            try:
                exec(compile(initialiser.read_bytes(), self.__file__, "exec"), self.__dict__)
            except ModuleNotFoundError:  # run again once the missing module has a stub
                self._initialiser = initialiser
                raise
        return getattr(self, name)

    def _is_submodule(self, name: str) -> bool:
        folder = Path(self.__path__[0])
        return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def import_file(root: Path, file: Path) -> ModuleType:
    """Import `file`, which lies somewhere below `root`, under the dotted name that its place gives it.

    Raises CannotProbe with the file, the error and its line if the file does not import.
    """
    if str(root) not in sys.path:
        sys.path.append(str(root))  # modules beside acestep/, which an application started there finds too
    parts = file.relative_to(root).with_suffix("").parts
    for depth in range(1, len(parts)):
        name = ".".join(parts[:depth])
        if name not in sys.modules:
            package = sys.modules[name] = BarePackage(name, root.joinpath(*parts[:depth]))
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], package)
    try:
        return _import_with_stubs(".".join(parts))
    except (Exception, SystemExit) as error:
        raise CannotProbe(
            f"{file.relative_to(root).as_posix()} does not import: {describe(error)}"
        ) from error


def _import_with_stubs(name: str) -> ModuleType:
    while True:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not stub_missing(error):
                raise


def stub_missing(error: BaseException | None) -> bool:
    """Register a stub for the module that `error` names. Returns False if the error is about something else.

    Imports that the checkout itself guards never come here, so optional parts stay absent.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None or error.name in sys.modules:
        return False
    if error.name.partition(".")[0] in NEVER_STUBBED:
        return False
    stub = sys.modules[error.name] = StubModule(error.name)
    if error.name == "tqdm":
        vars(stub)["tqdm"] = lambda values, *args, **kwargs: values
    return True


def hide_package(name: str) -> None:
    """Take this package and its modules out of `sys.modules`, so that a checkout does not meet them.

    Whatever is needed from here on has to be imported already.
    """
    for loaded in [loaded for loaded in sys.modules if f"{loaded}.".startswith(f"{name}.")]:
        del sys.modules[loaded]


def describe(error: BaseException) -> str:
    """`Type: message (file:line)`, on one line; the place is the last one that is not in this package."""
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if not Path(frame.filename).is_relative_to(PACKAGE_FOLDER)] or every
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        text = str(error)
    except Exception:  # a checkout's own exception class
        text = "(its message cannot be printed)"
    return " ".join(f"{type(error).__name__}: {text}".split())[:1000] + place
