"""The command line as people meet it: words, exit statuses, JSON; and that the text verbs stay text verbs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from patches.cli import main
from tests.patches.contract import UPSTREAM
from tests.patches.mini_checkout import BEFORE, COMPILE_LINE, PATCHED, MiniCheckout
from tests.patches.test_write import PROJECT, contents

EXECUTE = "acestep/core/generation/handler/service_generate_execute.py"
DIFFUSION = "acestep/core/generation/handler/diffusion.py"
GENERATE = "acestep/models/mlx/dit_generate.py"
SCHEDULER = BEFORE.edited(
    "generate",
    (
        "    timesteps: Optional[list] = None,\n):",
        "    timesteps: Optional[list] = None,\n    scheduler=None,\n):",
    ),
)
BROKEN = BEFORE.edited("diffusion", (COMPILE_LINE, "            compile_model=(\n"))
SWITCHED_OFF = "get_timestep_schedule also takes scheduler: a base branch in front would switch that off"


@pytest.mark.parametrize(
    ("checkout", "status", "expected"),
    [
        pytest.param(
            BEFORE,
            1,
            f"""\
site       state        file
execute    not applied  {EXECUTE}  does not pass the asked-for steps
diffusion  not applied  {DIFFUSION}                 does not forward the steps and the model kind
generate   not applied  {GENERATE}                           does not give a base model its own schedule
together: for base models on MLX the asked-for steps do not run, and custom timesteps do not run as given. \
Next: python -m patches apply ROOT
""",
            id="before",
        ),
        pytest.param(
            UPSTREAM,
            1,
            f"""\
site       state        file
execute    applied      {EXECUTE}  passes the asked-for steps
diffusion  not applied  {DIFFUSION}                 does not forward the model kind
generate   not applied  {GENERATE}                           does not give a base model its own schedule
together: for base models on MLX the asked-for steps run, but custom timesteps do not run as given. \
Next (finishes what is there): python -m patches apply ROOT
""",
            id="upstreams-fix",
        ),
        pytest.param(
            PATCHED,
            0,
            f"""\
site       state    file
execute    applied  {EXECUTE}  passes the asked-for steps
diffusion  applied  {DIFFUSION}                 forwards the steps and the model kind
generate   applied  {GENERATE}                           gives a base model the asked-for steps and timesteps
together: for base models on MLX the asked-for steps run, and custom timesteps run as given. \
Nothing to apply; see it run: python -m patches verify ROOT
""",
            id="patched",
        ),
        pytest.param(
            SCHEDULER,
            3,
            f"""\
