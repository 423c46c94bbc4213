"""What the project says of itself is said once, or the same in each place."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docs_check import DOCUMENTS, blocks_of

import patches
from smoke.judge import PRECISION_BOUNDS

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_is_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, flags=re.MULTILINE)
    assert newest is not None
    assert PROJECT["version"] == patches.__version__ == newest[1]


@pytest.mark.parametrize("command", ["patches", "scripts/lego_smoke.py"])
def test_version_of_the_commands(command: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / command, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"acestep-lego {patches.__version__}\n"


def test_the_patch_kit_needs_nothing() -> None:
    assert PROJECT["dependencies"] == []


def test_every_package_of_the_kit_is_installed() -> None:
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    )
    there = {
        ".".join(("acestep_lego_patches", *path.parent.relative_to(ROOT / "patches").parts))
        for path in (ROOT / "patches").rglob("__init__.py")
    }
    assert there <= listed


def test_the_lock_has_a_hash_for_every_version() -> None:
    for name in ("requirements.lock", "requirements-torch.lock"):
        entries = re.split(r"^(?=[A-Za-z0-9])", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert len(entries) > 1
        for entry in entries[1:]:
            assert "==" in entry.splitlines()[0]
            assert "--hash=sha256:" in entry


@pytest.mark.parametrize(
    "path", [path for entry in DOCUMENTS for path in sorted(ROOT.glob(entry))], ids=lambda path: path.name
)
def test_commands_of_the_documents_can_be_run_by_a_script(path: Path) -> None:
    """What is wrong with a command's form is found here, what is wrong with the command by `make docs-check`."""
    assert all(block.text.strip() for block in blocks_of(path, path.name))


def test_the_bounds_of_the_precisions_are_those_of_the_page() -> None:
    page = (ROOT / "docs/parity.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\de-\d) \|", page, flags=re.MULTILINE)
    assert {dtype: float(bound) for dtype, bound in rows} == PRECISION_BOUNDS
