"""The parts of the probe by themselves: entering packages without running them, and the stand-ins' notes."""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import pytest

from patches.harness.fakes import CountingDecoder, build_host, class_with
from patches.harness.imports import CannotProbe, import_file, stub_missing
from patches.verify.cases import Case
from patches.verify.probe import unpatched_schedule

ROOT_PACKAGE = "probed_package"  # not acestep: these imports happen in the tests' own process
APPLICATION = "raise RuntimeError('the whole application was started')\n"


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Any]:
    """Imports the file `below/entered.py` with the given text, from a package with the given initialiser."""

    def import_text(text: str, initialiser: str = APPLICATION) -> ModuleType:
        folder = tmp_path / ROOT_PACKAGE / "below"
        folder.mkdir(parents=True)
        (tmp_path / ROOT_PACKAGE / "__init__.py").write_text(APPLICATION)
        (folder / "__init__.py").write_text(initialiser)
        (folder / "sibling.py").write_text("here = 'sibling'\n")
        (folder / "entered.py").write_text(text)
        return import_file(tmp_path, folder / "entered.py")

    yield import_text
    for name in [name for name in sys.modules if name.split(".")[0] == ROOT_PACKAGE]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"from {ROOT_PACKAGE}.below import sibling\nfound = sibling.here\n", id="from_package"),
        pytest.param("from .sibling import here as found\n", id="relative"),
        pytest.param(f"import {ROOT_PACKAGE}.below.sibling as s\nfound = s.here\n", id="as_name"),
        pytest.param(
            f"import {ROOT_PACKAGE}.below.sibling\nfound = {ROOT_PACKAGE}.below.sibling.here\n", id="dotted"
        ),
    ],
)
def test_sibling_is_imported_without_its_package(enter: Any, text: str) -> None:
    assert enter(text).found == "sibling"


def test_package_runs_once_somebody_wants_a_name_of_it(enter: Any) -> None:
    assert (
        enter("from . import LIMIT\n", initialiser="from .sibling import here\n\nLIMIT = here\n").LIMIT
        == "sibling"
    )


def test_package_that_misses_a_library_runs_again_with_a_stand_in(enter: Any) -> None:
    entered = enter("from . import LIMIT\n", initialiser="import library_nowhere\n\nLIMIT = 3\n")
    assert entered.LIMIT == 3


def test_stand_in_can_be_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries ask so for each other; a module without a spec makes that raise."""
    monkeypatch.setitem(sys.modules, "library_elsewhere", None)
    del sys.modules["library_elsewhere"]
    assert stub_missing(ModuleNotFoundError(name="library_elsewhere"))
    assert find_spec("library_elsewhere") is not None


def test_name_that_no_package_has_is_told(enter: Any) -> None:
    with pytest.raises(
        CannotProbe, match=r"entered\.py does not import: ImportError: cannot import name 'LIMIT'"
    ):
        enter("from . import LIMIT\n", initialiser="")


def test_missing_progress_bar_still_yields_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    del sys.modules["tqdm"]
    assert stub_missing(ModuleNotFoundError(name="tqdm"))
    assert list(sys.modules["tqdm"].tqdm(range(3), desc="steps")) == [0, 1, 2]


def test_no_stand_in_for_what_the_proof_rests_on() -> None:
    for name in ("torch", "mlx.core", "numpy", "acestep.models"):
        assert not stub_missing(ModuleNotFoundError(name=name))


def test_decoder_counts_each_evaluation_and_knows_a_doubled_batch() -> None:
    decoder = CountingDecoder()
    for batch, t in ((1, 0.75), (2, 0.5)):
        velocity, cache = decoder(
            hidden_states=mx.ones((batch, 8, 64)), timestep=mx.full((batch,), t), cache="kept"
        )
        assert velocity.shape == (batch, 8, 64)
        assert cache == "kept"
    assert decoder.timesteps == [0.75, 0.5]
    assert decoder.guided == 1


def test_decoder_refuses_two_timesteps_in_one_evaluation() -> None:
    with pytest.raises(RuntimeError, match=r"several timesteps: \[0.5, 1.0\]"):
        CountingDecoder()(hidden_states=mx.ones((2, 8, 64)), timestep=mx.array([1.0, 0.5]))


class FailingDiffusion:
    def _mlx_run_diffusion(self) -> None:
        raise ValueError("raised by MLX")


class FallsBackLater:
    """Runs PyTorch when the exception is over and gone."""

    def execute(self) -> None:
        failed = False
        try:
            self._mlx_run_diffusion()  # type: ignore[attr-defined]
        except Exception:
            failed = True
        if failed:
            self.model.generate_audio()  # type: ignore[attr-defined]


class FailsBefore:
    """Fails on the way to MLX, and runs PyTorch while it handles that."""

    def execute(self) -> None:
        try:
            raise KeyError("non-cover conditions")
        except Exception:
            self.model.generate_audio()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("executor", "reason"),
    [
        pytest.param(FallsBackLater, "ValueError('raised by MLX')", id="after_the_handler"),
        pytest.param(FailsBefore, "KeyError('non-cover conditions')", id="before_the_mlx_run"),
    ],
)
def test_reason_for_a_fallback_is_seen(executor: type, reason: str) -> None:
    host = build_host(executor, FailingDiffusion, {"is_turbo": False})
    host.execute()
    assert host.model.fell_back
    assert repr(host.model.swallowed) == reason


def test_mixin_that_is_not_there_is_named() -> None:
    with pytest.raises(CannotProbe, match=r"^acestep.d has no class that defines _mlx_run_diffusion$"):
        class_with(ModuleType("acestep.d"), "_mlx_run_diffusion")


def test_schedule_that_is_not_there_is_named() -> None:
    with pytest.raises(CannotProbe, match=r"^acestep.g does not define get_timestep_schedule$"):
        unpatched_schedule(Case("base", {"is_turbo": False}), ModuleType("acestep.g"))
