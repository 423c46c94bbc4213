"""`verify` as people run it: in a child process, on checkouts that behave and that do not."""

import time
from pathlib import Path

import pytest

from patches.harness.process import Limits
from patches.verify import render_report, verify_checkout
from tests.patches.verify.checkouts import Checkout, patched
from tests.patches.verify.cuts import COUNT

pytestmark = pytest.mark.subprocess


def at_import(code: str) -> Checkout:
    """The checkout of 82a5d84, with `code` run when generate is imported."""
    return patched("82a5d84").edited("generate", ("import numpy as np\n", f"import numpy as np\n\n{code}\n"))


def test_patched_checkout_is_honoured_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the default cases; no byte code in the checkout, nothing in the current directory."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = patched("82a5d84").write(tmp_path / "checkout")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    report = verify_checkout(root)
    assert report.honoured, render_report(report)
    assert {r.evaluated for r in report.results if r.request == "1000 steps" and r.model == "base"} == {1000}
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert list((tmp_path / "here").iterdir()) == []
    assert render_report(report).endswith("The requested step counts and custom timesteps are honoured.")


NOISE = """\
import atexit, os, sys, threading

print("x" * 10_000_000)
for descriptor in range(64):
    try:
        os.write(descriptor, b'{"observations": []}\\n')
    except OSError:
        pass
atexit.register(print, "late")
threading.Thread(target=threading.Event().wait).start()
"""


def test_output_to_every_descriptor_and_a_thread_that_never_ends_change_nothing(tmp_path: Path) -> None:
    report = verify_checkout(at_import(NOISE).write(tmp_path / "checkout"), steps=(8,))
    assert report.honoured, render_report(report)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        pytest.param(
            "import os, sys\nprint('no such kernel', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 11)",
            "the child process was killed by SIGSEGV: no such kernel",
            id="crash",
        ),
        pytest.param(
            "import os\nos._exit(0)", "the child process ended without an answer", id="exit_without_an_answer"
        ),
        pytest.param(
            "import sys\nsys.exit('needs a GPU')",
            "acestep/models/mlx/dit_generate.py does not import: SystemExit: needs a GPU (dit_generate.py:4)",
            id="sys_exit",
        ),
    ],
)
def test_child_that_ends_early_is_a_problem(tmp_path: Path, code: str, problem: str) -> None:
    report = verify_checkout(at_import(code).write(tmp_path / "checkout"), steps=(8,))
    assert report.problem == problem


def test_endless_import_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
        "time.sleep(60)"
    )
    started = time.monotonic()
    report = verify_checkout(at_import(code).write(tmp_path / "checkout"), limits=Limits(seconds=3.0))
    assert report.problem == "the child process was still running after 3 s and was stopped"
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("value", ["False", "'fast'"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside-acestep", "not-installed"])
def test_setting_of_another_module_decides_as_it_would_in_the_application(
    tmp_path: Path, value: str, beside: bool
) -> None:
    """A stub in its place would let the steps pass, whatever the setting is."""
    condition = "not library_settings.MODE" if value == "False" else "library_settings.MODE == 'fast'"
    checkout = at_import("import library_settings").edited(
        "generate",
        (COUNT, f"{COUNT}    if {condition}:\n        num_steps = min(num_steps, 5)\n"),
    )
    root = checkout.write(tmp_path / "checkout")
    if beside:
        (root / "library_settings.py").write_text(f"MODE = {value}\n")
    report = verify_checkout(root, steps=(8,))
    assert not report.honoured
    assert (report.problem is None) == beside
    if not beside:
        assert report.problem == (
            "what it runs depends on library_settings.MODE, of what is not installed here; install it"
        )
