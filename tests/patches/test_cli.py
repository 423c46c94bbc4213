"""The command line as people meet it: words, exit statuses, JSON, and no traceback."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from patches import cli, commands
from patches.cli import main
from tests.patches.contract import DIFFUSION, EXECUTE, GENERATE, contents
from tests.patches.mini_checkout import BEFORE, COMPILE_LINE, FIXED, STEPS_LINE, MiniCheckout

PROJECT = Path(__file__).parents[2]
TEXT_VERBS = ["check", "diff", "apply", "revert"]
TIMESTEPS = "    timesteps: Optional[list] = None,\n):"
D, G = DIFFUSION.ljust(len(EXECUTE)), GENERATE.ljust(len(EXECUTE))
SCHEDULER = BEFORE.edited("generate", (TIMESTEPS, TIMESTEPS.replace("):", "    scheduler=None,\n):")))
SWITCHED_OFF = (
    "get_timestep_schedule also takes scheduler=None, which a branch for base models would switch off"
)
BROKEN = BEFORE.edited("diffusion", (COMPILE_LINE, "            compile_model=(\n"))
UPSTREAM = FIXED.edited("execute", ('.get("infer_steps", 8)', '.get("infer_steps")'))
OTHER = (
    FIXED.edited("execute", ('generate_kwargs.get("infer_steps", 8)', "8"))
    .edited("diffusion", (STEPS_LINE, "            infer_steps=infer_steps // 2,\n"))
    .edited(
        "generate",
        (
            TIMESTEPS.replace("):", "    infer_steps: Optional[int] = None,\n):"),
            "    timesteps=None,\n    infer_steps=None,\n    is_turbo=False,\n):",
        ),
    )
)


def python(*words: str | Path) -> str:
    """A recommended command, with this interpreter."""
    interpreter = sys.executable.removeprefix(f"{os.getcwd()}/")
    return shlex.join([interpreter, "-m", "patches", *map(str, words)])


CHECKED = {
    "before": (
        BEFORE,
        1,
        f"""\
patch      state    file
execute    missing  {EXECUTE}  the call passes no infer_steps
diffusion  missing  {D}  the call of mlx_generate_diffusion passes no infer_steps and no is_turbo
generate   missing  {G}  get_timestep_schedule takes no infer_steps and no is_turbo
Together: missing (read, not run). Next: {python("apply", "--verify", "ROOT")}
""",
    ),
    "upstream's fix": (
        UPSTREAM,
        1,
        f"""\
patch      state           file
execute    upstream's fix  {EXECUTE}  the call passes infer_steps
diffusion  missing         {D}  the call of mlx_generate_diffusion passes no is_turbo
generate   missing         {G}  get_timestep_schedule takes no is_turbo
Together: missing (read, not run). Next: {python("apply", "--verify", "ROOT")}
""",
    ),
    "another schedule": (
        SCHEDULER,
        3,
        f"""\
patch      state     file
execute    missing   {EXECUTE}  the call passes no infer_steps
diffusion  missing   {D}  the call of mlx_generate_diffusion passes no infer_steps and no is_turbo
generate   conflict  {G}  {SWITCHED_OFF}
Together: conflict (read, not run). See what runs: {python("verify", "ROOT")}
""",
    ),
    "other code": (
        OTHER,
        1,
        f"""\
