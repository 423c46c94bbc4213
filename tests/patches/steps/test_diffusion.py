"""The patch `diffusion` on the many forms of one method, near misses included."""

import pytest

from patches.steps.diffusion import BLOCK, PATCH
from tests.patches.contract import changed, check_applied, check_left, check_refused, edit_patched
from tests.patches.mini_checkout import BEFORE as CHECKOUT
from tests.patches.mini_checkout import COMPILE_LINE, FIXED, KIND, edit

BEFORE = CHECKOUT.diffusion
MARK = "# LEGO patch (diffusion)"
IMPORT = "from acestep.models.mlx.dit_generate import mlx_generate_diffusion\n"
LAST = "        audio_cover_strength: float = 1.0,\n    ):"
STRENGTH = "        audio_cover_strength: float = 1.0,\n"
PARAMETER, STEPS, TURBO = "infer_steps: int = 8", "infer_steps=infer_steps", "is_turbo=is_turbo"
BLOCK_LINES = [f"+        {MARK}{BLOCK[0]}", *(f"+        {line}" for line in BLOCK[1:])]
ARGUMENTS = [f"+            {line}" for line in (MARK, f"{STEPS},", f"{TURBO},")]
FULL_PRECISION = [f"+        {MARK}", f"+        {PARAMETER},", *BLOCK_LINES, *ARGUMENTS]
WITHOUT_STEPS = [*BLOCK_LINES, f"+            {MARK}", f"+            {TURBO},"]

OPTIONS = """\
        options = {"compile_model": True}
        if seed is not None:
            options["disable_tqdm"] = True
        print(options["compile_model"])
"""

APPLIED = {
    "as upstream has it": ([], FULL_PRECISION),
    "signature without trailing comma": (
        [(LAST, LAST.replace("1.0,", "1.0"))],
        [
            "-        audio_cover_strength: float = 1.0",
            "+        audio_cover_strength: float = 1.0,",
            f"+        {MARK}, comma added",
            f"+        {PARAMETER}",
            *BLOCK_LINES,
            *ARGUMENTS,
        ],
    ),
    "before the further keywords": (
        [(LAST, LAST.replace("    ):", "        **unused,\n    ):"))],
        FULL_PRECISION,
    ),
    "behind star args": ([(LAST, LAST.replace("    ):", "        *unused,\n    ):"))], FULL_PRECISION),
    "keyword only": ([("        seed,\n", "        seed,\n        *,\n")], FULL_PRECISION),
    "comment behind the last keyword": (
        [(COMPILE_LINE, COMPILE_LINE.replace("),\n", "),  # set at load\n"))],
        FULL_PRECISION,
    ),
    "imported in the method": (
        [(IMPORT, ""), ("        done =", f"        {IMPORT}\n        done =")],
        FULL_PRECISION,
    ),
    "import guarded": (
        [(IMPORT, f"try:\n    {IMPORT}except ImportError:\n    mlx_generate_diffusion = None\n")],
        FULL_PRECISION,
    ),
    "imported under another name": (
        [(IMPORT, IMPORT.replace("\n", " as walk\n")), ("done = mlx_generate_diffusion(", "done = walk(")],
        FULL_PRECISION,
    ),
    "called through the module": (
        [
            (IMPORT, "from acestep.models.mlx import dit_generate\n"),
            ("done = mlx_", "done = dit_generate.mlx_"),
        ],
        FULL_PRECISION,
    ),
    "decorated": ([("    def _mlx", "    @torch.no_grad()\n    def _mlx")], FULL_PRECISION),
    "typed": (
        [
            ("    ):\n", "    ) -> dict[str, object]:\n"),
            ("        seed,\n", "        seed: int | list[int] | None,\n"),
        ],
        FULL_PRECISION,
    ),
    "debug prints": (
        [("        done = mlx", "        print('run', shift, timesteps)\n        done = mlx")],
        FULL_PRECISION,
    ),
    "no docstring": ([('        """Hand the tensors to MLX as arrays."""\n', "")], FULL_PRECISION),
    "in try": (
        [
            ("        done = mlx", "        try:\n          done = mlx"),
            ("        latents =", "        except ValueError:\n            raise\n        latents ="),
        ],
        FULL_PRECISION,
    ),
    "steps already a parameter, not forwarded": (
        [(STRENGTH, f"{STRENGTH}        infer_steps=None,\n")],
        [*BLOCK_LINES, *ARGUMENTS],
    ),
    "further keywords forwarded": (
        [
            (LAST, LAST.replace("    ):", "        **unused,\n    ):")),
            (COMPILE_LINE, f"{COMPILE_LINE}            **unused,\n"),
        ],
        FULL_PRECISION,
    ),
    "further keywords from a dict of its own": (
        [
            ("        done = mlx", f"{OPTIONS}        done = mlx"),
            (COMPILE_LINE, "            **options,\n"),
        ],
        FULL_PRECISION,
    ),
    "called by a local name": (
        [
            (
                "        done = mlx_generate_diffusion(",
                "        walk = mlx_generate_diffusion\n        done = walk(",
            )
        ],
        FULL_PRECISION,
    ),
    "overload stubs": (
        [
            (
                "class DiffusionMixin:\n",
                "class DiffusionMixin:\n    @overload\n    def _mlx_run_diffusion(self) -> None: ...\n\n",
            )
        ],
        FULL_PRECISION,
    ),
    "stub for type checkers": (
        [
            (
                "class DiffusionMixin:\n",
                "class DiffusionMixin:\n    if TYPE_CHECKING:\n        def _mlx_run_diffusion(self): ...\n\n",
            )
        ],
        FULL_PRECISION,
    ),
    "form feed between functions": ([("class DiffusionMixin", "\x0c\nclass DiffusionMixin")], FULL_PRECISION),
}


