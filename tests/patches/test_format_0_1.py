"""Files that version 0.1 of this kit patched are read as patched, and reverted to the same bytes.

Each file in format_0_1/ is a diff with all its context, from a small checkout to what version 0.1 made of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patches.cli import main
from tests.patches.contract import EXECUTE, GENERATE, check_verbs, contents

GOLDEN = Path(__file__).parent / "format_0_1"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.diff"))
KEPT = "# Here before the patch and kept when it goes: "


def write(root: Path, name: str, sign: str, newline: str = "\n") -> Path:
    """The files of a golden diff below `root`: before ("-") or after ("+")."""
    for part in (GOLDEN / f"{name}.diff").read_text().split("--- a/")[1:]:
        file, _, *lines = part.removesuffix("\n").split("\n")
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(f"{line[1:]}{newline}" for line in lines[1:] if line[:1] in ("", " ", sign))
        path.write_text(text, newline="")
    return root


def series(name: str) -> list[str]:
    return ["--series", name.partition("_")[0]]


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", NAMES)
def test_patched_files_are_read_and_reverted_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, newline: str
) -> None:
    root, before = write(tmp_path / "a", name, "+", newline), write(tmp_path / "b", name, "-", newline)
    after = contents(root)
    main(["check", str(root), *series(name), "--json"])
    rows = json.loads(capsys.readouterr().out)["patches"]
    changed = {file for file, data in after.items() if data != contents(before)[file]}
    assert {row["file"] for row in rows if row["state"] == "patched"} == changed
    assert not any(row["state"] in ("missing", "conflict") for row in rows)
    assert main(["apply", str(root), *series(name)]) == 0
    assert contents(root) == after
    assert main(["revert", str(root), *series(name)]) == 0
    assert contents(root) == contents(before)


@pytest.mark.parametrize("name", [name for name in NAMES if "partly" not in name])
def test_reverted_files_can_be_patched_in_the_form_of_today(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, name, "+")
    assert main(["revert", str(root), *series(name)]) == 0
    assert check_verbs(root, series(name)[1])


EDITED = {
    "default": ("steps_before", GENERATE, "is_turbo: bool = True", "is_turbo: bool = False"),
    "block": ("steps_before", GENERATE, "        falling.pop()\n", ""),
    "comment on what was there before": ("steps_partly_there_before", GENERATE, KEPT, "# Note: "),
    "line of a LEGO patch": ("lego", "acestep/inference.py", "params.seed < 0", "params.seed < 1"),
}


@pytest.mark.parametrize(("name", "file", "old", "new"), EDITED.values(), ids=EDITED)
def test_edited_since_it_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, old: str, new: str
) -> None:
    root = write(tmp_path, name, "+")
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new))
    before = contents(root)
    for verb in ("check", "apply", "revert"):
        assert main([verb, str(root), *series(name)]) == 3
    assert contents(root) == before
    shown = capsys.readouterr()
    assert "was edited after `apply`, so the bytes before" in shown.out
    assert all("was edited after `apply`, so the bytes before" in line for line in shown.err.splitlines())
    assert shown.err.count("\n") == 2


@pytest.mark.parametrize(("reverted"), [[EXECUTE], [GENERATE]], ids=["execute", "generate"])
def test_revert_of_version_0_1_that_was_killed_is_finished_or_refused(
    tmp_path: Path, reverted: list[str]
) -> None:
    root, before = write(tmp_path / "a", "steps_before", "+"), write(tmp_path / "b", "steps_before", "-")
    for file in reverted:
        (root / file).write_bytes((before / file).read_bytes())
    half = contents(root)
    status = main(["revert", str(root)])
    assert (status, contents(root)) in ((0, contents(before)), (3, half))
