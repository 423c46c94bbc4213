"""The script that quantises a checkpoint: what it writes and says, and its exit statuses."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from acestep.models.checkpoint.quantization import stored_bits

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/convert_checkpoint.py"


def convert(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def folder(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    return shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints") / "acestep-v15-base"


def test_folder_beside_the_original_and_distance(folder: Path) -> None:
    done = convert(folder, "--bits", "4")
    assert done.returncode == 0, done.stderr
    target = folder.with_name("acestep-v15-base-4bit")
    assert stored_bits(target) == 4
    assert done.stdout.startswith(f"{target}: the decoder is 0.00 GB, 0.288 of float32's; ")
    assert "quantised, 4 bits: relative L2 1." in done.stdout
    assert "(bound 4e-01) of the final latents to float32's" in done.stdout
    again = convert(folder, "--bits", "4")
    assert (again.returncode, again.stdout) == (3, "")
    assert again.stderr == (
        f"convert_checkpoint: {target} exists; nothing is overwritten: give another --out or remove it\n"
    )


def test_wrong_usage(folder: Path) -> None:
    done = convert(folder, "--bits", "3")
    assert done.returncode == 2
    assert "--bits is 3, expected 8 or 4" in done.stderr
    assert sorted(path.name for path in folder.parent.iterdir() if "bit" in path.name) == []
