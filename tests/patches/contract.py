"""What has to hold of every text that a patch is tried on, asserted for each case.

An applied patch is applied once, reverts to the same bytes and works alike with LF and CRLF; what cannot be applied
comes with its reason.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

from patches.cli import main
from patches.engine.patch import Patch
from patches.engine.source import Source, from_bytes
from patches.engine.states import Conflict, Missing, NotAffected, OtherCode, Patched, UpstreamFix

HANDLER = "acestep/core/generation/handler"
EXECUTE = f"{HANDLER}/service_generate_execute.py"
DIFFUSION = f"{HANDLER}/diffusion.py"
GENERATE = "acestep/models/mlx/dit_generate.py"


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


def source_of(data: str | bytes) -> Source:
    return from_bytes("file.py", data.encode() if isinstance(data, str) else data)


def check_applied(patch: Patch, text: str | bytes) -> str:
    """The text after the patch, which had to be applicable; LF has to stand for the newlines of `text`."""
    before = source_of(text)
    after = _applied(patch, before)
    with_crlf = _applied(patch, source_of(crlf(before.data)))
    assert with_crlf.data == crlf(after.data)
    return after.text


def _applied(patch: Patch, before: Source) -> Source:
    missing = patch.status(before)
    assert isinstance(missing, Missing), missing
    patched = patch.status(source_of(missing.after.data))
    assert isinstance(patched, Patched), patched
    assert patched.before.data == before.data
    assert patch.revert(missing.after).data == before.data
    return missing.after


def check_refused(patch: Patch, text: str | bytes) -> str:
    """Why the patch cannot be applied."""
    state = patch.status(source_of(text))
    assert isinstance(state, Conflict), state
    return state.detail


def check_left(patch: Patch, text: str | bytes) -> tuple[str, str]:
    """The state's word and detail, where there is nothing for the patch to do."""
    state = patch.status(source_of(text))
    assert isinstance(state, OtherCode | UpstreamFix | NotAffected), state
    return state.word, state.detail


def changed(before: str, after: str) -> list[str]:
    """The lines that go and come, as a diff shows them, without the numbers in the marks."""
    lines = difflib.ndiff(before.splitlines(), without_numbers(after).splitlines())
    return [line[0] + line[2:] for line in lines if line[0] in "+-"]


def without_numbers(text: str) -> str:
    return re.sub(r"(# LEGO patch \(\w+\)) \d+ of \d+", r"\1", text)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below root: nothing may be left over."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def check_verbs(root: Path, *series: str) -> set[str]:
    """The names of the files that apply changes, after apply, check, apply and revert were held to the contract."""
    options = [str(root), *(("--series", *series) if series else ())]
    before = contents(root)
    assert main(["apply", *options]) == 0
    after = contents(root)
    assert main(["check", *options]) == 0
    assert main(["apply", *options]) == 0
    assert contents(root) == after
    assert main(["revert", *options]) == 0
    assert contents(root) == before
    assert after.keys() == before.keys()
    return {name for name in before if before[name] != after[name]}


def edit_patched(patch: Patch, text: str, change: Callable[[str], str]) -> Source:
    """The text with the patch in, and edited since."""
    missing = patch.status(source_of(text))
    assert isinstance(missing, Missing), missing
    edited = change(missing.after.text)
    assert edited != missing.after.text
    return missing.after.with_text(edited)