patch      state       file
execute    other code  {EXECUTE}  the call of _mlx_run_diffusion passes infer_steps=8
diffusion  other code  {D}  the call of mlx_generate_diffusion passes infer_steps=infer_steps // 2
generate   other code  {G}  get_timestep_schedule takes an is_turbo of its own
Together: other code (read, not run). Not proved: run {python("verify", "ROOT")}
""",
    ),
}


@pytest.mark.parametrize(("checkout", "status", "expected"), CHECKED.values(), ids=CHECKED)
def test_check_shows_the_text_of_each_file_and_what_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkout: MiniCheckout, status: int, expected: str
) -> None:
    root = checkout.write(tmp_path)
    assert main(["check", str(root)]) == status
    assert capsys.readouterr().out.replace(str(root), "ROOT") == expected


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(SCHEDULER.write(tmp_path))]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert {name: shown[name] for name in ("root", "series", "state", "exit", "notes")} == {
        "root": str(tmp_path),
        "series": "steps",
        "state": "conflict",
        "exit": 3,
        "notes": [],
    }
    row = {"patch": "generate", "file": GENERATE, "state": "conflict", "detail": SWITCHED_OFF}
    assert shown["patches"][2] == row


def test_apply_and_revert_write_once_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = BEFORE.write(tmp_path)
    before, verify = contents(root), python("verify", tmp_path)
    assert main(["apply", str(root)]) == 0
    written = f"patched: {GENERATE}\npatched: {DIFFUSION}\npatched: {EXECUTE}\n"
    assert capsys.readouterr().out == f"{written}Patched, not proved: run {verify}\n"
    assert main(["check", str(root)]) == 0
    said = capsys.readouterr().out
    assert said.count("patched  acestep/") == 3
    assert said.endswith(f"Together: patched (read, not run). To see what runs: {verify}\n")
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert main(["diff", str(root)]) == 0
    assert capsys.readouterr() == ("", f"{root}: nothing to patch, no difference.\n")
    assert main(["apply", str(root)]) == 0
    nothing = f"{root}: nothing to patch, nothing was written. To see what runs: {verify}\n"
    assert capsys.readouterr().out == nothing
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert main(["revert", str(root)]) == 0
    assert capsys.readouterr().out == f"reverted: {EXECUTE}\nreverted: {DIFFUSION}\nreverted: {GENERATE}\n"
    assert contents(root) == before
    assert main(["revert", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: holds no text of this kit.\n"


PARTS = {
    "three-files": (BEFORE, [GENERATE, DIFFUSION, EXECUTE]),
    "two-files": (UPSTREAM, [GENERATE, DIFFUSION]),
    "nothing-to-write": (OTHER, []),
}


@pytest.mark.parametrize(("checkout", "names"), PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("honoured", [True, False], ids=["honoured", "not-honoured"])
def test_apply_verify_keeps_the_edits_only_where_the_run_shows_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    honoured: bool,
    checkout: MiniCheckout,
    names: list[str],
) -> None:
    root = checkout.write(tmp_path)
    before, seen = contents(root), []

    def verify(_: Path) -> SimpleNamespace:
        seen.append(contents(root))
        return report_of(honoured)

    monkeypatch.setattr("patches.verify.verify_checkout", verify)
    monkeypatch.setattr("patches.verify.render_report", lambda _: "the report")
    assert main(["apply", "--verify", str(root)]) == (0 if honoured else 1)
    shown = capsys.readouterr()
    assert [name for name in before if seen[0][name] != before[name]] == sorted(names)
    assert contents(root) == (seen[0] if honoured else before)
    if honoured:
        said = [f"kept: {name}" for name in names] or [f"{root}: nothing to patch, nothing was written."]
    else:
        said = [f"put back: {name}" for name in names] or ["Nothing was written."]
    assert (shown.out if honoured else shown.err) == "\n".join(["the report", *said, ""])
    assert (shown.err if honoured else shown.out) == ""


def report_of(honoured: bool) -> SimpleNamespace:
    return SimpleNamespace(honoured=honoured, problem=None, to_json=lambda: {"honoured": honoured})


@pytest.mark.parametrize("honoured", [True, False], ids=["honoured", "not-honoured"])
@pytest.mark.parametrize("name", [DIFFUSION, EXECUTE], ids=["patched-file", "file-that-needs-nothing"])
def test_file_that_something_else_changes_during_the_proof_is_left_and_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    honoured: bool,
) -> None:
    root = UPSTREAM.write(tmp_path)
    before = contents(root)

    def verify(_: Path) -> SimpleNamespace:
        with (root / name).open("ab") as file:
            file.write(b"# more\n")
        return report_of(honoured)

    monkeypatch.setattr("patches.verify.verify_checkout", verify)
    monkeypatch.setattr("patches.verify.render_report", lambda _: "the report")
    assert main(["apply", "--verify", str(root)]) == 1
    after = contents(root)
    assert after.pop(name).endswith(b"# more\n")
    assert after == {other: before[other] for other in after}
    back = [f"put back: {other}" for other in (GENERATE, DIFFUSION) if other != name]
    left = (
        f"Changed by something else meanwhile, and left as they are: {name}. See what they hold: "
        f"{python('check', root)}"
    )
    assert capsys.readouterr().err == "\n".join(["the report", *back, left, ""])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_during_the_proof_puts_every_byte_back(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    root = BEFORE.write(tmp_path)
    monkeypatch.setattr(commands, "_changes", [])
    before, handlers = contents(root), [signal.getsignal(one) for one in signal.Signals]

    def proof(_: Path) -> None:
        assert contents(root) != before
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGTERM)  # as from whoever ends a session: no second exception

    monkeypatch.setattr("patches.verify.verify_checkout", proof)
    monkeypatch.setattr(sys, "argv", ["patches", "apply", "--verify", str(root)])
    assert cli.run() == 128 + number
    assert capsys.readouterr() == ("", f"Ended by {number.name}. All files are as they were.\n")
    assert contents(root) == before
    assert [signal.getsignal(one) for one in signal.Signals] == handlers


def test_edits_that_cannot_be_put_back_are_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = UPSTREAM.write(tmp_path)
    monkeypatch.setattr(commands, "_changes", [])

    def verify(_: Path) -> SimpleNamespace:
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anything
        return report_of(False)

    monkeypatch.setattr("patches.verify.verify_checkout", verify)
    monkeypatch.setattr("patches.verify.render_report", lambda _: "the report")
    assert main(["apply", "--verify", str(root)]) == 3
    assert capsys.readouterr().err == (
        f"{root / DIFFUSION}: expected to be able to write, found: the file is read-only. The edits are not proved, "
        f"and putting the files back failed. These files are written: {root / GENERATE}, {root / DIFFUSION}. When the "
        "disk takes writes again, run `revert`.\n"
    )


def test_apply_verify_puts_every_byte_back_where_the_proof_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)

    def fail(_: Path) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr("patches.verify.verify_checkout", fail)
    with pytest.raises(RuntimeError):
        main(["apply", "--verify", str(root)])
    assert contents(root) == before


@pytest.mark.parametrize("verb", ["diff", "apply"])
def test_all_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    root = SCHEDULER.write(tmp_path)
    before = contents(root)
    assert main([verb, str(root)]) == 3
    assert capsys.readouterr() == (
        "",
        f"{GENERATE}: generate cannot be applied: {SWITCHED_OFF}. All or none: nothing was changed. "
        f"execute, diffusion would go in. See what runs: {python('verify', root)}\n",
    )
    assert contents(root) == before


@pytest.mark.parametrize("verb", TEXT_VERBS)
def test_file_that_does_not_compile_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    root = BROKEN.write(tmp_path)
    before = contents(root)
    assert main([verb, str(root)]) == 3
    shown = capsys.readouterr()
    said = shown.out if verb == "check" else shown.err
    assert "expected a source that compiles, found line 20: '(' was never closed." in said
    assert DIFFUSION in said
    assert "git checkout" not in said
    assert contents(root) == before


@pytest.mark.parametrize("verb", TEXT_VERBS)
def test_text_of_the_kit_that_was_edited_is_said_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    root = BEFORE.write(tmp_path)
    assert main(["apply", str(root)]) == 0
    path = root / GENERATE
    path.write_text(path.read_text().replace("is_turbo: bool = True", "is_turbo: bool = False"))
    before = contents(root)
    capsys.readouterr()
    assert main([verb, str(root)]) == 3
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert (
        "the text of this kit (patch generate) was edited after `apply`, so the bytes before it cannot be proved"
        in said
    )
    assert "git checkout" not in said
    assert contents(root) == before


@pytest.mark.parametrize("verb", [*TEXT_VERBS, "verify", "doctor"])
def test_wrong_folder_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    root = BEFORE.write(tmp_path / "inner")
    assert main([verb, "--json", str(tmp_path)]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": f"{tmp_path}: expected the folder that holds acestep/, found none in it. Did you mean {root}?",
        "exit": 2,
    }


WRONG_USAGE = {
    "no verb": ([], "the following arguments are required: VERB"),
    "no root": (["check"], "the following arguments are required: ROOT"),
    "misspelt": (["aply", "."], "invalid choice: 'aply'"),
    "no steps": (["verify", ".", "--steps", "0"], "expected a whole number of at least 1, found '0'"),
    "no number": (["verify", ".", "--shift", "x"], "invalid float value: 'x'"),
    "unknown option": (["check", ".", "--steps", "3"], "unrecognized arguments: --steps 3"),
    "unknown series": (
        ["apply", ".", "--series", "lego,mementum"],
        "--series: expected steps or lego, or names of one series, found lego, mementum. See them with --list.",
    ),
    "one of three patches that depend on one another": (
        ["apply", ".", "--series", "execute"],
        "--series: expected steps or lego, or names of one series, found execute. See them with --list.",
    ),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(("arguments", "said"), WRONG_USAGE.values(), ids=WRONG_USAGE)
def test_wrong_usage_is_status_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str, as_json: bool
) -> None:
    assert main([*arguments, *(["--json"] if as_json else [])]) == 2
    shown = capsys.readouterr()
    assert (shown.err == "") is as_json
    assert said in (json.loads(shown.out)["error"] if as_json else shown.err)
    assert shown.err.count("\n") == (0 if as_json else 1)


def test_list_needs_no_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["apply", "--list"])
    assert stop.value.code == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert names == [patch.name for series in commands.ALL_SERIES for patch in series.patches]


def test_recommended_commands_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = BEFORE.write(tmp_path / "my checkout's")
    assert main(["check", str(root)]) == 1
    words = shlex.split(capsys.readouterr().out.rpartition("Next: ")[2])
    assert words == [*shlex.split(python()), "apply", "--verify", str(root)]


INFERENCE = "@dataclass\nclass GenerationParams:\n    dcw_enabled: bool = {}\n"


@pytest.mark.parametrize(("default", "count"), [("True", 1), ("False", 0)])
def test_wavelet_correction_that_is_on_by_default_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], default: str, count: int
) -> None:
    root = BEFORE.write(tmp_path)
    (root / "acestep/inference.py").write_text(INFERENCE.format(default))
    for verb in ("check", "apply"):
        main([verb, str(root)])
        said = capsys.readouterr().out
        assert said.count("acestep/inference.py: the wavelet correction is on by default") == count
        assert said.count("dcw_enabled=False") == count


@pytest.mark.parametrize("root", ["x/" * 3000, "nul\0"], ids=["beyond-PATH_MAX", "NUL"])
def test_root_that_no_file_system_has_is_one_sentence(capsys: pytest.CaptureFixture[str], root: str) -> None:
    assert main(["check", root]) == 2
    said = capsys.readouterr().err
    assert "expected the folder that holds acestep/, found " in said
    assert said.count("\n") == 1


def test_failure_of_the_system_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "acestep/x.py")

    monkeypatch.setattr(commands, "make_plan", fail)
    monkeypatch.setattr(commands, "_changes", [])
    assert main(["apply", str(BEFORE.write(tmp_path))]) == 3
    assert capsys.readouterr().err == "acestep/x.py: Input/output error. All files are as they were.\n"
