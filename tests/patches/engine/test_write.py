"""Files are replaced whole; a signal, a refusal of the system or a kill leaves a state that is said truly."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from patches import cli, commands
from patches.checkout import locate
from patches.cli import INTERRUPTED, main, run
from patches.engine.plan import make_plan, make_revert
from patches.engine.states import Patched
from patches.engine.write import Change, write_all
from patches.errors import ChangedMeanwhile, WriteFailed
from patches.steps import STEPS
from tests.patches.contract import contents
from tests.patches.mini_checkout import BEFORE

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def one_file(tmp_path: Path) -> tuple[Path, Change]:
    path = tmp_path / "f.py"
    path.write_bytes(b"old")
    return path, Change(path, b"old", b"new")


@pytest.fixture(autouse=True)
def _nothing_written_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_changes", [])


def patched(root: Path) -> list[str]:
    return [row.patch.name for row in make_plan(locate(root), STEPS).having(Patched)]


class SignalAt:
    """Raises SIGINT before or after the n-th call among the functions that change files, and counts the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> None:
        self.number, self.after, self.calls = number, after, 0
        monkeypatch.setattr(os, "fsync", lambda _: None)  # counted, but not waited for
        for module, name in (
            (os, "replace"),
            (os, "fsync"),
            (os, "chmod"),
            (tempfile, "mkstemp"),
            (Path, "unlink"),
        ):
            monkeypatch.setattr(module, name, self.wrapped(getattr(module, name)))

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            here = self.calls == self.number
            if here and not self.after:
                signal.raise_signal(signal.SIGINT)
            made = function(*arguments, **options)
            if here and self.after:
                signal.raise_signal(signal.SIGINT)
            return made

        return call


def check_sentence(root: Path, said: str, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    """The sentence names exactly the files that hold the new text, and every file is whole, old or new."""
    now = contents(root)
    assert now.keys() == before.keys()
    assert all(now[name] in (before[name], after[name]) for name in now)
    new = [name for name in now if now[name] != before[name]]
    assert said.count("\n") == 1
    if new:
        assert said.startswith("Interrupted. These files are written: ")
        assert (
            sorted(Path(name).relative_to(root).as_posix() for name in said[38:].rstrip(".\n").split(", "))
            == new
        )
    else:
        assert said == "Interrupted. All files are as they were.\n"


@pytest.mark.parametrize("after", [False, True], ids=["before-the-call", "after-the-call"])
@pytest.mark.parametrize("command", ["apply", "revert", "apply --verify, kept", "apply --verify, not kept"])
def test_ctrl_c_at_every_call_that_changes_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    after: bool,
) -> None:
    root = BEFORE.write(tmp_path)
    old, plan = contents(root), make_plan(locate(root), STEPS)
    main(["apply", str(root)])
    new, back = contents(root), make_revert(locate(root), STEPS)
    before, target = (new, old) if command == "revert" else (old, new)
    changed = [name for name in old if old[name] != new[name]]
    arguments = command.partition(",")[0].split()
    parser = cli._parser()
    monkeypatch.setattr(
        cli, "_parser", lambda: parser
    )  # parsed and planned once: only the writing is tested here
    monkeypatch.setattr(commands, "make_plan", lambda *_: plan)
    monkeypatch.setattr(commands, "make_revert", lambda *_: back)
    report = SimpleNamespace(honoured=command.endswith(", kept"), problem=None, to_json=dict)
    monkeypatch.setattr("patches.verify.verify_checkout", lambda *_: report)
    monkeypatch.setattr("patches.verify.render_report", lambda _: "")
    monkeypatch.setattr(sys, "argv", ["patches", *arguments, str(root)])
    for number in count(1):
        for name in changed:
            (root / name).write_bytes(before[name])
        commands._changes.clear()
        capsys.readouterr()
        with monkeypatch.context() as patch:
            at = SignalAt(patch, number, after)
            status = run()
        if at.calls < number:
            break
        assert status == INTERRUPTED
        check_sentence(root, capsys.readouterr().err, before, target)
        if "--verify" in command:
            assert contents(root) == before
    assert number > 12


@pytest.mark.parametrize("where", ["parsing", "planning"])
def test_ctrl_c_before_anything_is_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(
        *{"parsing": ("patches.cli._parser",), "planning": ("patches.commands.make_plan",)}[where], interrupt
    )
    monkeypatch.setattr(sys, "argv", ["patches", "apply", str(root)])
    assert run() == INTERRUPTED
    assert capsys.readouterr().err == "Interrupted. All files are as they were.\n"
    assert contents(root) == before


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_write_that_fails_puts_back_what_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails_at: int
) -> None:
    root = BEFORE.write(tmp_path)
    before, calls, replace = contents(root), [], os.replace

    def replace_or_fail(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_fail)
    assert main(["apply", str(root)]) == 3
    assert "All files are as they were" in capsys.readouterr().err
    assert contents(root) == before


