"""The doctor's table of small applications with every defect, with none, and of the fork that this project ships.

Each is looked at once, in a probe process; the tests read what it found.
"""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from patches.cli import main
from patches.doctor import guidance
from patches.doctor.line import DEFECT, FINE, UNSEEN
from patches.doctor.report import Report, examine, render
from tests.patches.mini_application import OLD, SICK, WELL, MiniApplication
from tests.patches.test_write import contents

# Until 0.32 an array that is not computed yet could be used from any thread.
NEEDS_COMPUTED = tuple(map(int, version("mlx").split(".")[:2])) >= (0, 32)
THREADS = DEFECT if NEEDS_COMPUTED else FINE
FORK = Path(__file__).parents[2] / "ACE-Step-1.5"


def table(report: Report) -> dict[str, str]:
    return {line.name: finding.verdict for line, finding in report.lines}


def got(report: Report, name: str) -> str:
    return next(finding.got for line, finding in report.lines if line.name == name)


def looked_at(application: MiniApplication, root: Path) -> Report:
    application.write(root)
    before = contents(root)
    report = examine(root)
    assert contents(root) == before
    return report


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return looked_at(OLD, tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return looked_at(SICK, tmp_path_factory.mktemp("sick"))


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return looked_at(WELL, tmp_path_factory.mktemp("well"))


TABLE = {
    "steps": (DEFECT, FINE),
    "steps on record": (DEFECT, FINE),
    "custom timesteps": (DEFECT, DEFECT),
    "config without is_turbo": (DEFECT, FINE),
    "guidance": (DEFECT, FINE),
    "guidance momentum (APG)": (UNSEEN, DEFECT),
    "context audio": (DEFECT, DEFECT),
    "prompt": (DEFECT, DEFECT),
    "thinking": (DEFECT, DEFECT),
    "seed": (DEFECT, DEFECT),
    "failure of MLX": (DEFECT, DEFECT),
    "worker threads": (THREADS, THREADS),
    "short contexts and ranges": (FINE, DEFECT),
    "SDE": (DEFECT, DEFECT),
    "custom timesteps in PyTorch": (DEFECT, DEFECT),
    "wavelet correction in PyTorch": (DEFECT, DEFECT),
}
GOT = {
    "steps on record": "a record of 50, 50 evaluated",
    "guidance momentum (APG)": "; it is the one with momentum +1 (a running sum, +1)",
    "context audio": "whole length: 150 of 150 frames silenced; 2 s to 4 s: 50 of 150 frames silenced",
    "prompt": '"Make music of the words:"',
    "thinking": "codes of the language model in the context's place",
    "failure of MLX": "PyTorch ran in its place, success was reported",
    "short contexts and ranges": "3 s: MLX 0, PyTorch 53; 2 s to 4 s of 6 s: MLX 0, PyTorch 100",
    "custom timesteps in PyTorch": "1, 0.75 evaluated: the last one is taken for the end",
    "wavelet correction in PyTorch": "left out, which the log alone says",
}


@pytest.mark.parametrize("name", TABLE)
def test_of_a_checkout_before_guidance_on_mlx(name: str, old: Report) -> None:
    assert old.problem is None
    assert list(table(old)) == list(TABLE)
    assert table(old)[name] == TABLE[name][0], got(old, name)


@pytest.mark.parametrize("name", TABLE)
def test_of_a_checkout_with_every_defect_that_came_later(name: str, sick: Report) -> None:
    assert table(sick)[name] == TABLE[name][1], got(sick, name)
    assert got(sick, name).endswith(GOT.get(name, ""))


def test_of_steps_and_momentum_says_how(old: Report) -> None:
    assert got(old, "steps") == "8, 8, 8 evaluated, at other timesteps"
    assert got(old, "steps on record") == "a record of 50, 8 evaluated"
    assert got(old, "guidance momentum (APG)").startswith("MLX applies no guidance here")


def test_of_a_checkout_without_defects_is_all_fine(well: Report) -> None:
    assert set(table(well).values()) == {FINE}, render(well)


def test_after_apply_and_the_series_only_what_was_declared_is_left(tmp_path: Path) -> None:
    root = str(SICK.write(tmp_path))
    assert main(["apply", root]) == main(["apply", root, "--series", "lego"]) == 0
    left = examine(tmp_path)
    assert left.defects == [
        "short contexts and ranges",
        "SDE",
        "custom timesteps in PyTorch",
        "wavelet correction in PyTorch",
    ]
    remedies = {line.name: line.remedy for line, _ in left.lines}
    assert all(remedies[name].startswith("not closable in a few lines: ") for name in left.defects)


def test_of_the_fork_is_all_fine() -> None:
    report = examine(FORK)
    assert set(table(report).values()) == {FINE}, render(report)


def test_reads_one_line_a_defect_with_what_was_asked_and_what_to_do(sick: Report) -> None:
    lines = render(sick).splitlines()
    (line,) = [line for line in lines if line.startswith("custom timesteps  ")]
    assert "DEFECT  " in line
    assert (
        "asked: 40 timesteps of one's own; got: 20 evaluated, at other timesteps; in dit_generate.py" in line
    )
    assert line.endswith("[upstream: a12a25a (2026-02-11) to its newest known state]")
    assert f"custom timesteps: python -m patches apply {sick.root}" in lines
    (series,) = [
        line for line in lines if line.endswith(f": python -m patches apply {sick.root} --series lego")
    ]
    assert series.startswith("guidance momentum (APG), context audio, prompt, thinking, seed, failure of MLX")
    assert any(
        line.startswith("SDE: not closable in a few lines: ask for infer_method='ode'") for line in lines
    )


def test_as_json_names_the_defects(sick: Report) -> None:
    facts = json.loads(json.dumps(sick.to_json()))
    assert facts["defects"] == [name for name, (_, verdict) in TABLE.items() if verdict == DEFECT]
    assert facts["cannot_be_looked_at"] == []
    assert facts["lines"][2]["remedy"] == f"python -m patches apply {sick.root}"


@pytest.mark.parametrize(("report", "status"), [("sick", 1), ("well", 0)])
def test_exit_status_says_whether_there_is_a_defect(
    report: str, status: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patches.doctor.report.examine", lambda _: request.getfixturevalue(report))
    assert main(["verify", "--all", "."]) == status


def test_what_takes_the_probe_down_leaves_what_was_found_before(tmp_path: Path) -> None:
    crash = "import os\nos.kill(os.getpid(), 11)\n"
    crashing = SICK.edited("acestep/inference.py", ("import random\n", crash))
    report = examine(crashing.write(tmp_path))
    assert table(report)["steps"] == FINE
    assert got(report, "context audio").startswith("the probe was killed by SIGSEGV")


def test_application_that_cannot_run_is_neither_red_nor_green(tmp_path: Path) -> None:
    needy = SICK.edited("acestep/inference.py", ('codes = ""\n', "codes = params.codes_of_mine\n"))
    report = examine(needy.write(tmp_path))
    assert table(report)["context audio"] == UNSEEN
    assert got(report, "context audio") == (
        "a LEGO request ends before the decoder: AttributeError: "
        "'GenerationParams' object has no attribute 'codes_of_mine'"
    )


def test_time_that_is_up_is_told(tmp_path: Path) -> None:
    endless = SICK.edited("generate", ("TABLES = ", "while True:\n    pass\n\nTABLES = "))
    report = examine(endless.write(tmp_path), time_limit=2.0)
    assert got(report, "steps") == "the probe was still running when its time was up"


def test_guidance_is_held_to_diffusers_own_formula() -> None:
    """The reference of this line is a few lines of ours; diffusers' function is the one that models run with."""
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    draw = torch.Generator().manual_seed(3)
    buffer = MomentumBuffer(guidance.MOMENTUM)
    running = None
    for _ in range(3):
        conditional, null = torch.randn(2, 2, 24, 8, generator=draw, dtype=torch.float64)
        difference = conditional - null
        running = difference if running is None else difference + guidance.MOMENTUM * running
        theirs = normalized_guidance(
            conditional,
            null,
            guidance.SCALE - 1,  # so does AceStepPipeline call it
            buffer,
            eta=0.0,
            norm_threshold=guidance.THRESHOLD,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        assert torch.allclose(guidance.guided(conditional, running), theirs, rtol=0, atol=1e-9)
