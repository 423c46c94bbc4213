"""What the smoke run starts its model with: TF32 off where it compares, low memory where it is asked for."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lego_smoke
import pytest

from acestep.errors import BackendError
from smoke import drive, generate
from smoke.request import Request


@pytest.fixture
def smoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_root: Callable[..., Path]) -> Any:
    """smoke(*arguments): the exit status of a run on the tiny checkpoint."""
    checkpoint = tiny_root() / "checkpoints/acestep-v15-base"

    def run(*arguments: str) -> int:
        fixed = ["--checkpoint", str(checkpoint), "--steps", "2", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["lego_smoke.py", *fixed, *arguments])
        return lego_smoke.main()

    return run


class TestTF32:
    @pytest.fixture
    def environment(self, smoke: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
        """environment(*arguments): what the process of the run is started with besides this one's environment."""
        seen: list[dict[str, str]] = []

        def started(tree: Any, *_: Any) -> None:
            seen.append(tree.environment)
            raise BackendError("not started")

        monkeypatch.setattr(generate, "Process", started)

        def call(*arguments: str) -> dict[str, str]:
            assert smoke(*arguments) == 3
            return seen[-1]

        return call

    @pytest.mark.parametrize("mode", ["full", "sampled"])
    def test_is_off_where_the_run_is_compared(self, environment: Any, mode: str) -> None:
        assert environment("--compare", mode)["MLX_ENABLE_TF32"] == "0"

    def test_is_the_users_choice_where_it_is_not(self, environment: Any) -> None:
        assert "MLX_ENABLE_TF32" not in environment("--compare", "none")

    @pytest.mark.parametrize(
        ("setting", "said"), [("0", "off"), (None, "on (the default)"), ("1", "on (MLX_ENABLE_TF32=1)")]
    )
    def test_the_run_says_which_was_on(
        self, monkeypatch: pytest.MonkeyPatch, setting: str | None, said: str
    ) -> None:
        monkeypatch.delenv("MLX_ENABLE_TF32")
        if setting is not None:
            monkeypatch.setenv("MLX_ENABLE_TF32", setting)
        assert drive.tf32() == said


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_run_in_low_memory_says_so_and_reports_tf32(
    smoke: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("MLX_ENABLE_TF32")
    assert smoke("--compare", "none", "--low-memory", "--track", "vocals", "--track", "drums") == 0
    assert "low memory (as requested): of " in capsys.readouterr().out
    report = json.loads((tmp_path / "out/latest/report.json").read_text())
    assert report["tf32"] == "on (the default)"
    assert report["request"]["low_memory"] is True
    page = (tmp_path / "out/latest/report.html").read_text()
    assert "<dt>TF32 of mlx</dt><dd>on (the default)</dd>" in page


def test_low_memory_is_for_this_fork(smoke: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "checkout/acestep").mkdir(parents=True)
    assert smoke("--acestep-root", str(tmp_path / "checkout"), "--low-memory") == 2
    assert capsys.readouterr().err.startswith("lego_smoke: --low-memory is for this fork; ")


def test_the_loader_is_told(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "track": "vocals",
        "steps": 2,
        "guidance_scale": 1.0,
        "shift": 1.0,
        "seed": 1,
        "device": "cpu",
    }
    for backend, name in (("mlx", "mlx_precision"), ("torch", "torch_precision")):
        request = Request(tmp_path, None, backend=backend, dtype="bfloat16", low_memory=True, **fields)
        assert request.loading_fields() == {name: "bfloat16", "low_memory": True}