def test_where_nothing_can_be_put_back_the_message_names_the_files(
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

    monkeypatch.setattr(os, "replace", replace_first_only)
    with pytest.raises(WriteFailed) as caught:
        write_all([Change(one, b"old", b"new"), Change(two, b"old", b"new")])
    assert str(caught.value) == (
        f"{two}: expected to be able to write, found: No space left on device. Putting back what was written "
        f"failed as well (No space left on device): {one} hold the new text, the others the old one. "
        "When the disk takes writes again, run the same command to finish, or `revert`."
    )
    assert contents(tmp_path) == {"one.py": b"new", "two.py": b"old"}


def test_full_disk_is_said_with_what_to_do(
    one_file: tuple[Path, Change], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, change = one_file

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed) as caught:
        write_all([change])
    assert str(caught.value) == (
        "the checkout: expected to be able to write, found: No space left on device. All files are as they were; "
        "make the folder and the files writable, then run this again."
    )
    assert contents(path.parent) == {"f.py": b"old"}


def test_file_that_changed_since_it_was_read_is_not_overwritten(one_file: tuple[Path, Change]) -> None:
    path, change = one_file
    other = path.with_name("other.py")
    other.write_bytes(b"somebody else's")
    with pytest.raises(ChangedMeanwhile, match=r"other\.py: expected the bytes that were read a moment ago"):
        write_all([change, Change(other, b"old", b"new")])
    assert contents(path.parent) == {"f.py": b"old", "other.py": b"somebody else's"}


def test_read_only_file_is_left_alone(one_file: tuple[Path, Change], monkeypatch: pytest.MonkeyPatch) -> None:
    path, change = one_file
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
    with pytest.raises(
        WriteFailed, match=r"f\.py: expected to be able to write, found: the file is read-only"
    ):
        write_all([change])
    assert contents(path.parent) == {"f.py": b"old"}


def test_mode_links_and_extended_attributes_stay(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path)
    generate = locate(root).generate
    generate.chmod(0o751)
    real = generate.with_name("real.py")
    generate.rename(real)
    generate.symlink_to("real.py")
    attributes = False
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not on every file system
            os.setxattr(real, "user.note", b"kept")
            attributes = True
    assert main(["apply", str(root)]) == 0
    assert generate.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o751
    assert b"is_turbo" in real.read_bytes()
    if sys.platform == "linux" and attributes:
        assert os.getxattr(real, "user.note") == b"kept"


AS_ANOTHER_USER = """
import os, sys
from patches.cli import main
main(["check", sys.argv[1]])  # imports what the other user may not read
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sys.exit(main(["apply", sys.argv[1]]) or main(["revert", sys.argv[1]]))
"""


@pytest.mark.subprocess
@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)
def test_group_writable_file_of_another_owner_is_patched_and_its_new_owner_is_said() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = BEFORE.write(Path(name))
        for path in (root, *root.rglob("*")):
            os.chown(path, 0, 65534)
            path.chmod(0o775 if path.is_dir() else 0o664)
        before = contents(root)
        command = [sys.executable, "-c", AS_ANOTHER_USER, str(root)]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("its owner was user 0, now it is user 65534, who wrote it.") == 3
        assert contents(root) == before
        status = locate(root).execute.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 65534, 0o664)


@pytest.mark.parametrize("verb", ["apply", "revert"])
def test_staged_files_of_a_killed_run_are_removed_and_those_of_a_living_run_are_not(
    tmp_path: Path, verb: str
) -> None:
    root = BEFORE.write(tmp_path)
    if verb == "apply":  # nothing is left to write: a run may have been killed with all of its files in place
        main(["apply", str(root)])
    before, target = contents(root), locate(root).execute
    living, dead = (target.with_name(f".{target.name}.{n}.x.patches-tmp") for n in (os.getpid(), 2**22 + 1))
    living.touch()
    dead.touch()
    assert main([verb, str(root)]) == 0
    assert contents(root) == {**before, living.relative_to(root).as_posix(): b""}


KILLED = """
import os, signal, sys
from types import SimpleNamespace
import patches.verify
from patches.cli import main
left, replace = int(sys.argv.pop()), os.replace
def next_step():
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
def replace_file(*names):
    next_step()
    replace(*names)
def verify_checkout(_):
    next_step()
    return SimpleNamespace(honoured=False, problem=None, to_json=dict)
os.replace, patches.verify.verify_checkout = replace_file, verify_checkout
patches.verify.render_report = lambda _: ""
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("command", "steps", "left"),
    [
        pytest.param("apply --verify", 0, [], id="before-the-first-file"),
        pytest.param("apply --verify", 1, ["generate"], id="after-one-file"),
        pytest.param("apply --verify", 2, ["diffusion", "generate"], id="after-two-files"),
        pytest.param("apply --verify", 3, ["execute", "diffusion", "generate"], id="during-the-proof"),
        pytest.param("apply --verify", 5, ["diffusion", "generate"], id="one-file-put-back"),
        pytest.param("apply --verify", 6, ["generate"], id="two-files-put-back"),
        pytest.param("revert", 1, ["diffusion", "generate"], id="revert-after-one-file"),
    ],
)
def test_what_a_kill_leaves_is_shown_and_finished_by_apply_and_by_revert(
    tmp_path: Path, command: str, steps: int, left: list[str]
) -> None:
    root, order = BEFORE.write(tmp_path / "checkout"), ["execute", "diffusion", "generate"]
    old = contents(root)
    assert main(["apply", str(root)]) == 0
    new = contents(root)
    if command != "revert":
        assert main(["revert", str(root)]) == 0
    killed = [sys.executable, "-c", KILLED, *command.split(), str(root), str(steps)]
    done = subprocess.run(killed, cwd=PROJECT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert done.stdout == b""
    assert patched(root) == left
    assert main(["check", str(root)]) == (0 if left == order else 1)
    copy = shutil.copytree(root, tmp_path / "copy")
    for verb, folder, state in (("apply", root, new), ("revert", copy, old)):
        assert main([verb, str(folder)]) == 0
        assert contents(folder) == state
