"""`verify` as people run it: in a child process, on checkouts that behave and that do not."""

from pathlib import Path

import pytest

from patches.harness.process import Limits
from patches.verify import render_report, verify_checkout
from tests.patches.verify.checkouts import at_import, patched

pytestmark = pytest.mark.subprocess


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


def test_noisy_patched_checkout_is_honoured_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the default cases; no byte code in the checkout, nothing in the current directory. What it prints to every
    descriptor and a thread that never ends change nothing.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = at_import(NOISE).write(tmp_path / "checkout")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    report = verify_checkout(root)
    assert report.honoured, render_report(report)
    assert {r.evaluated for r in report.results if r.request == "1000 steps" and r.model == "base"} == {1000}
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    assert list((tmp_path / "here").iterdir()) == []
    honoured = f"honoured in these {len(report.results)} runs; other requests did not run."
    assert render_report(report).endswith(f"The requested step counts and custom timesteps are {honoured}")


def test_crash_is_a_problem(tmp_path: Path) -> None:
    crash = "import os, sys\nprint('no such kernel', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 11)"
    report = verify_checkout(at_import(crash).write(tmp_path / "checkout"), steps=(8,))
    assert report.problem == "the child process was killed by SIGSEGV: no such kernel"


def test_time_limit_is_that_of_the_child(tmp_path: Path) -> None:
    """So short that not even torch is imported."""
    report = verify_checkout(patched("82a5d84").write(tmp_path), limits=Limits(seconds=0.2))
    assert report.problem == "the child process was still running after 0.2 s and was stopped"
