"""Back to the bytes before `apply`, or one clear refusal: what may be the user's is not removed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from patches.cli import main
from tests.patches.contract import DIFFUSION, EXECUTE, GENERATE, check_verbs, contents, crlf
from tests.patches.mini_checkout import (
    BEFORE,
    COMPILE_LINE,
    FIXED,
    STEPS_IN_EXECUTE,
    STEPS_INTO_DIFFUSION,
    STEPS_OUT_OF_DIFFUSION,
    MiniCheckout,
)

BY_HAND = BEFORE.edited("execute", STEPS_IN_EXECUTE)
CHECKOUTS = {
    "before": BEFORE,
    "after upstream's fix": FIXED,
    "the parameter of diffusion by hand": BEFORE.edited("diffusion", STEPS_INTO_DIFFUSION),
    "the forward of diffusion by hand": BEFORE.edited(
        "diffusion", STEPS_INTO_DIFFUSION, STEPS_OUT_OF_DIFFUSION
    ),
    "the kind passed to a function that does not take it": BEFORE.edited(
        "diffusion", (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.config.is_turbo,\n")
    ),
    "early home": MiniCheckout(
        BEFORE.execute, BEFORE.diffusion, BEFORE.generate, "acestep/mlx_dit/generate.py"
    ),
}


@pytest.mark.parametrize("checkout", CHECKOUTS.values(), ids=CHECKOUTS)
def test_apply_then_revert_gives_the_same_bytes(tmp_path: Path, checkout: MiniCheckout) -> None:
    root = checkout.write(tmp_path)
    before = contents(root)
    assert main(["apply", str(root)]) == 0
    assert contents(root) != before
    assert main(["revert", str(root)]) == 0
    assert contents(root) == before


def test_contract_of_the_verbs(tmp_path: Path) -> None:
    assert check_verbs(BEFORE.write(tmp_path)) == {EXECUTE, DIFFUSION, GENERATE}


def test_line_by_hand_is_kept_and_a_call_that_fails_without_the_patches_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = BY_HAND.write(tmp_path)
    before = contents(root)
    assert main(["apply", str(root)]) == 0
    assert main(["revert", str(root)]) == 0
    assert contents(root) == before
    assert capsys.readouterr().out.endswith(
        f"{EXECUTE}: the call would pass infer_steps, which _mlx_run_diffusion does not take.\n"
    )


def test_newlines_changed_after_apply_are_the_newlines_after_revert(tmp_path: Path) -> None:
    one_line = (
        "    shift: float = 3.0,\n    timesteps: Optional[list] = None,\n):",
        "        shift=3.0, timesteps=None):",
    )
    root = BEFORE.edited("generate", one_line).write(tmp_path)
    before = contents(root)
    assert main(["apply", str(root)]) == 0
    for name, data in contents(root).items():
        (root / name).write_bytes(crlf(data))
    assert main(["revert", str(root)]) == 0
    assert contents(root) == {name: crlf(data) for name, data in before.items()}


@pytest.mark.parametrize("file", [DIFFUSION, GENERATE])
def test_marks_that_were_all_removed_are_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str
) -> None:
    root = BEFORE.write(tmp_path)
    assert main(["apply", str(root)]) == 0
    text = (root / file).read_text()
    (root / file).write_text(re.sub(r" *# LEGO patch .*\n", "", text))
    before = contents(root)
    assert main(["revert", str(root)]) == 3
    said = capsys.readouterr().err
    assert f"{file}: the text of this kit" in said
    assert "without its mark, so the bytes before `apply` cannot be proved" in said
    assert contents(root) == before


@pytest.mark.parametrize("checkout", [BEFORE, FIXED, BY_HAND], ids=["before", "upstreams-fix", "by-hand"])
def test_checkout_without_text_of_the_kit_has_nothing_to_revert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkout: MiniCheckout
) -> None:
    root = checkout.write(tmp_path)
    before = contents(root)
    assert main(["revert", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: holds no text of this kit.\n"
    assert contents(root) == before


def test_unreadable_file_is_a_refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = BEFORE.write(tmp_path)
    assert main(["apply", str(root)]) == 0
    (root / DIFFUSION).write_bytes((root / DIFFUSION).read_bytes() + b"(\n")
    before = contents(root)
    assert main(["revert", str(root)]) == 3
    assert f"{DIFFUSION}: expected a source that compiles" in capsys.readouterr().err
    assert contents(root) == before