@pytest.mark.parametrize(("changes", "expected"), APPLIED.values(), ids=APPLIED)
def test_steps_and_kind_are_forwarded(changes: list[tuple[str, str]], expected: list[str]) -> None:
    text = edit(BEFORE, *changes)
    assert changed(text, check_applied(PATCH, text)) == expected


def test_signature_and_call_on_one_line_get_one_item_a_line() -> None:
    before = (
        "class DiffusionMixin:\n"
        "    def _mlx_run_diffusion(self, src_latents, seed, shift=3.0, timesteps=None, **rest):\n"
        "        return mlx_generate_diffusion(self.mlx_decoder, shift=shift, timesteps=timesteps)\n"
    )
    assert (
        check_applied(PATCH, before)
        == f"""\
class DiffusionMixin:
    def _mlx_run_diffusion(
        {MARK} 1 of 3, was: (self, src_latents, seed, shift=3.0, timesteps=None, **rest)
        self,
        src_latents,
        seed,
        shift=3.0,
        timesteps=None,
        infer_steps: int = 8,
        **rest,
    ):
        {MARK} 2 of 3{BLOCK[0]}
        {BLOCK[1]}
        {BLOCK[2]}
        return mlx_generate_diffusion(
            {MARK} 3 of 3, was: (self.mlx_decoder, shift=shift, timesteps=timesteps)
            self.mlx_decoder,
            shift=shift,
            timesteps=timesteps,
            infer_steps=infer_steps,
            is_turbo=is_turbo,
        )
"""
    )


def test_where_upstream_forwards_the_steps_only_the_kind_is_added() -> None:
    assert changed(FIXED.diffusion, check_applied(PATCH, FIXED.diffusion)) == WITHOUT_STEPS


