"""`diff` prints what `git apply` makes into the bytes that `apply` writes."""

import subprocess
import sys
from pathlib import Path

import pytest

from patches.unified import unified_diff
from tests.patches.mini_checkout import BEFORE, FIXED, MiniCheckout
from tests.patches.test_write import PROJECT, contents

NAMES = ("execute", "diffusion", "generate")


def with_newline(checkout: MiniCheckout, newline: str) -> MiniCheckout:
    return MiniCheckout(*(getattr(checkout, name).replace("\n", newline) for name in NAMES))


@pytest.mark.parametrize(
    "checkout",
    [
        pytest.param(BEFORE, id="LF"),
        pytest.param(with_newline(BEFORE, "\r\n"), id="CRLF"),
        pytest.param(FIXED, id="upstreams-fix"),
        pytest.param(MiniCheckout(*(getattr(BEFORE, name).rstrip() for name in NAMES)), id="no-last-newline"),
    ],
)
@pytest.mark.parametrize("nested", ["", "services/my x ü"], ids=["root", "nested"])
def test_git_apply_makes_the_same_bytes_as_apply(tmp_path: Path, checkout: MiniCheckout, nested: str) -> None:
    root = checkout.write(tmp_path / "repository" / nested)
    twin = checkout.write(tmp_path / "twin")
    subprocess.run(["git", "init", "-q", tmp_path / "repository"], check=True)
    run = [sys.executable, "-m", "patches"]
    diff = subprocess.run([*run, "diff", root], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["git", "-c", "core.autocrlf=false", "apply", "-"], cwd=root, input=diff, check=True)
    subprocess.run([*run, "apply", twin], cwd=PROJECT, capture_output=True, check=True)
    assert {n: d for n, d in contents(root).items() if not n.startswith(".git")} == contents(twin)


def test_a_change_of_the_last_line_without_newline_is_shown_as_git_does() -> None:
    assert unified_diff("a/f.py", b"x\r\ny", b"x\r\nz\n") == (
        b"diff --git a/a/f.py b/a/f.py\n--- a/a/f.py\n+++ b/a/f.py\n@@ -1,2 +1,2 @@\n x\r\n-y\n"
        b"\\ No newline at end of file\n+z\n"
    )


def test_no_change_is_no_diff() -> None:
    assert unified_diff("f.py", b"x\n", b"x\n") == b""
