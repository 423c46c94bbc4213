"""The kit in a process of its own: what it imports, where it can be started, and output that goes nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.patches.contract import contents
from tests.patches.mini_checkout import BEFORE

PROJECT = Path(__file__).parents[2]
KIT = PROJECT / "patches"
CONSOLE = "import sys\nfrom acestep_lego_patches.__main__ import run\nif __name__ == '__main__':\n    sys.exit(run())\n"
OF_ANOTHER = (
    "acestep_lego_patches",
    "argparse",
    "ast",
    "bisect",
    "contextlib",
    "dataclasses",
    "difflib",
    "functools",
    "importlib",
    "io",
    "json",
    "mlx",
    "numpy",
    "pathlib",
    "patches",
    "shlex",
    "signal",
    "string",
    "tempfile",
    "threading",
    "tokenize",
    "torch",
    "typing",
)

pytestmark = pytest.mark.subprocess


def run(*command: str | Path, cwd: Path = PROJECT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


@pytest.fixture
def root_with_modules(tmp_path: Path) -> Path:
    """A checkout that holds modules of many names, but for those that Python itself needs to start a folder."""
    root = BEFORE.write(tmp_path / "root")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/__main__.py").write_text("import sys; print(*sys.modules)\n")
    needed = run(sys.executable, tmp_path / "empty").stdout.split()
    for name in sorted({*OF_ANOTHER} - {*needed}):
        (root / f"{name}.py").write_text("raise SystemExit('imported')\n")
    (root / "patches").mkdir()
    (root / "patches/__init__.py").write_text("raise SystemExit('imported')\n")
    return root


@pytest.mark.parametrize(
    "python_path", ["", f"{os.sep}nowhere{os.pathsep}", "."], ids=["plain", "colon", "dot"]
)
def test_started_by_its_path_nothing_of_the_current_directory_is_imported(
    root_with_modules: Path, python_path: str
) -> None:
    environment = {"PYTHONPATH": python_path} if python_path else {}
    done = run(sys.executable, KIT, "check", ".", cwd=root_with_modules, **environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"Next: {sys.executable} {KIT} apply --verify ." in done.stdout


@pytest.mark.parametrize("after", ["", os.pathsep], ids=["plain", "colon"])
def test_console_command_imports_nothing_of_the_current_directory(
    tmp_path: Path, root_with_modules: Path, after: str
) -> None:
    packages, script = tmp_path / "packages", tmp_path / "bin/acestep-lego-patches"
    packages.mkdir()
    (packages / "acestep_lego_patches").symlink_to(KIT)
    script.parent.mkdir()
    script.write_text(CONSOLE)
    path = f"{packages}{after}"
    done = run(sys.executable, script, "check", ".", cwd=root_with_modules, PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"Next: {script} apply --verify ." in done.stdout


IMPORTS = """
import sys
before = set(sys.modules)
from patches.cli import main
for verb in ("check", "diff", "apply", "revert"):
    for series in ("steps", "lego"):
        main([verb, sys.argv[1], "--series", series])
found = {name.partition(".")[0] for name in set(sys.modules) - before}
sys.exit(f"imported: {sorted(found - sys.stdlib_module_names - {'patches'})}")
"""


def test_text_verbs_import_the_standard_library_alone_and_no_code_of_the_checkout(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path)
    for path in root.rglob("*.py"):
        path.write_text(
            f"if __name__ != 'x':\n    raise SystemExit('the checkout was imported')\n{path.read_text()}"
        )
    done = run(sys.executable, "-c", IMPORTS, root)
    assert done.stderr.splitlines()[-1] == "imported: []"


def test_closed_pipe_and_full_disk_are_said_where_something_was_written(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)
    closed = f"{sys.executable} -m patches diff {root} | true; exit ${{PIPESTATUS[0]}}"
    done = run("bash", "-c", closed)
    assert (done.returncode in (0, 141), done.stderr) == (True, "")
    full = f"exec {sys.executable} -m patches {{}} {root} > /dev/full"
    done = run("bash", "-c", full.format("check"))
    assert (done.returncode, done.stderr) == (
        1,
        "Standard output: No space left on device. All files are as they were.\n",
    )
    done = run("bash", "-c", full.format("apply"))
    assert done.returncode == 1
    assert done.stderr.startswith("Standard output: No space left on device. These files are written: ")
    assert done.stderr.count("acestep/") == 3
    assert done.stderr.count("\n") == 1
    assert contents(root) != before


def test_deleted_current_directory_is_no_traceback(tmp_path: Path) -> None:
    root, gone = BEFORE.write(tmp_path / "root"), tmp_path / "gone"
    gone.mkdir()
    check = f"{sys.executable} {KIT} check"
    done = run("bash", "-c", f"cd {gone} && rmdir {gone} && {check} {root} && exit; {check} .")
    assert done.stdout.count("missing  acestep/") == 3
    assert done.returncode == 2
    assert (
        done.stderr
        == ".: expected the folder that holds acestep/, found one that cannot be read: No such file or directory.\n"
    )


def test_name_that_is_not_utf_8_is_shown_with_escapes(tmp_path: Path) -> None:
    command: list[str | bytes] = [sys.executable, "-m", "patches", "check", os.fsencode(tmp_path) + b"/\xff"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    said = "expected the folder that holds acestep/, found nothing by that name."
    assert done.stderr == f"{tmp_path}/\\udcff: {said}\n"


AS_ANOTHER_USER = """
import os, sys
from patches.cli import main
main(["check", sys.argv[1]])  # imports what the other user may not read
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(max(main(["check", path]) for path in sys.argv[1:]))
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
def test_folders_and_files_that_cannot_be_read_are_no_traceback() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        roots = [BEFORE.write(Path(name) / word) for word in ("root", "folder", "file")]
        roots[0].chmod(0o700)
        (roots[1] / "acestep/core").chmod(0o700)
        (roots[2] / "acestep/models/mlx/dit_generate.py").chmod(0o600)
        done = run(sys.executable, "-c", AS_ANOTHER_USER, *roots)
    assert "Traceback" not in done.stderr
    assert done.returncode == 3
    assert done.stderr.count("Permission denied") == 2
    assert "expected a file that can be read, found: Permission denied" in done.stdout


INTERRUPTED_AT_START = """
import sys, importlib
def interrupt(name):
    raise KeyboardInterrupt
importlib.import_module = interrupt
from patches.__main__ import run
sys.exit(run())
"""


def test_ctrl_c_while_it_starts_is_one_line() -> None:
    done = run(sys.executable, "-c", INTERRUPTED_AT_START)
    assert (done.returncode, done.stderr) == (130, "Interrupted. All files are as they were.\n")
