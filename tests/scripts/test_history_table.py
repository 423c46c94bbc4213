"""The table of upstream's states: which states it has, what it stores, and what it calls a difference."""

import os
import subprocess
from pathlib import Path

import pytest

import history_table
from history_table import Column, changes, differences, expected, page, states, stored_marks
from patches.checkout import EXECUTE
from patches.doctor.finding import DEFECT, FINE, SKIPPED, Finding
from patches.doctor.registry import CHECKS, NEVER, Check
from patches.doctor.report import Report

IDENTITY = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(clone: Path, *arguments: str) -> str:
    command = ["git", "-C", str(clone), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **IDENTITY})
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Four commits; the file of execute comes with the second."""
    git(tmp_path, "init", "-q")
    for number in range(4):
        path = tmp_path / (EXECUTE if number else "README")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", str(number))
    return tmp_path


@pytest.fixture
def commits(clone: Path) -> list[str]:
    return git(clone, "rev-list", "--reverse", "HEAD").split()


def column(commit: str, **verdicts: str) -> Column:
    """All fine but those named."""
    marks = {check.name: "." for check in CHECKS}
    return Column(commit, "2026-01-01", {**marks, **{n.replace("_", "-"): v for n, v in verdicts.items()}})


def test_states_are_the_named_commits_their_parents_and_the_newest(
    clone: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = Check("steps", "", f"{commits[2][:7]} (2026-01-01)", "", "")
    monkeypatch.setattr(history_table, "CHECKS", (check,))
    assert states(clone, "HEAD") == commits[1:]
    assert states(clone, commits[1]) == commits[1:2]


def test_states_without_the_file_of_execute_are_left_out(
    clone: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_table, "CHECKS", (Check("steps", "", commits[1], "", ""),))
    assert states(clone, "HEAD") == [commits[1], commits[3]]


def test_registry_is_held_against_each_state(clone: Path, commits: list[str]) -> None:
    check = Check("seed", "", commits[1], f"{commits[3][:7]} (2026-01-01)", "")
    assert [expected(clone, check, commit) for commit in commits] == [False, True, True, False]
    assert not expected(clone, Check("batch", "", NEVER, "", ""), commits[1])
    assert expected(clone, Check("prompt", "", "before everything", "", ""), commits[0])


def test_differences_name_the_state_and_the_check(
    clone: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_table, "CHECKS", (Check("seed", "", commits[1], "", ""),))
    first, second = commits[0][:7], commits[2][:7]
    columns = [column(first, seed="D"), column(second, seed="?"), column(second, seed=".")]
    assert differences(clone, columns) == [
        f"{first} seed: the registry says ., found D",
        f"{second} seed: the registry says D, found .",
    ]


def test_stored_table_is_read_back() -> None:
    old, new = column("1111111", steps="D"), column("2222222", sde="?")
    stored = stored_marks(page([old, new]))
    assert stored == new.marks
    assert changes(stored, new) == []
    assert changes(stored, old) == ["steps: . before, D at 1111111", "sde: ? before, . at 1111111"]


def test_check_that_one_side_lacks_is_a_change() -> None:
    assert changes({"gone": "D"}, Column("1111111", "", {"new": "."})) == [
        "gone: D before, nothing at 1111111",
        "new: nothing before, . at 1111111",
    ]


@pytest.mark.parametrize(("verdict", "status"), [(FINE, 0), (DEFECT, 1), (SKIPPED, 1)])
def test_newest_state_is_compared_with_the_stored_one(
    verdict: str,
    status: int,
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def examine(root: Path) -> Report:
        assert (root / EXECUTE).read_text() == "3"
        return Report(root, {}, tuple((check, Finding(verdict, "", "", "")) for check in CHECKS[:1]))

    monkeypatch.setattr(history_table, "examine", examine)
    stored = clone / "stored.md"
    stored.write_text(f"| check | a |\n| --- | --- |\n| {CHECKS[0].name} | . |\n")
    assert history_table.main([str(clone), "--newest", str(stored)]) == status
    assert (CHECKS[0].name in capsys.readouterr().out) == bool(status)


def test_state_that_cannot_be_examined_is_named(
    clone: Path, commits: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(history_table, "examine", lambda root: Report(root, {}, (), "torch is missing"))
    with pytest.raises(SystemExit) as end:
        history_table.examined(clone, commits[3])
    assert end.value.code == 3
    assert f"{commits[3][:7]} cannot be examined, because torch is missing" in capsys.readouterr().err


def test_wrong_clone_revision_or_file_is_one_sentence(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        "expected a clone with the revision nothing": [str(clone), "--revision", "nothing"],
        "No such file": [str(clone), "--newest", str(clone / "missing.md")],
    }
    for message, arguments in wrong.items():
        with pytest.raises(SystemExit) as end:
            history_table.main(arguments)
        assert end.value.code == 2
        assert message in capsys.readouterr().err
