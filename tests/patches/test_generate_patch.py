"""Patch 3 on the many shapes of one module, near misses included."""

import pytest

from patches.generate_patch import BLOCK, COMMENT
from patches.judge import Honoured
from patches.outcomes import Role
from patches.plan import make_plan
from tests.patches.contract import (
    UPSTREAM,
    changed,
    check_applied,
    check_refused,
    check_transformed,
    not_applied,
    sources,
)
from tests.patches.mini_checkout import BEFORE, PATCHED, MiniCheckout, edit

DOCSTRING = '    """Choose the timesteps as a turbo model wants them."""\n'
SIGNATURE = "    shift: float = 3.0,\n    timesteps: Optional[list] = None,\n):\n" + DOCSTRING
CALL = "    levels = get_timestep_schedule(shift, timesteps)\n"
STEPS, KIND = "infer_steps: int = 8", "is_turbo: bool = True"
LINES = [COMMENT, *BLOCK]


def block(indent: str = "    ", unit: str = "    ") -> list[str]:
    """The block's lines as a diff shows them, at some indentation."""
    shown = []
    for line in LINES:
        bare = line.lstrip()
        shown.append("+" + (indent + unit * ((len(line) - len(bare)) // 4) + bare if bare else ""))
    return shown


PARAMETERS = [f"+    {STEPS},", f"+    {KIND},"]
WHOLE_CALL = [f"-{CALL.rstrip()}", f"+{CALL.rstrip()[:-1]}, infer_steps=infer_steps, is_turbo=is_turbo)"]
WHOLE = [*PARAMETERS, *block(), *PARAMETERS, *WHOLE_CALL]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([], WHOLE, id="as-upstream-has-it"),
        pytest.param([(DOCSTRING, "")], WHOLE, id="no-docstring"),
        pytest.param([(DOCSTRING, "    # What turbo was made for.\n\n")], WHOLE, id="comment-first"),
        pytest.param(
            [(DOCSTRING, '    """Several\n\n    lines."""  # and a comment\n\n')], WHOLE, id="long-docstring"
        ),
        pytest.param(
            [(SIGNATURE, SIGNATURE.replace("):", ") -> list[float]:  # descending"))],
            WHOLE,
            id="typed-result",
        ),
        pytest.param(
            [(SIGNATURE, f"        shift: float = 3.0, timesteps=None):\n{DOCSTRING}")],
            [
                "-        shift: float = 3.0, timesteps=None):",
                f"+        shift: float = 3.0, timesteps=None, {STEPS}, {KIND}):",
                *block(),
                *PARAMETERS,
                *WHOLE_CALL,
            ],
            id="parameters-on-one-line",
        ),
        pytest.param(
            [(SIGNATURE, SIGNATURE.replace("None,\n)", "None\n)"))],
            [
                "-    timesteps: Optional[list] = None",
                "+    timesteps: Optional[list] = None,",
                f"+    {STEPS},",
                f"+    {KIND}",
                *block(),
                *PARAMETERS,
                *WHOLE_CALL,
            ],
            id="no-trailing-comma",
        ),
        pytest.param(
            [
                (
                    CALL,
                    "    levels = get_timestep_schedule(\n        shift=shift,\n        timesteps=timesteps,\n    )\n",
                )
            ],
            [
                *PARAMETERS,
                *block(),
                *PARAMETERS,
                "+        infer_steps=infer_steps,",
                "+        is_turbo=is_turbo,",
            ],
            id="keywords-on-lines-of-their-own",
        ),
        pytest.param(
            [(CALL, f"    if timesteps is None:\n    {CALL}    else:\n    {CALL}")],
            [
                *PARAMETERS,
                *block(),
                *PARAMETERS,
                *[f"{line[0]}    {line[1:]}" for line in [*WHOLE_CALL[:1], *WHOLE_CALL[1:]] * 2],
            ],
            id="called-in-both-branches",
        ),
        pytest.param([("def get_", "@functools.cache\ndef get_")], WHOLE, id="decorated"),
        pytest.param(
            [
                (CALL, f"{CALL}    print('levels', levels)\n"),
                ("import numpy", "from loguru import logger\nimport numpy"),
            ],
            WHOLE,
            id="prints-and-loguru",
        ),
        pytest.param(
            [("Walk from noise", "Wandle Rauschen — Schritt für Schritt — um: ")],
            WHOLE,
            id="text-beyond-ascii",
        ),
    ],
)
def test_the_schedule_becomes_base_aware(changes: list[tuple[str, str]], expected: list[str]) -> None:
    plan = check_transformed(BEFORE.edited("generate", *changes))
    assert sorted(changed(plan, Role.GENERATE)) == sorted(expected)


@pytest.mark.parametrize(("indent", "unit"), [("\t", "\t"), ("  ", "  ")], ids=["tabs", "two-spaces"])
def test_the_block_is_indented_as_the_file_is(indent: str, unit: str) -> None:
    lines = BEFORE.generate.split("\n")
    levels = [len(line) - len(line.lstrip()) for line in lines]
    text = "\n".join(unit * (n // 4) + line.lstrip() for n, line in zip(levels, lines, strict=True))
    plan = check_transformed(MiniCheckout(BEFORE.execute, BEFORE.diffusion, text))
    assert set(block(indent, unit)) <= set(changed(plan, Role.GENERATE))


def test_a_keyword_only_marker_is_not_another_schedule() -> None:
    marked = BEFORE.edited(
        "generate", (SIGNATURE, SIGNATURE.replace("    timesteps", "    *,\n    timesteps"))
    )
    positional = marked.edited("generate", (CALL, CALL.replace(", timesteps", ", timesteps=timesteps")))
    assert changed(check_transformed(positional), Role.GENERATE)[:2] == PARAMETERS


def test_where_the_steps_are_threaded_only_the_kind_and_the_block_come() -> None:
    plan = check_transformed(UPSTREAM)
    old = "    levels = get_timestep_schedule(shift, timesteps, infer_steps=infer_steps)"
    assert changed(plan, Role.GENERATE) == [
        f"+    {KIND},",
        *block(),
        f"+    {KIND},",
        f"-{old}",
        f"+{old[:-1]}, is_turbo=is_turbo)",
    ]


def test_steps_passed_by_position_are_not_passed_twice() -> None:
    fixed = UPSTREAM.edited("generate", ("timesteps, infer_steps=infer_steps)", "timesteps, infer_steps)"))
    text = check_transformed(fixed).after[Role.GENERATE].text
    assert "get_timestep_schedule(shift, timesteps, infer_steps, is_turbo=is_turbo)" in text


def test_the_early_path_is_patched_alike() -> None:
    early = MiniCheckout(BEFORE.execute, BEFORE.diffusion, BEFORE.generate, "acestep/mlx_dit/generate.py")
    assert changed(check_transformed(early), Role.GENERATE) == WHOLE


OWN_STYLE = """
def get_timestep_schedule(shift=3.0, timesteps=None, *, is_turbo=True, infer_steps=8):
    chosen = None
    if timesteps is not None:
        chosen = [float(t) for t in timesteps if t > 0]
        if is_turbo:
            chosen = [min(GRID, key=lambda g, t=t: abs(g - t)) for t in chosen[:20]]
    if chosen is None and is_turbo:
        chosen = TABLES[min(TABLES, key=lambda s: abs(s - shift))]
    elif chosen is None:
        count = max(1, int(infer_steps))
        t = np.linspace(1, 0, count + 1)
        t = shift * t / (1 + (shift - 1) * t)
        chosen = [float(x) for x in t[:-1]]
    return chosen


def mlx_generate_diffusion("""


def own_style(*changes: tuple[str, str]) -> MiniCheckout:
    head, rest = PATCHED.generate.split("def get_timestep_schedule(")
    tail = rest.split("def mlx_generate_diffusion(")[1]
    head += "from .tables import VALID_TIMESTEPS\n"
    return MiniCheckout(PATCHED.execute, PATCHED.diffusion, edit(head + OWN_STYLE + tail, *changes))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="one-function"),
        pytest.param(
            [
                (
                    "    elif chosen is None:\n",
                    "    elif chosen is None:\n        return base(infer_steps, shift)\n",
                ),
                (
                    "\n\ndef mlx_",
                    "\n\ndef base(n, s):\n    return [s * (1 - i / n) for i in range(n)]\n\n\ndef mlx_",
                ),
            ],
            id="helper-function",
        ),
        pytest.param(
            [
                (
                    "    elif chosen is None:\n",
                    "    elif chosen is None:\n        return base(infer_steps, shift)\n",
                ),
                (
                    "\n\ndef mlx_",
                    "\n\ndef base(n, s):\n    if s > 9:\n        return base(n, s - 1)\n"
                    "    return [s * (1 - i / n) for i in range(n)]\n\n\ndef mlx_",
                ),
            ],
            id="helper-function-that-calls-itself",
        ),
        pytest.param(
            [
                (
                    f"{CALL.rstrip()[:-1]}, infer_steps=infer_steps, is_turbo=is_turbo)\n",
                    "    if is_turbo:\n        levels = get_timestep_schedule(shift, timesteps)\n"
                    "    elif timesteps is not None:\n        levels = list(timesteps)\n"
                    "    else:\n        levels = [1 - i / infer_steps for i in range(infer_steps)]\n",
                )
            ],
            id="decided-beside-the-schedule",
        ),
        pytest.param(
            [("    for now, then in zip(levels, [*levels[1:], 0.0]):", "    for i in range(len(levels)):")],
            id="loop-over-indices",
        ),
    ],
)
def test_a_schedule_that_is_right_in_its_own_way_is_applied(changes: list[tuple[str, str]]) -> None:
    check_applied(own_style(*changes))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            ("        if is_turbo:\n", "        if True:\n"), id="custom-timesteps-snapped-for-base-too"
        ),
        pytest.param(
            ("    if chosen is None and is_turbo:", "    if chosen is None:"), id="table-for-base-too"
        ),
        pytest.param(("max(1, int(infer_steps))", "min(20, infer_steps)"), id="steps-cut-to-20"),
        pytest.param(
            ("for x in t[:-1]]", "for x in t[0] * [1.0, 0.75, 0.5, 0.25]]"),
            id="a-list-of-numbers-scaled-by-the-steps",
        ),
        pytest.param(
            (
                "        chosen = [float(x) for x in t[:-1]]\n",
                "        chosen = [VALID_TIMESTEPS[i] for i in range(count)]\n",
            ),
            id="as-many-values-of-an-imported-table-as-steps",
        ),
        pytest.param(
            (
                "        chosen = [float(t) for t in timesteps if t > 0]\n",
                "        chosen = [float(t) for t in timesteps[:20]]\n",
            ),
            id="custom-timesteps-cut-for-base-too",
        ),
        pytest.param(("is_turbo=is_turbo)", "is_turbo=compile_model)"), id="kind-taken-from-elsewhere"),
    ],
)
def test_a_schedule_that_goes_wrong_for_base_models_is_not_taken_for_applied(change: tuple[str, str]) -> None:
    plan = make_plan(sources(own_style(change)))
    assert "generate" in not_applied(plan)
    assert not plan.honoured


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param(
            [(SIGNATURE, SIGNATURE.replace("):", '    scheduler: str = "linear",\n):'))],
            "get_timestep_schedule also takes scheduler: a base branch in front would switch that off",
            id="scheduler",
        ),
        pytest.param(
            [(SIGNATURE, SIGNATURE.replace("):", "    *,\n    noise_schedule=None,\n    **options,\n):"))],
            "get_timestep_schedule also takes noise_schedule, **options: "
            "a base branch in front would switch that off",
            id="noise-schedule-and-options",
        ),
        pytest.param(
            [(SIGNATURE, SIGNATURE.replace("timesteps:", "levels:"))],
            "get_timestep_schedule also takes levels: a base branch in front would switch that off",
            id="renamed-parameter",
        ),
        pytest.param(
            [
                (SIGNATURE, SIGNATURE.replace("    timesteps: Optional[list] = None,\n", "")),
                (CALL, CALL.replace(", timesteps", "")),
            ],
            "get_timestep_schedule takes no timesteps",
            id="no-timesteps",
        ),
        pytest.param(
            [
                ("def get_timestep_schedule(", "def get_schedule("),
                ("= get_timestep_schedule(", "= get_schedule("),
            ],
            "expected one get_timestep_schedule, found none",
            id="schedule-renamed",
        ),
        pytest.param(
            [
                (
                    "\n\ndef mlx_",
                    "\n\ndef get_timestep_schedule(shift, timesteps):\n    return []\n\n\ndef mlx_",
                )
            ],
            "expected one get_timestep_schedule, found 2",
            id="two-schedules",
        ),
        pytest.param(
            [(CALL, "    levels = [1.0, 0.9, 0.8]\n")],
            "mlx_generate_diffusion does not call get_timestep_schedule",
            id="schedule-not-called",
        ),
        pytest.param(
            [(CALL, "    levels = get_timestep_schedule(*[shift, timesteps])\n")],
            "mlx_generate_diffusion calls get_timestep_schedule with * or **, so what it passes cannot be seen",
            id="starred-call",
        ),
        pytest.param(
            [("        asked = [t", "        falling = timesteps\n        asked = [t")],
            "get_timestep_schedule uses falling for something of its own",
            id="a-name-of-the-block-taken",
        ),
        pytest.param(
            [("import numpy as np\n", "import numpy as np\n\nzip = None\n")],
            "get_timestep_schedule uses zip for something of its own",
            id="a-builtin-rebound",
        ),
    ],
)
def test_what_cannot_be_edited_safely_is_left_alone_with_the_reason(
    changes: list[tuple[str, str]], reason: str
) -> None:
    assert check_refused(BEFORE.edited("generate", *changes))["generate"] == reason


