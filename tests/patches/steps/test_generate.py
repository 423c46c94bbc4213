"""The patch `generate` on the many forms of one module, near misses included."""

import pytest

from patches.steps.generate import BLOCK, CUSTOM_BLOCK, PATCH
from tests.patches.contract import (
    changed,
    check_applied,
    check_left,
    check_refused,
    edit_patched,
    source_of,
    without_numbers,
)
from tests.patches.mini_checkout import BEFORE as CHECKOUT
from tests.patches.mini_checkout import FIXED, edit

BEFORE = CHECKOUT.generate
MARK = "# LEGO patch (generate)"
DOCSTRING = '    """Choose the timesteps as a turbo model wants them."""\n'
SIGNATURE = "    shift: float = 3.0,\n    timesteps: Optional[list] = None,\n):\n" + DOCSTRING
CALL = "    levels = get_timestep_schedule(shift, timesteps)\n"
STEPS, KIND = "infer_steps: int = 8", "is_turbo: bool = True"
PARAMETERS = [f"+    {line}" for line in (MARK, f"{STEPS},", f"{KIND},")]


def block(unit: str = "    ") -> list[str]:
    """The block as a diff shows it."""
    made = []
    for line in (MARK + BLOCK[0], *BLOCK[1:]):
        bare = line.lstrip()
        made.append(f"+{unit * (1 + (len(line) - len(bare)) // 4)}{bare}")
    return made


def call(*items: str, was: str = "(shift, timesteps)", assigned: str = "    levels = ") -> list[str]:
    indent = " " * (len(assigned) - len(assigned.lstrip()) + 4)
    lines = (f"{MARK}, was: {was}", *(f"{item}," for item in items))
    return [
        f"-{assigned}get_timestep_schedule{was}",
        f"+{assigned}get_timestep_schedule(",
        *(f"+{indent}{line}" for line in lines),
        f"+{indent[4:]})",
    ]


WHOLE_CALL = call("shift", "timesteps", "infer_steps=infer_steps", "is_turbo=is_turbo")
FULL_PRECISION = [*PARAMETERS, *block(), *PARAMETERS, *WHOLE_CALL]

APPLIED = {
    "as upstream has it": [],
    "no docstring": [(DOCSTRING, "")],
    "comment first": [(DOCSTRING, "    # What turbo was made for.\n\n")],
    "long docstring": [(DOCSTRING, '    """Several\n\n    lines."""  # and a comment\n\n')],
    "typed result": [(SIGNATURE, SIGNATURE.replace("):", ") -> list[float]:  # descending"))],
    "decorated": [("def get_", "@functools.cache\ndef get_")],
    "prints and loguru": [
        (CALL, f"{CALL}    print('levels', levels)\n"),
        ("import numpy", "from loguru import logger\nimport numpy"),
    ],
    "text beyond ASCII": [("Walk from noise", "Wandle Rauschen \N{EM DASH} Schritt für Schritt um")],
    "overload stub": [
        (
            "def get_timestep_schedule(",
            "@overload\ndef get_timestep_schedule(): ...\ndef get_timestep_schedule(",
        )
    ],
    "stub for type checkers": [
        ("TABLES =", "if TYPE_CHECKING:\n    def get_timestep_schedule(): ...\n\nTABLES =")
    ],
    "form feed": [("def get_timestep_schedule(", "\x0c\ndef get_timestep_schedule(")],
    "100 elifs": [
        (
            "        return [min(",
            "        if 0:\n            pass\n"
            + "".join(f"        elif shift == {n}:\n            pass\n" for n in range(100))
            + "        return [min(",
        )
    ],
    "call in try": [(CALL, f"    try:\n    {CALL}    except ValueError:\n        levels = []\n")],
}


def test_keywords_from_a_dict_of_the_function_do_not_hold_the_steps() -> None:
    options = "    options = {'shift': shift, 'timesteps': timesteps}\n"
    text = edit(BEFORE, (CALL, f"{options}    levels = get_timestep_schedule(**options)\n"))
    assert "infer_steps=infer_steps,\n        is_turbo=is_turbo,\n        **options,\n" in check_applied(
        PATCH, text
    )


