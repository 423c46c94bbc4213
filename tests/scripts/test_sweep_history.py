"""The sweep over a clone's history finds each distinct state once, and is red where one fails."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import sweep_history

from patches.verify import run as verify_run
from patches.verify.cases import Case
from tests.patches.mini_checkout import BEFORE, FIXED, MiniCheckout
from tests.patches.verify.conftest import run_here

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]
SWEEP = Path(sweep_history.__file__)
IDENTITY = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def commit(repository: Path, checkout: MiniCheckout, note: str) -> str:
    checkout.write(repository)
    (repository / "note.txt").write_text(note)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", note]):
        subprocess.run(["git", "-C", repository, *command], check=True, env={**os.environ, **IDENTITY})
    shown = subprocess.run(
        ["git", "-C", repository, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    )
    return shown.stdout[:10]


@pytest.fixture
def sweep(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., SimpleNamespace]:
    """sweep(repository): a sweep in this process, as are its proofs, each a run of one request."""
    one_request = [Case("base", {"is_turbo": False}, 27)]
    monkeypatch.setattr(verify_run, "run_module", run_here)
    monkeypatch.setattr(verify_run, "plan_cases", lambda *_: one_request)

    def run(repository: Path) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["sweep_history.py", str(repository)])
        status = sweep_history.main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=printed.out, stderr=printed.err)

    return run


def test_each_distinct_state_is_swept_once_and_a_refused_one_shown_with_its_reason(
    sweep: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    commit(tmp_path, BEFORE, "one")
    renamed = FIXED.edited("generate", ("def get_timestep_schedule(", "def schedule("))
    refused = commit(tmp_path, renamed, "renamed")
    again = commit(tmp_path, BEFORE, "as it was")
    done = sweep(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert lines == [
        f"{again}  LF    patched, reverted",
        f"{again}  CRLF  patched, reverted",
        f"{refused}  LF    refused, untouched",
        f"{refused}  CRLF  refused, untouched",
        "2 distinct states, LF and CRLF: {'patched, reverted': 2, 'refused, untouched': 2}",
    ]
    assert done.stdout.count("expected one definition of get_timestep_schedule, found none") == 2


def test_a_state_that_is_not_honoured_after_apply_is_red(
    sweep: Callable[..., SimpleNamespace], tmp_path: Path
) -> None:
    cut = (
        "levels = get_timestep_schedule(shift, timesteps)",
        "levels = get_timestep_schedule(shift, timesteps)[::2]",
    )
    commit(tmp_path, BEFORE.edited("generate", cut), "cut")
    done = sweep(tmp_path)
    assert done.returncode == 1
    assert "FAILED: not proved" in done.stdout


@pytest.mark.parametrize("empty", [True, False], ids=["no-repository", "no-state"])
def test_where_there_is_nothing_to_sweep_it_is_red(tmp_path: Path, empty: bool) -> None:
    if not empty:
        subprocess.run(["git", "-C", tmp_path, "init", "-q"], check=True)
        (tmp_path / "x").touch()
        subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
        env = {**os.environ, **IDENTITY}
        subprocess.run(["git", "-C", tmp_path, "commit", "-q", "-m", "x"], check=True, env=env)
    done = subprocess.run([sys.executable, SWEEP, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