def test_a_body_on_the_line_of_the_def_is_left_alone() -> None:
    head, rest = BEFORE.generate.split("def get_timestep_schedule(")
    tail = rest.split("def mlx_generate_diffusion(")[1]
    one_line = "def get_timestep_schedule(shift=3.0, timesteps=None): return TABLES[shift]\n\n\n"
    text = head + one_line + "def mlx_generate_diffusion(" + tail
    assert check_refused(MiniCheckout(BEFORE.execute, BEFORE.diffusion, text)) == {
        "generate": "the body of get_timestep_schedule does not begin on a line of its own"
    }


def test_an_edit_that_later_code_would_undo_is_not_promised() -> None:
    overruled = BEFORE.edited("generate", (CALL, f"{CALL}    levels = levels[:8]\n"))
    assert check_refused(overruled) == {
        "generate": "the code around the site would keep the edit from having its effect"
    }


@pytest.mark.parametrize(
    "imported",
    [
        pytest.param("from acestep.schedules import get_timestep_schedule", id="from-the-checkout"),
        pytest.param("from ..schedules import get_timestep_schedule", id="relative"),
        pytest.param("from acestep import schedules", id="through-a-module"),
        pytest.param("", id="undefined"),
    ],
)
def test_a_schedule_out_of_another_file_is_neither_taken_for_applied_nor_for_wrong(imported: str) -> None:
    call = "schedules.get_timestep_schedule" if imported.endswith(" schedules") else "get_timestep_schedule"
    text = PATCHED.generate.replace("def get_timestep_schedule(", "def unused(").replace(
        "= get_timestep_schedule(", f"= {call}("
    )
    checkout = MiniCheckout(PATCHED.execute, PATCHED.diffusion, f"{imported}\n{text}")
    assert check_refused(checkout) == {"generate": "expected one get_timestep_schedule, found none"}
    assert make_plan(sources(checkout)).honoured == Honoured(steps=None, timesteps=None)


def test_upstreams_fix_is_still_something_to_apply() -> None:
    assert not_applied(check_transformed(UPSTREAM)) == {
        "diffusion": "does not forward the model kind",
        "generate": "does not give a base model its own schedule",
    }
