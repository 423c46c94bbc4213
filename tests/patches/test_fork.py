"""The fork that this project ships holds exactly what `apply` writes."""

import shutil
from pathlib import Path

from patches.checkout import locate
from patches.cli import main
from patches.plan import make_plan, read_files
from tests.patches.test_write import contents

FORK = Path(__file__).parents[2] / "ACE-Step-1.5"


def test_reverted_and_applied_again_the_fork_is_what_it_was(tmp_path: Path) -> None:
    checkout = locate(FORK)
    for path in (checkout.execute, checkout.diffusion, checkout.generate):
        copy = tmp_path / checkout.name(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    before = contents(tmp_path)
    assert main(["check", str(tmp_path)]) == 0
    assert main(["revert", str(tmp_path)]) == 0
    reverted = make_plan(read_files(locate(tmp_path)))
    assert [state.word for state in reverted.states.values()] == ["not applied"] * 3
    assert not reverted.honoured.steps
    assert main(["apply", str(tmp_path)]) == 0
    assert contents(tmp_path) == before
