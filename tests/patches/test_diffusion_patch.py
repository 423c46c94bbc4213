"""Patch 2 on the many shapes of one method, near misses included."""

import pytest

from patches.outcomes import Role
from tests.patches.contract import (
    UPSTREAM,
    changed,
    check_applied,
    check_refused,
    check_transformed,
    not_applied,
)
from tests.patches.mini_checkout import BEFORE, COMPILE_LINE, KIND, PATCHED, MiniCheckout

IMPORT = "from acestep.models.mlx.dit_generate import mlx_generate_diffusion\n"
LAST = "        audio_cover_strength: float = 1.0,\n    ):"
PARAMETER, FORWARD = "infer_steps: int = 8", "infer_steps=infer_steps"
TURBO = f"is_turbo={KIND}"
WHOLE = [f"+        {PARAMETER},", f"+            {FORWARD},", f"+            {TURBO},"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([], WHOLE, id="as-upstream-has-it"),
        pytest.param(
            [(LAST, "        audio_cover_strength: float = 1.0\n    ):")],
            [
                "-        audio_cover_strength: float = 1.0",
                "+        audio_cover_strength: float = 1.0,",
                f"+        {PARAMETER}",
                *WHOLE[1:],
            ],
            id="signature-without-trailing-comma",
        ),
        pytest.param(
            [(LAST, LAST.replace("    ):", "        **unused,\n    ):"))],
            WHOLE,
            id="before-the-further-keywords",
        ),
        pytest.param(
            [(LAST, LAST.replace("    ):", "        *unused,\n    ):"))], WHOLE, id="behind-star-args"
        ),
        pytest.param([("        seed,\n", "        seed,\n        *,\n")], WHOLE, id="keyword-only"),
        pytest.param(
            [(COMPILE_LINE, COMPILE_LINE.replace("),\n", "),  # set at load\n"))],
            WHOLE,
            id="comment-behind-the-last-keyword",
        ),
        pytest.param(
            [(IMPORT, ""), ("        done =", f"        {IMPORT}\n        done =")],
            WHOLE,
            id="imported-in-the-method",
        ),
        pytest.param(
            [(IMPORT, f"try:\n    {IMPORT}except ImportError:\n    mlx_generate_diffusion = None\n")],
            WHOLE,
            id="import-guarded",
        ),
        pytest.param(
            [
                (IMPORT, IMPORT.replace("\n", " as walk\n")),
                ("done = mlx_generate_diffusion(", "done = walk("),
            ],
            WHOLE,
            id="imported-under-another-name",
        ),
        pytest.param(
            [
                (IMPORT, "from acestep.models.mlx import dit_generate\n"),
                ("done = mlx_", "done = dit_generate.mlx_"),
            ],
            WHOLE,
            id="called-through-the-module",
        ),
        pytest.param([("    def _mlx", "    @torch.no_grad()\n    def _mlx")], WHOLE, id="decorated"),
        pytest.param(
            [
                ("    ):\n", "    ) -> dict[str, object]:\n"),
                ("        seed,\n", "        seed: int | list[int] | None,\n"),
            ],
            WHOLE,
            id="typed",
        ),
        pytest.param(
            [("        done = mlx", "        print('asked', shift, timesteps)\n        done = mlx")],
            WHOLE,
            id="debug-prints",
        ),
    ],
)
def test_steps_and_kind_are_threaded(changes: list[tuple[str, str]], expected: list[str]) -> None:
    plan = check_transformed(BEFORE.edited("diffusion", *changes))
    assert changed(plan, Role.DIFFUSION) == expected


def test_a_signature_and_a_call_on_one_line_stay_on_one_line() -> None:
    before = (
        "class DiffusionMixin:\n"
        "    def _mlx_run_diffusion(self, src_latents, seed, shift=3.0, timesteps=None, **rest):\n"
        "        return mlx_generate_diffusion(self.mlx_decoder, shift=shift, timesteps=timesteps)\n"
    )
    after = before.replace("None, **rest", f"None, {PARAMETER}, **rest").replace(
        "=timesteps)", f"=timesteps, {FORWARD}, {TURBO})"
    )
    plan = check_transformed(MiniCheckout(BEFORE.execute, before, BEFORE.generate))
    assert plan.after[Role.DIFFUSION].text == after


def test_where_the_steps_arrive_already_only_the_kind_is_added() -> None:
    plan = check_transformed(UPSTREAM)
    assert not_applied(plan)["diffusion"] == "does not forward the model kind"
    assert changed(plan, Role.DIFFUSION) == [f"+            {TURBO},"]
    assert changed(plan, Role.EXECUTE) == []


@pytest.mark.parametrize(
    "kind",
    [
        "bool(self.config.is_turbo)",
        "self.is_turbo_model()",
        'self.config.get("is_turbo", False)',
        "getattr(getattr(self, 'config', None), 'is_turbo', False)",
        "self.config.is_turbo if self.config is not None else True",
    ],
)
def test_the_kind_told_in_another_way_is_applied(kind: str) -> None:
    check_applied(PATCHED.edited("diffusion", (TURBO, f"is_turbo={kind}")))


