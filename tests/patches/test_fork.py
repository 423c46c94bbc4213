"""The fork that this project ships holds exactly what `apply` writes."""

import shutil
from pathlib import Path

from patches.checkout import locate
from patches.cli import main
from patches.engine.plan import make_plan
from patches.engine.states import Missing
from patches.steps import STEPS
from tests.patches.contract import contents

FORK = Path(__file__).parents[2] / "ACE-Step-1.5"


def test_reverted_and_applied_again_the_fork_is_the_same(tmp_path: Path) -> None:
    checkout = locate(FORK)
    for path in (checkout.execute, checkout.diffusion, checkout.generate):
        copy = tmp_path / checkout.name(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    before = contents(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert main(["revert", str(tmp_path)]) == 0
    assert len(make_plan(locate(tmp_path), STEPS).having(Missing)) == 3
    assert main(["apply", str(tmp_path)]) == 0
    assert contents(tmp_path) == before
