"""Back to the bytes before `apply`, or one clear refusal: what may be the user's is not removed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from patches.outcomes import Role
from patches.plan import make_plan
from patches.revert import CannotRevert, make_revert
from patches.source import Source
from tests.patches.contract import UPSTREAM, check_transformed, data, sources
from tests.patches.mini_checkout import (
    BEFORE,
    COMPILE_LINE,
    FIXED,
    KIND_OUT_OF_DIFFUSION,
    PATCHED,
    STEPS_IN_EXECUTE,
    STEPS_INTO_DIFFUSION,
    STEPS_OUT_OF_DIFFUSION,
    MiniCheckout,
)

KEPT = "# Here before the patch and kept when it goes: "
BY_HAND = BEFORE.edited("execute", STEPS_IN_EXECUTE)
GIT = (
    "Nothing was changed. See the difference with `git diff HEAD -- {0}`, "
    "and go back with `git checkout HEAD -- {0}`."
)


def edited(files: dict[Role, Source], role: Role, change: Callable[[str], str]) -> dict[Role, Source]:
    return {**files, role: files[role].with_text(change(files[role].text))}


@pytest.mark.parametrize(
    "checkout", [BEFORE, FIXED, UPSTREAM, BY_HAND], ids=["before", "fixed", "upstream", "by-hand"]
)
def test_apply_then_revert_gives_the_same_bytes(checkout: MiniCheckout) -> None:
    check_transformed(checkout)


@pytest.mark.parametrize(
    ("checkout", "kept"),
    [
        pytest.param(BY_HAND, "infer_steps passed to _mlx_run_diffusion", id="patch-one-by-hand"),
        pytest.param(
            BEFORE.edited("diffusion", STEPS_INTO_DIFFUSION),
            "parameter infer_steps of _mlx_run_diffusion",
            id="half-of-patch-two-by-hand",
        ),
        pytest.param(
            BY_HAND.edited("diffusion", STEPS_INTO_DIFFUSION, STEPS_OUT_OF_DIFFUSION, KIND_OUT_OF_DIFFUSION),
            "infer_steps passed to _mlx_run_diffusion, infer_steps passed to mlx_generate_diffusion, "
            "is_turbo passed to mlx_generate_diffusion, parameter infer_steps of _mlx_run_diffusion",
            id="patches-one-and-two-by-hand",
        ),
        pytest.param(
            BEFORE.edited(
                "diffusion", (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.config.is_turbo,\n")
            ),
            "what is passed to mlx_generate_diffusion",
            id="the-kind-told-to-a-function-that-does-not-take-it",
        ),
    ],
)
def test_the_very_lines_of_a_patch_that_were_there_before_are_noted_and_kept(
    checkout: MiniCheckout, kept: str
) -> None:
    plan = check_transformed(checkout)
    assert f"    {KEPT}{kept}.\n" in plan.after[Role.GENERATE].text
    assert KEPT not in make_plan(sources(BEFORE)).after[Role.GENERATE].text


def test_edits_elsewhere_in_the_file_stay() -> None:
    files = make_plan(sources(BEFORE)).after
    files = edited(
        dict(files), Role.GENERATE, lambda text: text.replace("import numpy", "import math\nimport numpy")
    )
    reverted = make_revert(files)
    assert reverted[Role.GENERATE].text == BEFORE.generate.replace(
        "import numpy", "import math\nimport numpy"
    )
    assert reverted[Role.EXECUTE].text == BEFORE.execute


@pytest.mark.parametrize(
    ("role", "old", "new"),
    [
        pytest.param(Role.GENERATE, "linspace(1, 0,", "linspace(1., 0,", id="the-block"),
        pytest.param(Role.GENERATE, "falling.pop()\n", "falling.pop()\n\n", id="a-blank-line-in-the-block"),
        pytest.param(
            Role.DIFFUSION, 'self.config, "is_turbo", False)', 'self.config, "is_turbo", True)', id="the-kind"
        ),
        pytest.param(Role.DIFFUSION, "infer_steps: int = 8", "infer_steps: int = 16", id="the-default"),
        pytest.param(
            Role.GENERATE,
            "    infer_steps: int = 8,\n    is_turbo: bool = True,\n",
            "    is_turbo: bool = True,\n    infer_steps: int = 8,\n",
            id="the-order",
        ),
    ],
)
def test_an_edit_of_what_apply_wrote_is_refused_and_named(role: Role, old: str, new: str) -> None:
    files = edited(dict(make_plan(sources(BEFORE)).after), role, lambda text: text.replace(old, new))
    with pytest.raises(CannotRevert) as caught:
        make_revert(files)
    name = f"{role.value}.py"
    assert str(caught.value) == (
        f"{name}: expected what `apply` wrote, found it edited since, so the bytes before cannot be proved. "
        + GIT.format(name)
    )


def test_two_originals_that_would_fit_are_told_apart_by_nothing_so_nothing_is_removed() -> None:
    with pytest.raises(CannotRevert) as caught:
        make_revert(sources(BY_HAND))
    assert str(caught.value) == (
        "execute.py: expected a file that only one original leads to, found infer_steps passed to "
        "_mlx_run_diffusion, which stood there before `apply` or came with it: both would look like this. "
        + GIT.format("execute.py")
    )


def test_where_the_block_is_not_ours_only_the_line_that_nobody_else_writes_is_taken_out() -> None:
    own = MiniCheckout(UPSTREAM.execute, UPSTREAM.diffusion, PATCHED.generate.replace("falling", "given"))
    plan = check_transformed(replace(own, generate=own.generate.replace("# A base model", "# Base")))
    assert [role for role in Role if plan.after[role] != plan.before[role]] == [Role.DIFFUSION]


@pytest.mark.parametrize("checkout", [BEFORE, UPSTREAM], ids=["before", "upstream"])
def test_nothing_of_the_kit_is_nothing_to_revert(checkout: MiniCheckout) -> None:
    files = sources(checkout)
    assert make_revert(files) == files


@pytest.mark.parametrize("reverted", [[Role.EXECUTE], [Role.EXECUTE, Role.DIFFUSION]], ids=["E", "E-and-D"])
def test_a_revert_that_died_half_way_is_finished(reverted: list[Role]) -> None:
    plan = make_plan(sources(BEFORE))
    half = {role: (plan.before if role in reverted else plan.after)[role] for role in Role}
    assert data(make_revert(half)) == data(plan.before)
    assert data(make_plan(half).after) == data(plan.after)


@pytest.mark.parametrize("applied", [[Role.GENERATE], [Role.GENERATE, Role.DIFFUSION]], ids=["G", "G-and-D"])
def test_an_apply_that_died_half_way_is_finished_or_reverted(applied: list[Role]) -> None:
    plan = make_plan(sources(BEFORE))
    half = {role: (plan.after if role in applied else plan.before)[role] for role in Role}
    states = {role: state.word for role, state in make_plan(half).states.items()}
    assert states == {role: "applied" if role in applied else "not applied" for role in Role}
    assert data(make_plan(half).after) == data(plan.after)
    assert data(make_revert(half)) == data(plan.before)


def test_execute_alone_patched_is_a_call_that_fails_not_steps_that_run() -> None:
    assert not make_plan(sources(BY_HAND)).honoured.steps
