"""The patch `execute` on the many forms of one call, near misses included."""

import pytest

from patches.steps.execute import PATCH
from tests.patches.contract import changed, check_applied, check_left, check_refused
from tests.patches.mini_checkout import EXECUTE as BEFORE
from tests.patches.mini_checkout import edit

MARK = "# LEGO patch (execute)"
TIMESTEPS = 'timesteps=generate_kwargs.get("timesteps"),'
STEPS = 'infer_steps=generate_kwargs.get("infer_steps", 8)'
CALL = BEFORE[BEFORE.index("self._mlx_run") : BEFORE.index("            except Ex")]
INDENT = " " * 20
NEW = [f"+{INDENT}{MARK}", f"+{INDENT}{STEPS},"]
WAS = "(states, mask, generate_kwargs.get('timesteps'))"
ONE_LINE = f"self._mlx_run_diffusion{WAS}\n"


def rest_of_call(*lines: str) -> tuple[str, str]:
    """Puts other last lines into the call, from its timesteps on."""
    return CALL[CALL.index(TIMESTEPS) :], f"\n{INDENT}".join(lines)


def one_a_line(was: str, *items: str) -> list[str]:
    return [f"+{INDENT}{line}" for line in (f"{MARK}, was: {was}", *(f"{item}," for item in items))]


APPLIED = {
    "a keyword a line": ((TIMESTEPS, TIMESTEPS), NEW),
    "comment behind the neighbour": ((TIMESTEPS, f"{TIMESTEPS}  # a tensor, or None"), NEW),
    "timesteps by condition, so the dict is the one that PyTorch gets": (
        (TIMESTEPS, 'timesteps=generate_kwargs["timesteps"] if "timesteps" in generate_kwargs else None,'),
        NEW,
    ),
    "timesteps by subscript": ((TIMESTEPS, 'timesteps=generate_kwargs["timesteps"],'), NEW),
    "no timesteps at all": ((f"{INDENT}{TIMESTEPS}\n", ""), NEW),
    "no trailing comma": (
        rest_of_call(TIMESTEPS[:-1], ")\n"),
        [
            f"-{INDENT}{TIMESTEPS[:-1]}",
            f"+{INDENT}{TIMESTEPS}",
            f"+{INDENT}{MARK}, comma added",
            f"+{INDENT}{STEPS}",
        ],
    ),
    "bracket on the last line": (
        rest_of_call(f"{TIMESTEPS[:-1]})\n"),
        [
            f"-{INDENT}{TIMESTEPS[:-1]})",
            f"+{INDENT}{TIMESTEPS}",
            f"+{INDENT}{MARK}, comma added",
            f"+{INDENT}{STEPS})",
        ],
    ),
}


@pytest.mark.parametrize(("change", "expected"), APPLIED.values(), ids=APPLIED)
def test_keyword_stands_behind_the_timesteps(change: tuple[str, str], expected: list[str]) -> None:
    text = edit(BEFORE, change)
    assert changed(text, check_applied(PATCH, text)) == expected


def test_call_on_one_line_gets_one_argument_a_line() -> None:
    text = edit(BEFORE, (CALL, ONE_LINE))
    after = check_applied(PATCH, text)
    assert changed(text, after) == [
        f"-                outputs = {ONE_LINE.rstrip()}",
        "+                outputs = self._mlx_run_diffusion(",
        *one_a_line(WAS, "states", "mask", "generate_kwargs.get('timesteps')", STEPS),
        "+                )",
    ]


def test_two_keywords_on_a_line_get_one_line_each() -> None:
    text = edit(BEFORE, rest_of_call(f"{TIMESTEPS} audio_cover_strength=audio_cover_strength,", ")\n"))
    assert f"{INDENT}{STEPS},\n{INDENT}audio_cover_strength" in check_applied(PATCH, text)


@pytest.mark.parametrize("name", ["kw", "self.request", "model_kwargs"])
def test_dict_may_have_any_name(name: str) -> None:
    text = BEFORE.replace("generate_kwargs.get", f"{name}.get").replace("**generate_kwargs", f"**{name}")
    assert f'infer_steps={name}.get("infer_steps", 8),' in check_applied(PATCH, text)


def test_upstreams_own_fix_needs_nothing() -> None:
    text = edit(BEFORE, (TIMESTEPS, f'{TIMESTEPS} infer_steps=generate_kwargs.get("infer_steps"),'))
    assert check_left(PATCH, text) == ("upstream's fix", "the call passes infer_steps")


OTHER_CODE = {
    "the patch's own line without its mark": STEPS,
    "subscript": "infer_steps=generate_kwargs['infer_steps']",
    "wrapped": 'infer_steps=int(generate_kwargs.get("infer_steps") or 8)',
    "at most 20": "infer_steps=min(generate_kwargs['infer_steps'], 20)",
    "another dict": 'infer_steps=settings.get("infer_steps")',
    "a number": "infer_steps=30",
    "a local name": "infer_steps=wanted",
}


