"""The sweep over a clone's history finds each distinct state once, and is red where one fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patches.mini_checkout import BEFORE, FIXED, MiniCheckout

SWEEP = Path(__file__).parents[2] / "scripts" / "sweep_history.py"
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


def sweep(repository: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SWEEP, repository], capture_output=True, text=True, check=False)


def test_each_distinct_state_is_swept_once(tmp_path: Path) -> None:
    first = commit(tmp_path, BEFORE, "one")
    commit(tmp_path, BEFORE, "nothing new")
    done = sweep(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.rsplit("  ", 1)[0] for line in done.stdout.splitlines()]
    steps = "apply:ok verify:ok again:ok revert:ok"
    assert lines == [
        f"  1  {first}  LF    {steps}",
        f"  1  {first}  CRLF  {steps}",
        "2 of 2 (1 distinct states, LF and CRLF)",
    ]


def test_a_state_that_cannot_be_applied_is_told_and_red(tmp_path: Path) -> None:
    commit(tmp_path, FIXED.edited("generate", ("def get_timestep_schedule(", "def schedule(")), "renamed")
    done = sweep(tmp_path)
    assert done.returncode == 1
    assert "apply:FAILED untouched:ok" in done.stdout
    assert "expected one get_timestep_schedule, found none" in done.stdout
    assert done.stdout.endswith("0 of 2 (1 distinct states, LF and CRLF)\n")


@pytest.mark.parametrize("empty", [True, False], ids=["no-repository", "no-state"])
def test_where_there_is_nothing_to_sweep_it_is_red(tmp_path: Path, empty: bool) -> None:
    if not empty:
        subprocess.run(["git", "-C", tmp_path, "init", "-q"], check=True)
        (tmp_path / "x").touch()
        subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
        env = {**os.environ, **IDENTITY}
        subprocess.run(["git", "-C", tmp_path, "commit", "-q", "-m", "x"], check=True, env=env)
    done = sweep(tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