@pytest.mark.parametrize("changes", APPLIED.values(), ids=APPLIED)
def test_schedule_of_a_base_model_is_added(changes: list[tuple[str, str]]) -> None:
    text = edit(BEFORE, *changes)
    lines = changed(text, check_applied(PATCH, text))
    assert sorted(line.lstrip("+- ") for line in lines) == sorted(
        line.lstrip("+- ") for line in FULL_PRECISION
    )


OTHER_FORMS = {
    "parameters on one line": (
        SIGNATURE,
        f"        shift: float = 3.0, timesteps=None):\n{DOCSTRING}",
        '{MARK}, was: "(\\n        shift: float = 3.0, timesteps=None)"\n    shift: float = 3.0,\n    timesteps=None,\n'
        "    infer_steps: int = 8,\n    is_turbo: bool = True,\n):\n",
    ),
    "no trailing comma": (
        SIGNATURE,
        SIGNATURE.replace("None,\n)", "None\n)"),
        "timesteps: Optional[list] = None,\n    {MARK}, comma added\n    infer_steps: int = 8,\n"
        "    is_turbo: bool = True\n):\n",
    ),
    "further keywords": (
        SIGNATURE,
        SIGNATURE.replace("):", "    **ignored,\n):"),
        "None,\n    {MARK}\n    infer_steps: int = 8,\n    is_turbo: bool = True,\n    **ignored,\n):\n",
    ),
    "keywords on lines of their own": (
        CALL,
        "    levels = get_timestep_schedule(\n        shift=shift,\n        timesteps=timesteps,\n    )\n",
        "        timesteps=timesteps,\n        {MARK}\n        infer_steps=infer_steps,\n"
        "        is_turbo=is_turbo,\n    )\n",
    ),
    "in an if expression": (
        CALL,
        "    levels = get_timestep_schedule(shift) if timesteps is None else list(timesteps)\n",
        "    levels = get_timestep_schedule(\n        {MARK}, was: (shift)\n        shift,\n"
        "        infer_steps=infer_steps,\n        is_turbo=is_turbo,\n    ) if timesteps is None",
    ),
    "in a lambda": (
        CALL,
        "    levels = (lambda: get_timestep_schedule(shift, timesteps))()\n",
        "(lambda: get_timestep_schedule(\n        {MARK}, was: (shift, timesteps)\n",
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_lists_keep_their_form_or_get_one_item_a_line(old: str, new: str, expected: str) -> None:
    after = check_applied(PATCH, edit(BEFORE, (old, new)))
    assert expected.replace("{MARK}", MARK) in without_numbers(after)


def test_both_calls_in_two_branches_are_edited() -> None:
    text = edit(BEFORE, (CALL, f"    if timesteps is None:\n    {CALL}    else:\n    {CALL}"))
    after = without_numbers(check_applied(PATCH, text))
    assert after.count(f"{MARK}, was: (shift, timesteps)") == 2


@pytest.mark.parametrize("unit", ["\t", "  "], ids=["tabs", "two-spaces"])
def test_block_is_indented_as_the_file_is(unit: str) -> None:
    lines = BEFORE.split("\n")
    levels = [(len(line) - len(line.lstrip())) // 4 for line in lines]
    text = "\n".join(unit * n + line.lstrip() for n, line in zip(levels, lines, strict=True))
    after = changed(text, check_applied(PATCH, text))
    assert f"+{unit}{MARK}{BLOCK[0]}" in after
    if unit == "\t":
        assert set(block(unit)) <= set(after)


def test_keyword_only_marker_is_no_other_schedule() -> None:
    signature = SIGNATURE.replace("    timesteps", "    *,\n    timesteps")
    text = edit(BEFORE, (SIGNATURE, signature), (CALL, CALL.replace(", timesteps", ", timesteps=timesteps")))
    assert changed(text, check_applied(PATCH, text))[:3] == PARAMETERS


def test_where_upstream_passes_the_steps_the_block_and_the_kind_are_added() -> None:
    kind = PARAMETERS[::2]
    was = "(shift, timesteps, infer_steps=infer_steps)"
    expected = call("shift", "timesteps", "infer_steps=infer_steps", "is_turbo=is_turbo", was=was)
    text = FIXED.generate
    assert changed(text, check_applied(PATCH, text)) == [*kind, *block(), *kind, *expected]


def test_steps_passed_by_position_are_not_passed_twice() -> None:
    text = edit(FIXED.generate, ("timesteps, infer_steps=infer_steps)", "timesteps, infer_steps)"))
    assert "        infer_steps,\n        is_turbo=is_turbo,\n    )\n" in check_applied(PATCH, text)


def test_steps_as_a_parameter_that_is_not_forwarded_are_forwarded() -> None:
    text = edit(
        BEFORE,
        (SIGNATURE, SIGNATURE.replace("):", "    infer_steps=None,\n):")),
        ("    compile_model: bool = False,\n", "    compile_model: bool = False,\n    infer_steps=None,\n"),
    )
    lines = changed(text, check_applied(PATCH, text))
    assert lines.count(f"+    {STEPS},") == 0
    assert lines[-len(WHOLE_CALL) :] == WHOLE_CALL


@pytest.mark.parametrize(
    ("comment", "line"), [(b"# \x97 here\n", 0), (b"# \x97 here\n", 12)], ids=["first-line", "in-the-middle"]
)
def test_byte_that_is_not_utf_8_in_a_comment_is_kept(comment: bytes, line: int) -> None:
    lines = BEFORE.encode().splitlines(keepends=True)
    lines.insert(line, comment)
    text = b"".join(lines)
    try:
        compile(text, "file.py", "exec")
    except SyntaxError:
        pytest.skip("this Python does not compile such a file either")
    assert b"\x97 here" in check_applied(PATCH, text).encode("utf-8", "surrogateescape")


OWN_SCHEDULE = """
def get_timestep_schedule(shift=3.0, timesteps=None, *, is_turbo=True, infer_steps=8):
    if is_turbo:
        return TABLES[min(TABLES, key=lambda s: abs(s - shift))]
    return [1 - i / infer_steps for i in range(infer_steps)]


def mlx_generate_diffusion("""


def test_schedule_that_takes_a_kind_of_its_own_is_other_code() -> None:
    head, rest = BEFORE.split("def get_timestep_schedule(")
    text = head + OWN_SCHEDULE + rest.split("def mlx_generate_diffusion(")[1]
    assert check_left(PATCH, text) == (
        "other code",
        "get_timestep_schedule takes an is_turbo of its own",
    )


FURTHER = SIGNATURE.replace(
    "):\n" + DOCSTRING,
    '    infer_steps: Optional[int] = None,\n    scheduler: str = "linear",\n):\n' + DOCSTRING,
)
FURTHER_CALL = CALL.replace("timesteps)", "timesteps, infer_steps=infer_steps, scheduler=scheduler)")
GENERATE_TAKES = (
    "    compile_model: bool = False,\n):",
    "    compile_model: bool = False,\n    infer_steps=None,\n    scheduler=None,\n):",
)
CUSTOM, TABLE = BEFORE[BEFORE.index(DOCSTRING) :].split("\n\n\n")[0].removeprefix(DOCSTRING).rsplit("\n", 1)
OWN_STEPS = "    if infer_steps is not None:\n        return SCHEDULERS[scheduler](infer_steps, shift)\n"
LATER = CUSTOM.replace("return [min", "levels = [min")


def with_scheduler(own_code: str) -> str:
    """The module with a schedule of this code, which takes the steps and a scheduler."""
    return edit(
        BEFORE, (SIGNATURE, FURTHER), (f"{CUSTOM}\n{TABLE}", own_code), (CALL, FURTHER_CALL), GENERATE_TAKES
    )


CUSTOM_FIRST = {
    "custom timesteps are returned": f"{CUSTOM}\n{OWN_STEPS}{TABLE}",
    "only without timesteps": OWN_STEPS.replace("if ", "if timesteps is None and ") + f"{CUSTOM}\n{TABLE}",
    "elif": f"{CUSTOM}\n{OWN_STEPS.replace('if ', 'elif ')}{TABLE}",
    "if without, else with": OWN_STEPS.replace("if ", "if timesteps is None and ")
    + f"    else:\n        shift = abs(shift)\n{CUSTOM}\n{TABLE}",
    "only where none were made": "    levels = None\n"
    + LATER
    + "\n"
    + OWN_STEPS.replace("if ", "if levels is None and ")
    + f"{TABLE}",
}


@pytest.mark.parametrize("own_code", CUSTOM_FIRST.values(), ids=CUSTOM_FIRST)
def test_schedule_with_a_scheduler_gets_the_custom_timesteps_alone(own_code: str) -> None:
    text = with_scheduler(own_code)
    missing = PATCH.status(source_of(text))
    assert (
        missing.detail == "get_timestep_schedule takes no is_turbo; the steps are left to its own scheduler"
    )
    added = [line[1:].strip() for line in changed(text, check_applied(PATCH, text)) if line[0] == "+"]
    block = [line.strip() for line in CUSTOM_BLOCK[1:]]
    start = added.index(block[0])
    assert added[start - 1 : start + len(block)] == [MARK + CUSTOM_BLOCK[0], *block]
    assert not any("infer_steps < 1" in line for line in added)
    assert added.count(f"{KIND},") == 2
    assert not any("infer_steps:" in line for line in added)


READ_BEFORE = {
    "read in front": f"    shift = SHIFTS.get(scheduler, shift)\n{CUSTOM}\n{TABLE}",
    "with or without timesteps": f"{OWN_STEPS}{CUSTOM}\n{TABLE}",
    "in the branch itself": CUSTOM.replace("[:20]", "[: LIMITS[scheduler]]") + f"\n{TABLE}",
    "in an else": OWN_STEPS.replace("if ", "if timesteps is None and ")
    + f"    else:\n        shift = SHIFTS[scheduler]\n{CUSTOM}\n{TABLE}",
    "where another value is missing": "    levels = shift\n"
    + LATER
    + "\n"
    + OWN_STEPS.replace("if ", "if shift is None and ")
    + f"{TABLE}",
    "either": OWN_STEPS.replace("if ", "if timesteps is None or ") + f"{CUSTOM}\n{TABLE}",
}


@pytest.mark.parametrize("own_code", READ_BEFORE.values(), ids=READ_BEFORE)
def test_scheduler_that_custom_timesteps_would_switch_off_is_refused(own_code: str) -> None:
    assert check_refused(PATCH, with_scheduler(own_code)) == (
        "get_timestep_schedule also takes scheduler and reads it where timesteps may be given, so that custom "
        "timesteps in front would switch it off; verify shows what its own code does with the steps"
    )


REFUSED = {
    "scheduler": (
        [(SIGNATURE, SIGNATURE.replace("):", '    scheduler: str = "linear",\n):'))],
        'get_timestep_schedule also takes scheduler: str = "linear", which a branch for base models would switch off',
    ),
    "noise schedule": (
        [(SIGNATURE, SIGNATURE.replace("):", "    *,\n    noise_schedule=None,\n):"))],
        "get_timestep_schedule also takes noise_schedule=None, which a branch for base models would switch off",
    ),
    "renamed parameter": (
        [(SIGNATURE, SIGNATURE.replace("timesteps:", "levels:"))],
        "get_timestep_schedule also takes levels: Optional[list] = None, which a branch for base models would switch "
        "off",
    ),
    "no timesteps": (
        [(SIGNATURE, SIGNATURE.replace("    timesteps: Optional[list] = None,\n", ""))],
        "get_timestep_schedule has no parameter timesteps",
    ),
    "schedule renamed": (
        [("def get_timestep_schedule(", "def get_schedule(")],
        "expected one definition of get_timestep_schedule, found none",
    ),
    "schedule imported": (
        [
            ("def get_timestep_schedule(", "def unused("),
            ("import numpy", "from ..schedules import get_timestep_schedule\nimport numpy"),
        ],
        "expected one definition of get_timestep_schedule, found none",
    ),
    "two schedules": (
        [("\n\ndef mlx_", "\n\ndef get_timestep_schedule(shift, timesteps):\n    return []\n\n\ndef mlx_")],
        "expected one definition of get_timestep_schedule, found 2",
    ),
    "schedule not called": (
        [(CALL, "    levels = [1.0, 0.9, 0.8]\n")],
        "mlx_generate_diffusion does not call get_timestep_schedule",
    ),
    "starred call": (
        [(CALL, "    levels = get_timestep_schedule(*[shift, timesteps])\n")],
        "a call of get_timestep_schedule passes *[shift, timesteps], which may hold the steps",
    ),
    "a name of the block read from the module": (
        [("        asked = [t", "        print(bounds)\n        asked = [t")],
        "get_timestep_schedule or its module uses bounds for something else",
    ),
    "a builtin assigned": (
        [("import numpy as np\n", "import numpy as np\n\nzip = None\n")],
        "get_timestep_schedule or its module uses zip for something else",
    ),
    "a builtin imported over": (
        [("import numpy as np\n", "import numpy as np\nimport itertools as hasattr\n")],
        "get_timestep_schedule or its module uses hasattr for something else",
    ),
    "a builtin defined": (
        [("import numpy as np\n", "import numpy as np\n\n\ndef float(x):\n    return 1.0\n")],
        "get_timestep_schedule or its module uses float for something else",
    ),
    "numpy under another name": (
        [("import numpy as np\n", "import numpy\n\nnp = None\n")],
        "numpy is not imported as np at the top of the module",
    ),
    "body on the line of the def": (
        [
            (
                "def get_timestep_schedule(",
                "def get_timestep_schedule(shift=3.0, timesteps=None): return TABLES[shift]\n\n\ndef unused(",
            )
        ],
        "the body of get_timestep_schedule does not begin on a line of its own",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_near_misses_are_refused(changes: list[tuple[str, str]], reason: str) -> None:
    assert check_refused(PATCH, edit(BEFORE, *changes)) == reason


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("1 - step * i", "1 - i / n", id="line-of-the-block"),
        pytest.param("custom.pop()\n", "custom.pop()\n\n", id="blank-line-in-the-block"),
        pytest.param(f"    {STEPS},\n    {KIND},\n", f"    {KIND},\n    {STEPS},\n", id="order"),
        pytest.param(f"    {KIND},\n", "    is_turbo: bool = False,\n", id="default"),
        pytest.param(
            f"    {MARK} 2 of 4" + "\n".join(block())[len(MARK) + 5 :].replace("\n+", "\n") + "\n",
            "",
            id="block-removed",
        ),
        pytest.param(f"    {MARK} 3 of 4\n", "", id="mark-removed"),
        pytest.param("was: (shift, timesteps)", "was: (timesteps, shift)", id="what-was-there"),
    ],
)
def test_edited_patch_is_a_conflict_that_is_not_reverted(old: str, new: str) -> None:
    edited = edit_patched(PATCH, BEFORE, lambda text: text.replace(old, new))
    assert "was edited after `apply`" in check_refused(PATCH, edited.data)


def test_edits_elsewhere_in_the_file_stay() -> None:
    edited = edit_patched(
        PATCH, BEFORE, lambda text: text.replace("import numpy", "import math\nimport numpy")
    )
    assert PATCH.revert(edited).text == BEFORE.replace("import numpy", "import math\nimport numpy")