site       state           file
execute    not applied     {EXECUTE}  does not pass the asked-for steps
diffusion  not applied     {DIFFUSION}                 does not forward the steps and the model kind
generate   not applicable  {GENERATE}                           {SWITCHED_OFF}
together: for base models on MLX the asked-for steps do not run, and custom timesteps do not run as given. \
Cannot be applied here; see what really runs: python -m patches verify ROOT
""",
            id="other-schedules",
        ),
    ],
)
def test_check_shows_each_site_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], checkout: MiniCheckout, status: int, expected: str
) -> None:
    root = checkout.write(tmp_path)
    assert main(["check", str(root)]) == status
    assert capsys.readouterr().out.replace(str(root), "ROOT") == expected


def test_check_says_what_reading_cannot_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = PATCHED.edited("generate", ("def get_timestep_schedule(", "def unused("))
    assert main(["check", str(elsewhere.write(tmp_path))]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == (
        "together: for base models on MLX whether the asked-for steps run cannot be told by reading, and whether "
        "custom timesteps run as given cannot be told by reading. "
        f"Cannot be applied here; see what really runs: python -m patches verify {tmp_path}"
    )


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--json", str(SCHEDULER.write(tmp_path))]) == 3
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "not applicable"
    assert shown["honoured_by_reading"] == {"steps": False, "timesteps": False}
    assert shown["sites"][2] == {
        "site": "generate",
        "file": GENERATE,
        "state": "not applicable",
        "detail": SWITCHED_OFF,
    }


def test_apply_writes_once_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = BEFORE.write(tmp_path)
    before = contents(root)
    assert main(["apply", str(root)]) == 0
    assert capsys.readouterr().out == (
        f"applied: {GENERATE}\napplied: {DIFFUSION}\napplied: {EXECUTE}\nNext: python -m patches verify {root}\n"
    )
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert main(["apply", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: already applied, nothing was written.\n"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == times
    assert main(["revert", str(root)]) == 0
    assert capsys.readouterr().out == f"reverted: {EXECUTE}\nreverted: {DIFFUSION}\nreverted: {GENERATE}\n"
    assert contents(root) == before
    assert main(["revert", str(root)]) == 0
    assert capsys.readouterr().out == f"{root}: nothing of this kit to revert.\n"


@pytest.mark.parametrize("verb", ["diff", "apply"])
def test_all_three_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    root = SCHEDULER.write(tmp_path)
    before = contents(root)
    assert main([verb, str(root)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"{GENERATE}: expected the site as upstream has it, found: {SWITCHED_OFF}. All three or none: nothing was "
        f"changed. Cannot be applied here; see what really runs: python -m patches verify {root}\n"
    )
    assert contents(root) == before


@pytest.mark.parametrize("verb", ["check", "diff", "apply", "revert"])
def test_a_file_that_does_not_compile_is_told_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    root = BROKEN.write(tmp_path)
    before = contents(root)
    assert main([verb, str(root)]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(
        f"{DIFFUSION}: expected a source that compiles, found line 20: '(' was never closed."
    )
    assert shown.err.count("\n") == 1
    assert contents(root) == before


@pytest.mark.parametrize("verb", ["check", "diff", "apply", "revert", "verify"])
def test_a_wrong_folder_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    root = BEFORE.write(tmp_path / "inner")
    assert main([verb, "--json", str(tmp_path)]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "error": f"{tmp_path}: expected the folder that holds acestep/, found none in it. Did you mean {root}?",
        "exit": 2,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: VERB"),
        (["check"], "the following arguments are required: ROOT"),
        (["aply", "."], "invalid choice: 'aply'"),
        (["verify", ".", "--steps", "0"], "expected a whole number of at least 1, found '0'"),
        (["verify", ".", "--shift", "x"], "invalid float value: 'x'"),
    ],
    ids=["no-verb", "no-root", "misspelt", "no-steps", "no-number"],
)
def test_wrong_usage_is_status_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_diff_as_json_and_on_a_patched_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "--json", str(BEFORE.write(tmp_path / "a"))]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "not applied"
    assert shown["diff"].count("diff --git ") == 3
    root = PATCHED.write(tmp_path / "b")
    assert main(["diff", str(root)]) == 0
    assert capsys.readouterr() == ("", f"{root}: already applied, no difference.\n")


POISON = "raise SystemExit('the checkout was imported')\n"
WATCH = """
import sys
from patches.cli import main
status = main(sys.argv[1:])
heavy = {"torch", "mlx", "numpy", "diffusers", "acestep"} & {name.partition(".")[0] for name in sys.modules}
sys.exit(f"imported: {sorted(heavy)}" if heavy else status)
"""


@pytest.mark.parametrize("verb", ["check", "diff", "apply", "revert"])
def test_text_verbs_import_neither_torch_nor_mlx_nor_the_checkout(tmp_path: Path, verb: str) -> None:
    root = BEFORE.write(tmp_path)
    for package in root.rglob("__init__.py"):
        package.write_text(POISON)
    (root / EXECUTE).write_text(POISON.replace("raise", "if __name__ == 'x': raise") + BEFORE.execute)
    command = [sys.executable, "-c", WATCH, verb, str(root)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if verb == "check" else 0), done.stderr


def test_a_closed_pipe_and_a_name_beyond_utf_8_are_no_traceback(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path / "a")
    closed = f"{sys.executable} -m patches diff {root} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", closed], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode in (0, 141), done.stderr) == (True, "")
    command = [sys.executable, "-m", "patches", "check", str(tmp_path).encode() + b"/\xff"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"{tmp_path}/\\udcff: expected the folder that holds acestep/, found nothing by that name.\n"
    )
