"""Files of a checkout are imported without running its packages, with stubs for missing modules."""

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from patches.harness.imports import CannotProbe, describe, import_file, stub_missing

PACKAGE = "imported_package"  # not acestep: these imports happen in the process of the tests
APPLICATION = "raise RuntimeError('the whole application was imported')\n"
ImportText = Callable[..., ModuleType]


@pytest.fixture
def import_text(tmp_path: Path) -> Iterator[ImportText]:
    """Imports the file `below/entered.py` with the given text, in a package with the given `__init__.py`."""

    def make(text: str, init: str = APPLICATION) -> ModuleType:
        folder = tmp_path / PACKAGE / "below"
        folder.mkdir(parents=True)
        (tmp_path / PACKAGE / "__init__.py").write_text(APPLICATION)
        (folder / "__init__.py").write_text(init)
        (folder / "sibling.py").write_text("here = 'sibling'\n")
        (folder / "entered.py").write_text(text)
        return import_file(tmp_path, folder / "entered.py")

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] in (PACKAGE, "library_nowhere")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"from {PACKAGE}.below import sibling\nfound = sibling.here\n", id="from_package"),
        pytest.param("from .sibling import here as found\n", id="relative"),
        pytest.param(f"import {PACKAGE}.below.sibling as s\nfound = s.here\n", id="as_name"),
        pytest.param(f"import {PACKAGE}.below.sibling\nfound = {PACKAGE}.below.sibling.here\n", id="dotted"),
    ],
)
def test_sibling_is_imported_without_its_package(import_text: ImportText, text: str) -> None:
    assert import_text(text).found == "sibling"


def test_package_runs_when_one_of_its_names_is_requested(import_text: ImportText) -> None:
    entered = import_text("from . import LIMIT\n", init="from .sibling import here\n\nLIMIT = here\n")
    assert entered.LIMIT == "sibling"


def test_package_that_misses_a_library_runs_again_with_a_stub(import_text: ImportText) -> None:
    assert import_text("from . import LIMIT\n", init="import library_nowhere\n\nLIMIT = 3\n").LIMIT == 3


def test_missing_name_is_reported(import_text: ImportText) -> None:
    with pytest.raises(
        CannotProbe, match=r"entered\.py does not import: ImportError: cannot import name 'LIMIT'"
    ):
        import_text("from . import LIMIT\n", init="")


@pytest.fixture
def without_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def forget(name: str) -> None:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that what comes in its place is undone
        del sys.modules[name]

    return forget


def test_stub_is_found_by_find_spec(without_module: Callable[[str], None]) -> None:
    """Libraries look for each other that way; a module without a spec makes it raise."""
    without_module("library_elsewhere")
    assert stub_missing(ModuleNotFoundError(name="library_elsewhere"))
    assert find_spec("library_elsewhere") is not None


def test_stub_of_a_progress_bar_yields_its_values(without_module: Callable[[str], None]) -> None:
    without_module("tqdm")
    assert stub_missing(ModuleNotFoundError(name="tqdm"))
    assert list(sys.modules["tqdm"].tqdm(range(3), desc="steps")) == [0, 1, 2]


def test_stub_serves_what_a_module_does_with_a_library_when_it_is_imported(import_text: ImportText) -> None:
    text = (
        "import library_nowhere as library\n"
        "class Trainer(library.Module, library.Mixin[int]):\n    kept = 1\n"
        "@library.decorated\ndef run(value: library.Tensor | None = None):\n    return 3\n"
        "@library.decorated(cached=True)\ndef walk():\n    return 4\n"
        "names = [*library.NAMES]\n"
    )
    entered = import_text(text)
    assert (entered.Trainer.kept, entered.run(), entered.names) == (1, 3, [])


@pytest.mark.parametrize("name", ["torch", "mlx.core", "numpy", "acestep.models"])
def test_what_the_proof_rests_on_is_never_stubbed(name: str) -> None:
    assert not stub_missing(ModuleNotFoundError(name=name))


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_error_that_cannot_be_printed_is_described() -> None:
    assert describe(Unprintable()) == "Unprintable: (its message cannot be printed)"