def test_where_the_kind_is_passed_already_only_the_steps_are_added() -> None:
    text = edit(BEFORE, (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo=self.config.is_turbo,\n"))
    assert changed(text, check_applied(PATCH, text)) == [*FULL_PRECISION[:2], *ARGUMENTS[:2]]


@pytest.mark.parametrize(
    "kind",
    [
        "self.is_turbo_model()",
        'self.config.get("is_turbo", False)',
        "self.wavelet.is_turbo",
        KIND,
    ],
)
def test_kind_and_steps_in_another_form_are_other_code(kind: str) -> None:
    text = edit(FIXED.diffusion, (COMPILE_LINE, f"{COMPILE_LINE}            is_turbo={kind},\n"))
    assert check_left(PATCH, text) == (
        "other code",
        f"the call of mlx_generate_diffusion passes {STEPS} and is_turbo={kind}",
    )


@pytest.mark.parametrize("argument", ["infer_steps=8", "infer_steps=steps // 2", "**self.mlx_options"])
def test_what_may_hold_the_steps_is_other_code(argument: str) -> None:
    text = edit(BEFORE, (COMPILE_LINE, f"{COMPILE_LINE}            {argument},\n"))
    expected = f"the call of mlx_generate_diffusion passes {argument}"
    assert check_left(PATCH, text) == ("other code", expected)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param("options = dict(infer_steps=4)", id="holds-the-steps"),
        pytest.param("options = {}\n        options['is_turbo'] = True", id="gets-the-model-kind"),
        pytest.param("options = {name: 8 for name in names}", id="computed-keys"),
        pytest.param("options = dict(self.mlx_options)", id="a-copy"),
        pytest.param("options = {**self.mlx_options}", id="unpacked-into-it"),
        pytest.param("options = {}\n        self.fill(options)", id="passed-on"),
        pytest.param("options = {}\n        options.update(self.mlx_options)", id="updated"),
        pytest.param("options = {}\n        options |= self.mlx_options", id="merged"),
        pytest.param("options = {}\n        options[self.name] = 8", id="a-computed-key"),
        pytest.param("options = {}\n        self.options = options", id="kept"),
        pytest.param("options = make_options()", id="made-elsewhere"),
        pytest.param("dict = make\n        options = dict(shift=shift)", id="another-dict"),
    ],
)
def test_dict_that_other_code_may_fill_is_other_code(options: str) -> None:
    text = edit(
        BEFORE,
        ("        done = mlx", f"        {options}\n        done = mlx"),
        (COMPILE_LINE, f"{COMPILE_LINE}            **options,\n"),
    )
    assert check_left(PATCH, text) == ("other code", "the call of mlx_generate_diffusion passes **options")


TWICE = "        mlx_generate_diffusion(None)\n        done = mlx"
OLD_CLASS = "class Old:\n    def _mlx_run_diffusion(self): pass\n\n\nclass DiffusionMixin:\n"
REFUSED = {
    "call renamed": (
        ("done = mlx_generate_diffusion(", "done = generate_on_mlx("),
        "expected one call of mlx_generate_diffusion in _mlx_run_diffusion, found none",
    ),
    "called twice": (
        ("        done = mlx", TWICE),
        "expected one call of mlx_generate_diffusion in _mlx_run_diffusion, found 2",
    ),
    "method renamed": (
        ("def _mlx_run_diffusion(", "def _run_on_mlx("),
        "expected one definition of _mlx_run_diffusion, found none",
    ),
    "two methods of one name": (
        ("class DiffusionMixin:\n", OLD_CLASS),
        "expected one definition of _mlx_run_diffusion, found 2",
    ),
    "a name of the block taken": (
        ("        done = mlx", "        config = shift\n        done = mlx"),
        "_mlx_run_diffusion uses the name config for something else",
    ),
    "a name of the block read from the module": (
        ("        done = mlx", "        print(is_turbo)\n        done = mlx"),
        "_mlx_run_diffusion uses the name is_turbo for something else",
    ),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_near_misses_are_refused(change: tuple[str, str], reason: str) -> None:
    assert check_refused(PATCH, edit(BEFORE, change)) == reason


def test_function_without_self_has_no_config() -> None:
    text = BEFORE.replace("        self,\n", "        host,\n").replace("self", "host")
    assert check_refused(PATCH, text) == (
        "_mlx_run_diffusion is not a method with self, so the config of its host cannot be read"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("infer_steps: int = 8", "infer_steps: int = 16", id="default"),
        pytest.param('"is_turbo", False)\n', '"is_turbo", True)\n', id="block"),
        pytest.param(f"            {STEPS},\n", "", id="argument"),
        pytest.param(f"        {MARK} 1 of 3\n", "", id="one-mark-removed"),
        pytest.param("            is_turbo=is_turbo,\n", "            is_turbo=True,\n", id="kind"),
    ],
)
def test_edited_patch_is_a_conflict_that_is_not_reverted(old: str, new: str) -> None:
    edited = edit_patched(PATCH, BEFORE, lambda text: text.replace(old, new, 1))
    assert check_refused(PATCH, edited.data) == (
        "file.py: the text of this kit (patch diffusion) was edited after `apply`, so the bytes before it "
        "cannot be proved"
    )