def test_the_kind_told_the_other_way_round_is_applied() -> None:
    generate = PATCHED.generate.replace("is_turbo: bool = True", "is_base: bool = False")
    generate = generate.replace("is_turbo=is_turbo", "is_base=is_base").replace("not is_turbo", "is_base")
    diffusion = PATCHED.diffusion.replace(TURBO, "is_base=not self.config.is_turbo")
    check_applied(MiniCheckout(PATCHED.execute, diffusion, generate))


def test_both_values_handed_on_from_execute_under_names_of_their_own_are_applied() -> None:
    execute = PATCHED.execute.replace("infer_steps=generate", "turbo=self.config.is_turbo, steps=generate")
    diffusion = PATCHED.diffusion.replace(PARAMETER, "steps=None,\n        turbo=True")
    diffusion = diffusion.replace(FORWARD, "infer_steps=steps").replace(TURBO, "is_turbo=turbo")
    check_applied(MiniCheckout(execute, diffusion, PATCHED.generate))


def test_keywords_handed_on_as_they_come_are_followed() -> None:
    diffusion = PATCHED.diffusion.replace(PARAMETER + ",", "**further").replace(FORWARD, "**further")
    check_applied(MiniCheckout(PATCHED.execute, diffusion, PATCHED.generate))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.dcw_for_turbo,\n"),
            "the call of mlx_generate_diffusion passes is_turbo=self.dcw_for_turbo, which means something else",
            id="is-turbo-of-another-meaning",
        ),
        pytest.param(
            (COMPILE_LINE, f"{COMPILE_LINE}            infer_steps=8,\n"),
            "the call of mlx_generate_diffusion passes infer_steps=8, which means something else",
            id="steps-of-its-own",
        ),
        pytest.param(
            (COMPILE_LINE, f"{COMPILE_LINE}            **self.mlx_options,\n"),
            "the call of mlx_generate_diffusion passes **keywords that may hold infer_steps",
            id="unknown-keywords",
        ),
        pytest.param(
            ("done = mlx_generate_diffusion(", "done = generate_on_mlx("),
            "expected one call of mlx_generate_diffusion in _mlx_run_diffusion, found none",
            id="call-renamed",
        ),
        pytest.param(
            ("        done = mlx", "        mlx_generate_diffusion(None)\n        done = mlx"),
            "expected one call of mlx_generate_diffusion in _mlx_run_diffusion, found 2",
            id="called-twice",
        ),
        pytest.param(
            ("def _mlx_run_diffusion(", "def _run_on_mlx("),
            "expected one _mlx_run_diffusion, found none",
            id="method-renamed",
        ),
        pytest.param(
            (
                "class DiffusionMixin:\n",
                "class Old:\n    def _mlx_run_diffusion(self): pass\n\n\nclass DiffusionMixin:\n",
            ),
            "expected one _mlx_run_diffusion, found 2",
            id="two-of-one-name",
        ),
    ],
)
def test_what_is_ambiguous_is_left_alone_with_the_reason(change: tuple[str, str], reason: str) -> None:
    assert check_refused(BEFORE.edited("diffusion", change))["diffusion"] == reason


def test_a_function_without_self_has_no_config_to_ask() -> None:
    text = (
        BEFORE.diffusion.replace("        self,\n", "        host,\n")
        .replace("self.", "host.")
        .replace("(self", "(host")
    )
    assert check_refused(MiniCheckout(BEFORE.execute, text, BEFORE.generate)) == {
        "diffusion": "_mlx_run_diffusion is not a method with self, so the host's config cannot be asked for"
    }


def test_is_turbo_of_another_thing_is_not_taken_for_ours() -> None:
    other = UPSTREAM.edited(
        "diffusion", (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.wavelet.is_turbo,\n")
    )
    assert check_refused(other)["diffusion"] == (
        "the call of mlx_generate_diffusion passes is_turbo=self.wavelet.is_turbo, which means something else"
    )


def test_where_the_kind_is_told_already_only_the_steps_are_added() -> None:
    told = BEFORE.edited(
        "diffusion", (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.config.is_turbo,\n")
    )
    plan = check_transformed(told)
    assert not_applied(plan)["diffusion"] == "does not forward the steps"
    assert changed(plan, Role.DIFFUSION) == WHOLE[:2]


def test_is_turbo_in_execute_for_wavelet_defaults_is_not_taken_for_ours() -> None:
    fixed = UPSTREAM.edited(
        "execute", ("            try:\n", "            is_turbo = self.config.is_turbo\n            try:\n")
    )
    assert not_applied(check_transformed(fixed))["diffusion"] == "does not forward the model kind"


def test_patch_two_is_the_only_change_to_its_file() -> None:
    assert check_transformed(BEFORE).after[Role.DIFFUSION].text == PATCHED.diffusion
