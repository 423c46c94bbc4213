"""What becomes of the findings where a checkout crashes, cannot run, or does not end."""

from pathlib import Path

import pytest

from patches.doctor.finding import DEFECT, SKIPPED
from patches.doctor.report import Report, examine
from tests.patches.doctor.conftest import RunDoctor
from tests.patches.mini_application import MODEL, SICK

pytestmark = pytest.mark.subprocess


def found(report: Report, name: str) -> tuple[str, str]:
    finding = next(finding for check, finding in report.findings if check.name == name)
    return finding.verdict, finding.observed


def test_findings_before_a_crash_are_kept(tmp_path: Path) -> None:
    crashing = SICK.edited(MODEL, ("import torch\n\ntry", "import os\nos.kill(os.getpid(), 11)\ntry"))
    report = examine(crashing.write(tmp_path), ["prompt", "sde"])
    assert found(report, "prompt")[0] == DEFECT
    verdict, reason = found(report, "sde")
    assert verdict == SKIPPED
    assert reason.startswith("the child process was killed by SIGSEGV")


def test_application_that_cannot_run_is_skipped_with_the_reason(
    tmp_path: Path, run_doctor: RunDoctor
) -> None:
    failing = SICK.edited("acestep/inference.py", ('codes = ""\n', "codes = params.unknown_field\n"))
    report = run_doctor(failing.write(tmp_path), ["context-audio"])
    assert found(report, "context-audio") == (
        SKIPPED,
        "a LEGO request ends before the decoder: AttributeError: "
        "'GenerationParams' object has no attribute 'unknown_field'",
    )


def test_time_limit_is_reported(tmp_path: Path) -> None:
    """So short that not even torch is imported."""
    report = examine(SICK.write(tmp_path), ["prompt"], time_limit=0.2)
    assert report.findings == ()
    assert report.problem == "the child process was still running after 0.2 s and was stopped"
