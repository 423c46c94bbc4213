"""The doctor on small applications and on the fork."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from patches.doctor import probe, report
from patches.doctor.report import Report
from patches.harness.process import ChildResult, Limits
from tests.patches.contract import contents
from tests.patches.mini_application import SICK, MiniApplication
from tests.patches.verify.conftest import modules_of_a_checkout

FORK = Path(__file__).parents[3] / "ACE-Step-1.5"
RunDoctor = Callable[..., Report]


@pytest.fixture(scope="session")
def run_doctor(request: pytest.FixtureRequest) -> RunDoctor:
    """`report.examine`, in a fork of a process that has imported torch, where MLX survives that."""
    if not sys.platform.startswith("linux"):
        return report.examine
    server = request.getfixturevalue("server")

    def examine_in_a_fork(root: Path, only: list[str] | None = None) -> Report:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "run_module", server.run_module)
            return report.examine(root, only)

    return examine_in_a_fork


def run_here(module: str, request: dict[str, Any], limits: Limits | None = None) -> ChildResult:
    """What `run_module` returns for doctor.probe."""
    assert module == "doctor.probe"
    answers: list[dict[str, Any]] = []
    with modules_of_a_checkout():
        probe.answer(json.loads(json.dumps(request)), answers.append)
    return ChildResult(tuple(json.loads(json.dumps(answers))), None)


def examined(run_doctor: RunDoctor, application: MiniApplication, root: Path) -> Report:
    application.write(root)
    before = contents(root)
    found = run_doctor(root)
    assert contents(root) == before
    return found


@pytest.fixture(scope="session")
def all_defects(run_doctor: RunDoctor, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An application with every defect that came later."""
    return examined(run_doctor, SICK, tmp_path_factory.mktemp("all_defects"))
