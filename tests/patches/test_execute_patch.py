"""Patch 1 on the many shapes of one call, near misses included."""

import pytest

from patches.judge import Honoured
from patches.outcomes import Role
from patches.plan import make_plan
from tests.patches.contract import (
    changed,
    check_applied,
    check_refused,
    check_transformed,
    not_applied,
    sources,
)
from tests.patches.mini_checkout import BEFORE, PATCHED, STEPS_IN_EXECUTE, MiniCheckout

TIMESTEPS = 'timesteps=generate_kwargs.get("timesteps"),'
STEPS = 'infer_steps=generate_kwargs.get("infer_steps", 8)'
CALL = BEFORE.execute[BEFORE.execute.index("self._mlx_run") : BEFORE.execute.index("            except Ex")]
ONE_LINE = (
    "self._mlx_run_diffusion(states, mask, context, payload['src_latents'], seed_param, infer_method, shift, "
    "generate_kwargs.get('timesteps'))\n"
)


def rest_of_call(*lines: str) -> tuple[str, str]:
    """Puts other last lines into the call, from its timesteps on."""
    old = CALL[CALL.index(TIMESTEPS) :]
    return old, "\n                    ".join(lines)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param((TIMESTEPS, TIMESTEPS), [f"+                    {STEPS},"], id="a-keyword-a-line"),
        pytest.param(
            (TIMESTEPS, f"{TIMESTEPS}  # a tensor, or None"),
            [f"+                    {STEPS},"],
            id="comment-behind-the-neighbour",
        ),
        pytest.param(
            (
                TIMESTEPS,
                'timesteps=generate_kwargs["timesteps"] if "timesteps" in generate_kwargs else None,',
            ),
            [f"+                    {STEPS},"],
            id="timesteps-by-condition-so-the-dict-is-the-one-that-pytorch-gets",
        ),
        pytest.param(
            rest_of_call('timesteps=generate_kwargs.get("timesteps")', ")\n"),
            [
                '-                    timesteps=generate_kwargs.get("timesteps")',
                '+                    timesteps=generate_kwargs.get("timesteps"),',
                f"+                    {STEPS}",
            ],
            id="no-trailing-comma",
        ),
        pytest.param(
            rest_of_call('timesteps=generate_kwargs.get("timesteps"))\n'),
            [
                '-                    timesteps=generate_kwargs.get("timesteps"))',
                '+                    timesteps=generate_kwargs.get("timesteps"),',
                f"+                    {STEPS})",
            ],
            id="bracket-on-the-last-line",
        ),
        pytest.param(
            rest_of_call(f"{TIMESTEPS} audio_cover_strength=audio_cover_strength,", ")\n"),
            [
                f"-                    {TIMESTEPS} audio_cover_strength=audio_cover_strength,",
                f"+                    {TIMESTEPS} {STEPS}, audio_cover_strength=audio_cover_strength,",
            ],
            id="two-keywords-on-a-line",
        ),
        pytest.param(
            (CALL, ONE_LINE),
            [
                "-                outputs = " + ONE_LINE.rstrip(),
                "+                outputs = " + ONE_LINE.rstrip()[:-1] + f", {STEPS})",
            ],
            id="positional-on-one-line",
        ),
    ],
)
def test_the_keyword_goes_in_as_the_call_is_formatted(change: tuple[str, str], expected: list[str]) -> None:
    plan = check_transformed(BEFORE.edited("execute", change))
    assert changed(plan, Role.EXECUTE) == expected


@pytest.mark.parametrize("name", ["kw", "self.request", "model_kwargs"])
def test_the_dict_may_have_any_name(name: str) -> None:
    text = BEFORE.execute.replace("generate_kwargs.get", f"{name}.get").replace(
        "**generate_kwargs", f"**{name}"
    )
    plan = check_transformed(MiniCheckout(text, BEFORE.diffusion, BEFORE.generate))
    assert changed(plan, Role.EXECUTE) == [f'+                    infer_steps={name}.get("infer_steps", 8),']


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(STEPS, "infer_steps=generate_kwargs['infer_steps']", id="subscript"),
        pytest.param(STEPS, 'infer_steps=int(generate_kwargs.get("infer_steps") or 8)', id="wrapped"),
        pytest.param(STEPS, 'infer_steps=max(1, generate_kwargs.get("infer_steps", 8))', id="at-least-one"),
        pytest.param(
            f"{STEPS},", '**dict(infer_steps=generate_kwargs.get("infer_steps")),', id="dict-built-here"
        ),
    ],
)
def test_steps_passed_in_a_way_of_its_own_are_applied(old: str, new: str) -> None:
    check_applied(PATCHED.edited("execute", (old, new)))


