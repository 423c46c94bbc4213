"""The doctor's reports of the small applications and of the fork, each run once a session in a child process."""

from pathlib import Path

import pytest

from patches.doctor.report import Report, examine
from tests.patches.contract import contents
from tests.patches.mini_application import OLD, SICK, WELL, MiniApplication

FORK = Path(__file__).parents[3] / "ACE-Step-1.5"


def examined(application: MiniApplication, root: Path) -> Report:
    application.write(root)
    before = contents(root)
    report = examine(root)
    assert contents(root) == before
    return report


@pytest.fixture(scope="session")
def before_guidance(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An application as upstream was before 82a5d84."""
    return examined(OLD, tmp_path_factory.mktemp("before_guidance"))


@pytest.fixture(scope="session")
def all_defects(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An application with every defect that came later."""
    return examined(SICK, tmp_path_factory.mktemp("all_defects"))


@pytest.fixture(scope="session")
def no_defects(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return examined(WELL, tmp_path_factory.mktemp("no_defects"))


@pytest.fixture(scope="session")
def fork() -> Report:
    return examine(FORK)