@pytest.mark.parametrize("argument", OTHER_CODE.values(), ids=OTHER_CODE)
def test_steps_passed_in_another_form_are_other_code(argument: str) -> None:
    word, detail = check_left(PATCH, edit(BEFORE, (TIMESTEPS, f"{TIMESTEPS} {argument},")))
    assert (word, detail) == ("other code", f"the call of _mlx_run_diffusion passes {argument}")


@pytest.mark.parametrize("argument", ["**self.further", "**dict(infer_steps=8)", "*more"])
def test_unpacked_arguments_may_hold_the_steps(argument: str) -> None:
    word, detail = check_left(PATCH, edit(BEFORE, ("encoder_hidden_states=states,", f"{argument},")))
    assert (word, detail) == (
        "other code",
        f"the call of _mlx_run_diffusion passes {argument}, which may hold infer_steps",
    )


LOCAL = (
    "outputs = self._mlx_run_diffusion(",
    "run = self._mlx_run_diffusion\n                outputs = run(",
)


def test_call_by_a_local_name_is_the_call() -> None:
    text = edit(BEFORE, LOCAL)
    assert changed(text, check_applied(PATCH, text)) == NEW


def test_further_keywords_from_a_dict_of_the_function_do_not_hold_the_steps() -> None:
    call = "outputs = self._mlx_run"
    options = (call, f"options = dict(audio_cover_strength=0.5)\n                {call}")
    cover = "audio_cover_strength=audio_cover_strength,"
    text = edit(BEFORE, options, (f"{INDENT}{cover}", f"{INDENT}**options,"))
    assert changed(text, check_applied(PATCH, text)) == NEW


REFUSED = {
    "passed on under a local name": (
        [
            LOCAL,
            ("                outputs = run(", "                log(run)\n                outputs = run("),
        ],
        "expected one call of _mlx_run_diffusion, found none",
    ),
    "a local name that is bound twice": (
        [
            LOCAL,
            (
                "                outputs = run(",
                "                run = self.wrap\n                outputs = run(",
            ),
        ],
        "expected one call of _mlx_run_diffusion, found none",
    ),
    "a local name by condition": (
        [
            (
                "outputs = self._mlx_run_diffusion(",
                "run = self._mlx_run_diffusion or None\n                outputs = run(",
            )
        ],
        "expected one call of _mlx_run_diffusion, found none",
    ),
    "call renamed": (
        [("self._mlx_run_diffusion(", "self._run_on_mlx(")],
        "expected one call of _mlx_run_diffusion, found none",
    ),
    "called twice": (
        [
            (
                "                outputs = self._mlx",
                "                self._mlx_run_diffusion()\n                outputs = self._mlx",
            )
        ],
        "expected one call of _mlx_run_diffusion, found 2",
    ),
    "no dict": (
        [
            (
                "                return self.model.generate_audio(**generate_kwargs)",
                "                return self.model.generate_audio(generate_kwargs)",
            ),
            (TIMESTEPS, "timesteps=None,"),
            (
                "outputs = self.model.generate_audio(**generate_kwargs)",
                "outputs = self.model.generate_audio(generate_kwargs)",
            ),
        ],
        "expected one dict that holds the request, found none",
    ),
    "two dicts": (
        [
            (TIMESTEPS, "timesteps=None,"),
            (
                "return self.model.generate_audio(**generate_kwargs)",
                "return self.model.generate_audio(**other)",
            ),
        ],
        "expected one dict that holds the request, found generate_kwargs and other",
    ),
    "comments in a call that has to be written anew": (
        [
            (
                CALL,
                "self._mlx_run_diffusion(states,  # both\n"
                f"{INDENT}mask, timesteps=generate_kwargs.get('timesteps'))\n",
            )
        ],
        "the list of items holds comments in a form that cannot be edited safely",
    ),
}


@pytest.mark.parametrize(("changes", "reason"), REFUSED.values(), ids=REFUSED)
def test_near_misses_are_refused(changes: list[tuple[str, str]], reason: str) -> None:
    text = BEFORE
    for change in changes:
        text = edit(text, change)
    assert check_refused(PATCH, text) == reason


def test_dict_of_another_function_is_not_taken() -> None:
    text = BEFORE.replace(TIMESTEPS, "timesteps=None,").replace("**generate_kwargs", "audio=generate_kwargs")
    elsewhere = "\n    def _without_mlx(self, other):\n        return self.model.generate_audio(**other)\n"
    assert check_refused(PATCH, text + elsewhere) == "expected one dict that holds the request, found none"
