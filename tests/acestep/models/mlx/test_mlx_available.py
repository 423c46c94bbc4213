"""MLX counts as available wherever it computes, and where it does not, the reason is kept."""

import sys
from collections.abc import Iterator

import pytest

from acestep.models.mlx import mlx_available, why_mlx_is_unavailable


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    why_mlx_is_unavailable.cache_clear()
    yield
    why_mlx_is_unavailable.cache_clear()


def test_available_here() -> None:
    assert mlx_available()
    assert why_mlx_is_unavailable() is None


def test_import_failure_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    assert not mlx_available()
    assert why_mlx_is_unavailable() == "ModuleNotFoundError: import of mlx.core halted; None in sys.modules"


def test_mlx_that_imports_but_does_not_compute_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlx.core as mx

    def fail(*_: object) -> None:
        raise RuntimeError("no device")

    monkeypatch.setattr(mx, "eval", fail)
    assert why_mlx_is_unavailable() == "RuntimeError: no device"
