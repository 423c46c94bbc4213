"""Files are replaced whole, in an order that keeps MLX running, and a process may die at any point."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from patches import write
from patches.checkout import locate
from patches.cli import main
from patches.errors import ChangedMeanwhile, WriteFailed
from patches.outcomes import Role
from patches.plan import make_plan, read_files
from patches.write import Change, write_all
from tests.patches.mini_checkout import BEFORE

PROJECT = Path(__file__).parents[2]
DIES = """
import os, signal, sys
left, replace = int(sys.argv[3]), os.replace
def replace_then_die(*names):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*names)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_then_die
from patches.cli import main
sys.exit(main(sys.argv[1:3]))
"""


def run_and_die(verb: str, root: Path, after: int) -> None:
    """Runs a verb in a process of its own that is killed with SIGKILL after so many replaced files."""
    command = [sys.executable, "-c", DIES, verb, str(root), str(after)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def contents(root: Path) -> dict[str, bytes]:
    """Every file below root: nothing may be left over."""
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def patched_roles(root: Path) -> str:
    plan = make_plan(read_files(locate(root)))
    return "".join(role.name[0] for role in Role if plan.states[role].word == "applied")


@pytest.mark.parametrize(("after", "patched"), [(0, ""), (1, "G"), (2, "DG")])
def test_an_apply_killed_between_files_is_seen_and_finished(tmp_path: Path, after: int, patched: str) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)
    run_and_die("apply", root, after)
    assert patched_roles(root) == patched
    assert main(["check", str(root)]) == 1
    assert main(["apply", str(root)]) == 0
    assert patched_roles(root) == "EDG"
    assert contents(root).keys() == before.keys()
    assert main(["revert", str(root)]) == 0
    assert contents(root) == before


@pytest.mark.parametrize(("after", "patched"), [(0, "EDG"), (1, "DG"), (2, "G")])
def test_a_revert_killed_between_files_is_finished(tmp_path: Path, after: int, patched: str) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)
    assert main(["apply", str(root)]) == 0
    run_and_die("revert", root, after)
    assert patched_roles(root) == patched
    assert main(["revert", str(root)]) == 0
    assert contents(root) == before


def test_mode_and_links_inside_the_root_stay(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path)
    generate = locate(root).generate
    generate.chmod(0o751)
    real = generate.with_name("real.py")
    generate.rename(real)
    generate.symlink_to("real.py")
    assert main(["apply", str(root)]) == 0
    assert generate.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o751
    assert b"is_turbo" in real.read_bytes()


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_a_write_that_fails_puts_back_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    root = BEFORE.write(tmp_path)
    before, calls, replace = contents(root), [], os.replace

    def replace_or_fail(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(write.os, "replace", replace_or_fail)
    assert main(["apply", str(root)]) == 3
    assert contents(root) == before


def test_ctrl_c_between_two_files_puts_back_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = BEFORE.write(tmp_path)
    before, calls, replace = contents(root), [], os.replace

    def replace_or_interrupt(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(write.os, "replace", replace_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        main(["apply", str(root)])
    assert contents(root) == before


def test_where_nothing_can_be_put_back_the_message_says_what_holds_which_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_bytes(b"old")
    two.write_bytes(b"old")
    replace = os.replace

    def replace_first_only(source: Path, target: Path) -> None:
        if target.read_bytes() == b"new" or target == two:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(write.os, "replace", replace_first_only)
    with pytest.raises(WriteFailed) as caught:
        write_all([Change(one, b"old", b"new"), Change(two, b"old", b"new")])
    assert str(caught.value) == (
        f"{two}: expected to be able to write, found: No space left on device. Putting back what was written "
        f"failed as well (No space left on device): {one} hold the new text, the others the old one. "
        "When the disk takes writes again, run the same command to finish, or `revert`."
    )


def test_a_full_disk_is_told_with_the_file_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.py"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write.os, "fsync", full)
    with pytest.raises(WriteFailed) as caught:
        write_all([Change(path, b"old", b"new")])
    assert str(caught.value) == (
        "the checkout: expected to be able to write, found: No space left on device. All files are as they were; "
        "make the folder and the files writable, then run this again."
    )
    assert contents(tmp_path) == {"f.py": b"old"}


def test_a_file_that_changed_since_it_was_read_is_not_overwritten(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_bytes(b"old")
    two.write_bytes(b"somebody else's")
    with pytest.raises(ChangedMeanwhile, match=r"two\.py: expected the bytes that were read a moment ago"):
        write_all([Change(one, b"old", b"new"), Change(two, b"old", b"new")])
    assert contents(tmp_path) == {"one.py": b"old", "two.py": b"somebody else's"}


def test_a_read_only_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.py"
    path.write_bytes(b"old")
    monkeypatch.setattr(write.os, "access", lambda *_: False)  # root may write anything
    with pytest.raises(
        WriteFailed, match=r"f\.py: expected to be able to write, found: the file is read-only"
    ):
        write_all([Change(path, b"old", b"new")])
    assert contents(tmp_path) == {"f.py": b"old"}


def test_what_a_living_run_has_staged_is_not_cleared(tmp_path: Path) -> None:
    path = tmp_path / "f.py"
    path.write_bytes(b"old")
    living, dead = (tmp_path / f".f.py.{pid}.x.patches-tmp" for pid in (os.getpid(), 2**22 + 1))
    living.touch()
    dead.touch()
    write_all([Change(path, b"old", b"new")])
    assert contents(tmp_path) == {"f.py": b"new", living.name: b""}
