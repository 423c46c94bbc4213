"""`diff` prints what `git apply` makes into the bytes that `apply` writes."""

import json
import subprocess
from pathlib import Path

import pytest

from patches.cli import main
from patches.engine.diff import unified_diff
from tests.patches.contract import EXECUTE, contents, crlf
from tests.patches.mini_checkout import BEFORE, MiniCheckout

NAMES = ("execute", "diffusion", "generate")
FORMS = {
    "LF": BEFORE,
    "CRLF": MiniCheckout(*(crlf(getattr(BEFORE, name).encode()).decode() for name in NAMES)),
    "no last newline": MiniCheckout(*(getattr(BEFORE, name).rstrip() for name in NAMES)),
}
FOLDERS = ["plain", "my x ü", "a\ttab", 'a "quote"']


@pytest.mark.subprocess
def test_git_apply_makes_the_same_bytes_as_apply(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    repository = tmp_path / "repository"
    roots = {}
    for name, checkout in FORMS.items():
        for folder in FOLDERS if name == "CRLF" else FOLDERS[:1]:
            roots[f"{name} {folder}"] = (checkout, repository / name / folder)
    for checkout, root in roots.values():
        checkout.write(root)
    subprocess.run(["git", "init", "-q", repository], check=True)
    made = b""
    for _, root in roots.values():
        assert main(["diff", str(root)]) == 0
        made += capsysbinary.readouterr().out
    subprocess.run(["git", "-c", "core.autocrlf=false", "apply", "-"], cwd=repository, input=made, check=True)
    for number, (checkout, root) in enumerate(roots.values()):
        twin = checkout.write(tmp_path / str(number))
        assert main(["apply", str(twin)]) == 0
        assert contents(root) == contents(twin)


def test_diff_as_json_keeps_bytes_that_are_not_utf_8(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    root = BEFORE.write(tmp_path)
    path = root / EXECUTE
    text = path.read_bytes().replace(b"shift=shift,\n", b"shift=shift,  # \xe4\n")
    path.write_bytes(b"# coding: latin-1\n" + text)
    assert main(["diff", str(root)]) == 0
    plain = capsysbinary.readouterr().out
    assert b"\xe4" in plain
    assert main(["diff", "--json", str(root)]) == 0
    shown = json.loads(capsysbinary.readouterr().out)
    assert shown["diff"].encode("utf-8", "surrogateescape") == plain


def test_last_line_without_newline_is_shown_as_git_shows_it() -> None:
    assert unified_diff("a/f.py", b"x\r\ny", b"x\r\nz\n") == (
        b"diff --git a/a/f.py b/a/f.py\n--- a/a/f.py\n+++ b/a/f.py\n@@ -1,2 +1,2 @@\n x\r\n-y\n"
        b"\\ No newline at end of file\n+z\n"
    )


def test_no_change_is_no_diff() -> None:
    assert unified_diff("f.py", b"x\n", b"x\n") == b""


@pytest.mark.parametrize(
    ("name", "shown"),
    [("my x/f.py", b"a/my x/f.py\t"), ("a\tb/f.py", b'"a/a\\tb/f.py"'), ('"/f.py', b'"a/\\"/f.py"')],
    ids=["space", "tab", "quote"],
)
def test_names_are_written_as_git_writes_them(name: str, shown: bytes) -> None:
    assert unified_diff(name, b"x\n", b"y\n").splitlines()[1] == b"--- " + shown
