"""Checkouts and requests that cannot be run: one sentence, never a traceback, never a wait without end."""

import sys
import time
from pathlib import Path

import pytest

from patches.checkout import locate
from patches.errors import KitError
from patches.harness.imports import CannotProbe
from patches.harness.process import run_probe
from patches.verify.cases import Case
from patches.verify.probe import require
from patches.verify.report import render_report, verify_checkout
from tests.patches.mini_checkout import PATCHED, MiniCheckout

ONE_CASE = [Case("base", {"is_turbo": False})]


def reason(checkout: MiniCheckout, root: Path, time_limit: float = 60.0) -> str:
    with pytest.raises(CannotProbe) as caught:
        run_probe(locate(checkout.write(root)), ONE_CASE, time_limit)
    return str(caught.value)


def test_file_that_does_not_import_is_named_with_its_error(tmp_path: Path) -> None:
    broken = PATCHED.edited("generate", ("TABLES = ", "FIRST = math.pi\nimport math\n\nTABLES = "))
    report = verify_checkout(broken.write(tmp_path))
    assert not report.ok
    assert render_report(report) == (
        f"{tmp_path} cannot be probed, because acestep/models/mlx/dit_generate.py does not import: "
        "NameError: name 'math' is not defined (dit_generate.py:5)"
    )


def test_file_that_wants_a_part_the_checkout_lacks_is_named(tmp_path: Path) -> None:
    broken = PATCHED.edited("diffusion", ("import torch\n", "import torch\nfrom acestep.gone import x\n"))
    assert reason(broken, tmp_path).startswith(
        "acestep/core/generation/handler/diffusion.py does not import: "
        "ModuleNotFoundError: No module named 'acestep.gone'"
    )


def test_part_of_the_application_that_no_stand_in_has_is_named(tmp_path: Path) -> None:
    needy = PATCHED.edited(
        "diffusion", ("        done = ", "        self.start_progress_bar()\n        done = ")
    )
    assert reason(needy, tmp_path) == "it reads self.start_progress_bar, which only the whole application has"


def test_crash_is_told_with_its_last_words(tmp_path: Path) -> None:
    crash = "import os, sys\nprint('no such kernel', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 11)\n"
    broken = PATCHED.edited("generate", ("TABLES = ", f"{crash}TABLES = "))
    assert reason(broken, tmp_path) == "the probe was killed by SIGSEGV: no such kernel"


def test_exit_without_an_answer_is_told(tmp_path: Path) -> None:
    broken = PATCHED.edited("execute", ("import torch\n", "import torch\nimport os\n\nos._exit(7)\n"))
    assert reason(broken, tmp_path) == "the probe ended with status 7: it said nothing"


def test_loop_without_end_is_stopped_with_its_children(tmp_path: Path) -> None:
    """A child that outlives the probe would hold the pipes open, and the wait would last its minute."""
    loop = "import os, time\n_ = os.fork()\ntime.sleep(60)\n"
    broken = PATCHED.edited("generate", ("TABLES = ", f"{loop}TABLES = "))
    started = time.monotonic()
    assert reason(broken, tmp_path, 2.0) == "its three files were still running after 2 s"
    assert time.monotonic() - started < 30


def test_missing_libraries_are_named_with_what_to_run() -> None:
    with pytest.raises(CannotProbe) as caught:
        require("json", "torch_nowhere", "mlx_nowhere")
    assert str(caught.value) == (
        "its three files need what is not installed here: torch_nowhere, mlx_nowhere; "
        f"run: {sys.executable} -m pip install torch_nowhere mlx_nowhere"
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        pytest.param(
            {"steps": ()}, "steps: expected at least one number of steps, found none", id="no_steps"
        ),
        pytest.param(
            {"steps": (8, 0)}, "steps: expected whole numbers of at least 1, found 0", id="zero_steps"
        ),
        pytest.param({"shift": 0.0}, "shift: expected a finite number above 0, found 0.0", id="zero_shift"),
        pytest.param(
            {"guidance_scale": float("nan")},
            "guidance scale: expected a finite number of at least 1, found nan",
            id="guidance_is_no_number",
        ),
    ],
)
def test_request_that_makes_no_sense_is_refused(
    tmp_path: Path, asked: dict[str, float], sentence: str
) -> None:
    with pytest.raises(KitError) as caught:
        verify_checkout(PATCHED.write(tmp_path), **asked)
    assert str(caught.value) == sentence


REFUSED = {
    "no_steps": Case("base", {"is_turbo": False}, 0),
    "minus_steps": Case("base", {"is_turbo": False}, -3),
    "half_a_step": Case("base", {"is_turbo": False}, 2.5),
    "rising": Case("base", {"is_turbo": False}, 8, timesteps=(0.2, 0.7)),
    "above_one": Case("base", {"is_turbo": False}, 8, timesteps=(1.5, 0.7)),
    "nothing_but_zeros": Case("base", {"is_turbo": False}, 8, timesteps=(0.0, 0.0)),
}


def test_patched_base_refuses_what_it_cannot_honour(tmp_path: Path) -> None:
    """The patched schedule raises; the executor swallows that and runs PyTorch, which the probe tells."""
    answer = run_probe(locate(PATCHED.write(tmp_path)), list(REFUSED.values()))
    for name, seen in zip(REFUSED, answer.observations, strict=True):
        assert seen.evaluated == (), name
        assert (seen.fallback or "").startswith("ValueError: "), name
    assert "got 2.5" in (answer.observations[2].fallback or "")
    assert "got [1.5, 0.6" in (answer.observations[4].fallback or "")
