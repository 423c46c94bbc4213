"""The commands that make stems on MLX, where PyTorch, diffusers and transformers are not installed."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def run(
    environment_without_torch: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run(script, *arguments): in a process that cannot import them; the tiny checkpoint is written by it, too."""

    def start(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SCRIPTS / script), *arguments],
            cwd=tmp_path,
            env=environment_without_torch,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return start


def test_smoke_run(run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    ran = run("lego_smoke.py", "--compare", "none", "--steps", "2", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    assert "PASS, not compared with PyTorch (--compare none)" in ran.stdout
    assert (tmp_path / "out" / "latest" / "stem.wav").is_file()


def test_a_comparison_that_needs_them_costs_no_stem(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    ran = run("lego_smoke.py", "--no-before", "--steps", "2", "--out", "out")
    assert ran.returncode == 3, ran.stderr
    assert "INCOMPLETE, not compared with PyTorch (" in ran.stdout
    assert "No module named 'torch'" in ran.stdout
    assert (tmp_path / "out" / "latest" / "stem.wav").is_file()


def test_pytorch_is_refused_by_the_option_that_chose_it(
    run: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ran = run("lego_smoke.py", "--backend", "torch", "--steps", "2")
    assert ran.returncode == 3
    assert "lego_smoke: PyTorch was chosen with --backend torch, but torch, diffusers" in ran.stderr


def test_batch(
    run: Callable[..., subprocess.CompletedProcess[str]], make_context: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "songs.jsonl").write_text(f'{{"context": "{make_context(1.0)}", "tracks": ["drums"]}}\n')
    ran = run("lego_batch.py", "songs.jsonl", "--out", "out")
    assert ran.returncode == 0, ran.stderr
    assert list((tmp_path / "out").rglob("stem*.wav"))
