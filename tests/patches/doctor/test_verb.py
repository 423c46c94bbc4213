"""The verb `doctor`, and its alias `verify --all`."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from patches.cli import main
from patches.doctor.finding import DEFECT, FINE, Finding
from patches.doctor.registry import CHECKS, UnknownCheck
from patches.doctor.report import Report, examine
from tests.patches.doctor.conftest import RunDoctor
from tests.patches.mini_application import SICK

PATCHES = Path(__file__).parents[3] / "patches"


def report(**findings: str) -> Report:
    """A report with a verdict for each check."""
    check = {check.name: check for check in CHECKS}
    found = ((check[name], Finding(verdict, "", "", "")) for name, verdict in findings.items())
    return Report(Path("checkout"), {}, tuple(found))


@pytest.mark.parametrize("verb", [["doctor"], ["verify", "--all"]])
def test_verb_returns_the_status_of_its_report(verb: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("patches.doctor.report.examine", lambda *_: report(steps=DEFECT))
    assert main([*verb, "."]) == 1


def test_allow_and_only_reach_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def recording_examine(root: Path, only: list[str] | None) -> Report:
        asked.append(only)
        return report(steps=DEFECT)

    monkeypatch.setattr("patches.doctor.report.examine", recording_examine)
    assert main(["doctor", ".", "--only", "steps,sde", "--allow", "steps"]) == 0
    assert asked == [["steps,sde"]]


@pytest.mark.parametrize("option", ["--only", "--allow"])
def test_unknown_check_is_refused_with_the_list(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", ".", option, "steps,stepz"]) == 2
    message = capsys.readouterr().err
    assert "found 'stepz'" in message
    assert all(check.name in message for check in CHECKS)


def test_folder_without_a_checkout_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "expected the folder that holds acestep/" in capsys.readouterr().err
    with pytest.raises(UnknownCheck):
        examine(tmp_path, ["nothing"])


@pytest.mark.subprocess
def test_remedy_is_a_command_that_can_be_pasted(tmp_path: Path, run_doctor: RunDoctor) -> None:
    """In the form in which the kit was started, from any folder, with a path that needs quotes."""
    root = SICK.write(tmp_path / "it's mine")

    def run(words: list[str]) -> str:
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    said = run([sys.executable, str(PATCHES), "doctor", str(root), "--only", "prompt"])
    remedy = said.splitlines()[-1].removeprefix("prompt: ")
    assert "patched: " in run(shlex.split(remedy))
    assert [finding.verdict for _, finding in run_doctor(root, ["prompt"]).findings] == [FINE]
