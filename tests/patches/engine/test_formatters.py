"""What a formatter makes of a patched file: nothing, where the file was formatted before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from patches.engine.patch import Patch
from patches.engine.source import from_bytes
from patches.engine.states import Missing
from patches.lego import LEGO
from patches.steps import STEPS
from tests.patches.contract import EXECUTE, GENERATE
from tests.patches.mini_application import DIT_MODEL, SICK
from tests.patches.mini_checkout import BEFORE, FIXED, edit
from tests.patches.steps import test_diffusion, test_execute, test_generate

pytestmark = pytest.mark.subprocess

LENGTHS = (79, 88, 100, 120)
# A call that is part of a larger expression: the formatter may wrap the expression around it anew.
INSIDE_AN_EXPRESSION = ("in an if expression", "in a lambda")
FILE_OF = {"execute": EXECUTE, "generate": GENERATE, "decoder": DIT_MODEL}


def texts() -> list[tuple[Patch, str]]:
    """Every text that a patch is applied to in the tests of the patches."""
    execute, diffusion, generate = STEPS.patches
    found = [(patch, getattr(one, patch.name)) for one in (BEFORE, FIXED) for patch in STEPS.patches]
    found += [(execute, edit(BEFORE.execute, change)) for change, _ in test_execute.APPLIED.values()]
    found.append((execute, edit(BEFORE.execute, (test_execute.CALL, test_execute.ONE_LINE))))
    found += [(diffusion, edit(BEFORE.diffusion, *changes)) for changes, _ in test_diffusion.APPLIED.values()]
    found += [(generate, edit(BEFORE.generate, *changes)) for changes in test_generate.APPLIED.values()]
    found += [
        (generate, edit(BEFORE.generate, (old, new)))
        for name, (old, new, _) in test_generate.OTHER_FORMS.items()
        if name not in INSIDE_AN_EXPRESSION
    ]
    for patch in LEGO.patches:
        file = FILE_OF.get(patch.target, patch.target)
        text = SICK.files.get(file) or getattr(SICK.checkout, "execute" if file == EXECUTE else "generate")
        found.append((patch, text))
    return found


def write(folder: Path) -> list[tuple[Patch, Path]]:
    folder.mkdir()
    written = [(patch, folder / f"{n}_{patch.name}.py") for n, (patch, _) in enumerate(texts())]
    for (_, path), (_, text) in zip(written, texts(), strict=True):
        path.write_text(text)
    return written


def apply(written: list[tuple[Patch, Path]]) -> int:
    """Patches the files where the patch is missing. Returns how many were patched."""
    count = 0
    for patch, path in written:
        state = patch.status(from_bytes(path.name, path.read_bytes()))
        if isinstance(state, Missing):
            path.write_bytes(state.after.data)
            count += 1
    return count


def ruff(length: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).with_name("ruff")
    program = str(beside) if beside.exists() else "ruff"
    command = [program, "format", "--isolated", "--quiet", "--line-length", str(length), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("length", LENGTHS)
def test_ruff_changes_nothing_in_a_patched_file(tmp_path: Path, length: int) -> None:
    written = write(tmp_path / "files")
    if length != 88:  # every text at two lengths
        written = written[LENGTHS.index(length) % 3 :: 3]
    assert ruff(length, tmp_path / "files").returncode == 0
    assert apply(written) >= len(written) - 1  # FIXED holds a line of `execute`
    done = ruff(length, "--diff", tmp_path / "files")
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", INSIDE_AN_EXPRESSION)
def test_where_a_formatter_wraps_the_code_around_a_patch_it_does_so_after_revert_too(
    tmp_path: Path, name: str
) -> None:
    generate = STEPS.patches[2]
    old, new, _ = test_generate.OTHER_FORMS[name]
    path = tmp_path / "generate.py"
    path.write_text(edit(BEFORE.generate, (old, new)))
    ruff(88, path)
    formatted = path.read_bytes()
    apply([(generate, path)])
    assert ruff(88, path).returncode == 0
    path.write_bytes(generate.revert(from_bytes(path.name, path.read_bytes())).data)
    assert ruff(88, path).returncode == 0
    assert path.read_bytes() == formatted