def test_steps_passed_through_a_local_variable_are_applied() -> None:
    check_applied(
        PATCHED.edited(
            "execute",
            (STEPS, "infer_steps=wanted"),
            (
                "            try:\n",
                "            wanted = generate_kwargs.get('infer_steps')\n            try:\n",
            ),
        )
    )


def test_steps_passed_by_a_helper_method_are_applied() -> None:
    check_applied(
        PATCHED.edited(
            "execute",
            (STEPS, "infer_steps=self._steps(generate_kwargs)"),
            (
                "    def _build",
                "    def _steps(self, request):\n        return request['infer_steps']\n\n    def _build",
            ),
        )
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            (TIMESTEPS, f"{TIMESTEPS} infer_steps=30,"),
            "the call of _mlx_run_diffusion passes infer_steps=30, which is not what was asked for",
            id="a-number-of-its-own",
        ),
        pytest.param(
            (TIMESTEPS, f"{TIMESTEPS} infer_steps=min(generate_kwargs['infer_steps'], 20),"),
            "the call of _mlx_run_diffusion passes infer_steps=min(generate_kwargs['infer_steps'], 20), "
            "which is not what was asked for",
            id="cut-to-20",
        ),
        pytest.param(
            (TIMESTEPS, f"{TIMESTEPS} **self.further,"),
            "the call of _mlx_run_diffusion passes **keywords that may hold infer_steps",
            id="unknown-keywords",
        ),
        pytest.param(
            ("self._mlx_run_diffusion(", "self._run_on_mlx("),
            "expected one call of _mlx_run_diffusion, found none",
            id="renamed",
        ),
        pytest.param(
            (
                "                outputs = self._mlx",
                "                self._mlx_run_diffusion()\n                outputs = self._mlx",
            ),
            "expected one call of _mlx_run_diffusion, found 2",
            id="called-twice",
        ),
    ],
)
def test_what_is_ambiguous_is_left_alone_with_the_reason(change: tuple[str, str], reason: str) -> None:
    assert check_refused(BEFORE.edited("execute", change))["execute"] == reason


def test_a_request_that_holds_no_steps_has_none_to_pass() -> None:
    renamed = BEFORE.edited("execute", ("built.update(infer_steps=", "built.update(num_steps="))
    assert check_refused(renamed) == {
        "execute": "the request that _build_service_generate_kwargs makes holds no infer_steps"
    }
    patched = PATCHED.edited("execute", ("built.update(infer_steps=", "built.update(num_steps="))
    assert "execute" in not_applied(make_plan(sources(patched)))


def test_without_a_dict_of_the_request_there_is_nothing_to_read_the_steps_from() -> None:
    text = BEFORE.execute.replace("**generate_kwargs", "generate_kwargs").replace(
        TIMESTEPS, "timesteps=None,"
    )
    assert check_refused(MiniCheckout(text, BEFORE.diffusion, BEFORE.generate)) == {
        "execute": "expected one dict that holds the request, found none"
    }


def test_where_no_timesteps_are_passed_the_steps_are_still_threaded_and_the_rest_is_told() -> None:
    plan = make_plan(sources(BEFORE.edited("execute", (TIMESTEPS, ""))))
    assert changed(plan, Role.EXECUTE) == [f"+                    {STEPS},"]
    assert make_plan(plan.after).honoured == Honoured(steps=True, timesteps=False)


def test_a_dict_of_another_function_is_not_taken() -> None:
    text = BEFORE.execute.replace(TIMESTEPS, "timesteps=None,").replace(
        "**generate_kwargs", "audio=generate_kwargs"
    )
    elsewhere = "\n    def _without_mlx(self, other):\n        return self.model.generate_audio(**other)\n"
    assert check_refused(MiniCheckout(text + elsewhere, BEFORE.diffusion, BEFORE.generate)) == {
        "execute": "expected one dict that holds the request, found none"
    }


def test_of_two_dicts_none_is_chosen() -> None:
    text = BEFORE.execute.replace(TIMESTEPS, "timesteps=None,").replace("**generate_kwargs", "**other", 1)
    assert check_refused(MiniCheckout(text, BEFORE.diffusion, BEFORE.generate)) == {
        "execute": "expected one dict that holds the request, found generate_kwargs and other"
    }


def test_patch_one_is_the_only_change_to_its_file() -> None:
    assert check_transformed(BEFORE).after[Role.EXECUTE].text == PATCHED.execute
    assert STEPS_IN_EXECUTE[1] in PATCHED.execute
