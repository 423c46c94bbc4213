"""The verdict of every check on small applications with defects and without, and on the fork in this repository."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from patches.cli import main
from patches.doctor import report
from patches.doctor.finding import DEFECT, FINE, SKIPPED
from patches.doctor.registry import CHECKS
from patches.doctor.report import Report, render
from tests.patches.doctor.conftest import FORK, RunDoctor, examined, run_here
from tests.patches.mini_application import APPLICATION, MASKS, MODEL, OLD, SICK, WELL

pytestmark = pytest.mark.subprocess

# Until 0.32 an array that is not computed yet could be used from any thread.
NEEDS_COMPUTED = tuple(map(int, version("mlx").split(".")[:2])) >= (0, 32)
THREADS = DEFECT if NEEDS_COMPUTED else FINE

# Verdicts before guidance came to MLX, and with every defect that came later.
VERDICTS = {
    "steps": (DEFECT, FINE),
    "recorded-steps": (DEFECT, FINE),
    "custom-timesteps": (DEFECT, DEFECT),
    "missing-is-turbo": (DEFECT, FINE),
    "dcw": (FINE, DEFECT),
    "guidance": (DEFECT, FINE),
    "apg-momentum": (SKIPPED, DEFECT),
    "context-audio": (DEFECT, DEFECT),
    "chunk-mask": (FINE, DEFECT),
    "prompt": (DEFECT, DEFECT),
    "thinking": (DEFECT, DEFECT),
    "seed": (DEFECT, DEFECT),
    "repeated-run": (FINE, DEFECT),
    "batch": (DEFECT, DEFECT),
    "mlx-failure": (DEFECT, DEFECT),
    "worker-thread": (THREADS, THREADS),
    "short-context": (FINE, DEFECT),
    "cover-noise-strength": (DEFECT, DEFECT),
    "lora": (DEFECT, DEFECT),
    "adg": (DEFECT, DEFECT),
    "heun": (DEFECT, DEFECT),
    "sde": (DEFECT, DEFECT),
    "pytorch-timesteps": (DEFECT, DEFECT),
}
OBSERVED = {
    "recorded-steps": "a record of 50, 50 evaluated",
    "dcw": "PyTorch without pytorch_wavelets leaves it out, which only the log says",
    "apg-momentum": "; it is the one with momentum +1 (a running sum, +1)",
    "context-audio": "whole length: 150 of 150 frames silenced; 2 s to 4 s: 50 of 150 frames silenced",
    "chunk-mask": "whole length 1, inside the range 1, outside 1",
    "prompt": '"Make music of the words:"',
    "thinking": "codes of the language model in the context's place",
    "repeated-run": "the second run has the conditions of the first",
    "mlx-failure": "PyTorch ran in its place, success was reported",
    "short-context": "3 s: MLX 0, PyTorch 53; 2 s to 4 s of 6 s: MLX 0, PyTorch 100",
    "cover-noise-strength": "8 steps from t = 1, from other latents",
    "heun": "MLX: APG in the corrector (momentum +1)",
    "pytorch-timesteps": "1, 0.75 evaluated: the last one is used as the end",
}


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: finding.verdict for check, finding in report.findings}


def observed(report: Report, name: str) -> str:
    return next(finding.observed for check, finding in report.findings if check.name == name)


def test_table_covers_every_check() -> None:
    assert list(VERDICTS) == [check.name for check in CHECKS]


def test_of_an_application_before_guidance_on_mlx(run_doctor: RunDoctor, tmp_path: Path) -> None:
    before_guidance = examined(run_doctor, OLD, tmp_path)
    expected = {name: old for name, (old, _) in VERDICTS.items()}
    assert verdicts(before_guidance) == expected, render(before_guidance)
    assert observed(before_guidance, "steps") == "8, 8, 8 evaluated, at other timesteps"
    assert observed(before_guidance, "recorded-steps") == "a record of 50, 8 evaluated"
    assert observed(before_guidance, "apg-momentum").startswith("MLX applies no guidance here")


def test_of_an_application_with_every_later_defect(all_defects: Report) -> None:
    assert verdicts(all_defects) == {name: late for name, (_, late) in VERDICTS.items()}, render(all_defects)
    for name, end in OBSERVED.items():
        assert observed(all_defects, name).endswith(end)


def test_of_an_application_without_defects_is_all_fine(run_doctor: RunDoctor, tmp_path: Path) -> None:
    found = examined(run_doctor, WELL, tmp_path)
    assert verdicts(found) == dict.fromkeys(VERDICTS, FINE), render(found)


def test_of_the_fork_is_all_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: other tests have imported diffusers here, which takes 2.5 s in a process of its own."""
    monkeypatch.setattr(report, "run_module", run_here)
    found = report.examine(FORK)
    assert verdicts(found) == dict.fromkeys(VERDICTS, FINE), render(found)


def test_correction_is_shown_to_grow_with_the_steps(all_defects: Report) -> None:
    found = re.findall(
        r"([0-9.]+) from the clean latents without it, ([0-9.]+)", observed(all_defects, "dcw")
    )
    off, on = zip(*((float(a), float(b)) for a, b in found), strict=True)
    assert sorted(off, reverse=True) == list(off)
    added = [b - a for a, b in zip(off, on, strict=True)]
    assert sorted(added) == added
    assert added[-1] > 0.1


def test_units_are_those_of_a_checkout_at_192_khz(tmp_path: Path, run_doctor: RunDoctor) -> None:
    """One frame is 1920 samples, so that a second has 100 frames."""
    application = (
        WELL.edited(APPLICATION, ("self.lora_loaded = False\n", "self.sample_rate = 192_000\n"))
        .edited(APPLICATION, ("frames / 25", "frames / 100"))
        .edited(
            MASKS,
            (
                "int(repainting_start[i] * 25), int(end * 25)",
                "int(repainting_start[i] * 100), int(end * 100)",
            ),
        )
    )
    names = ["context-audio", "chunk-mask", "short-context", "cover-noise-strength", "thinking"]
    report = run_doctor(application.write(tmp_path), names)
    assert verdicts(report) == dict.fromkeys(sorted(names, key=list(VERDICTS).index), FINE), render(report)
    assert observed(report, "short-context").startswith(
        "frames of the source put back between the steps, 0.75 s: MLX 0, PyTorch 0"
    )


def test_another_momentum_of_its_own_pytorch_is_named(tmp_path: Path, run_doctor: RunDoctor) -> None:
    application = WELL.edited(MODEL, ("without - 0.75 * memory", "without - 0.0 * memory"))
    report = run_doctor(application.write(tmp_path), ["apg-momentum"])
    assert verdicts(report) == {"apg-momentum": FINE}
    assert observed(report, "apg-momentum").endswith("; this checkout's own PyTorch has momentum +0")


WITHOUT_SAMPLER = (
    ("    def velocity(x, t):\n", "    def velocity(x, t, corrector=False):\n"),
    (
        "    sampler_mode='euler',\n    use_adg=False,\n    cover",
        "    sampler='euler',\n    use_adg=False,\n    cover",
    ),
)
HEUN_BY_METHOD = (
    ('dcw_enabled=True, sampler_mode="euler",', "dcw_enabled=True,"),
    ('elif sampler_mode == "heun":', 'elif infer_method == "heun":'),
)


@pytest.mark.parametrize(
    ("on_mlx", "verdict", "seen"),
    [
        ("sampler == 'heun'", DEFECT, "PyTorch: Heun; MLX: Euler, without an error"),
        (
            "infer_method == 'heun'",
            FINE,
            "PyTorch: plain CFG in the corrector (momentum -0.75); MLX: plain CFG",
        ),
    ],
    ids=["Euler on MLX", "Heun on both"],
)
def test_heun_that_is_chosen_by_infer_method(
    on_mlx: str, verdict: str, seen: str, tmp_path: Path, run_doctor: RunDoctor
) -> None:
    application = WELL.edited(MODEL, *HEUN_BY_METHOD).edited(
        "generate", *WITHOUT_SAMPLER, ("sampler_mode == 'heun'", on_mlx)
    )
    report = run_doctor(application.write(tmp_path), ["heun"])
    assert verdicts(report) == {"heun": verdict}, render(report)
    assert observed(report, "heun").startswith(seen)


@pytest.mark.parametrize(
    ("on_mlx", "seen"),
    [("infer_method == 'sde'", "PyTorch adds none; MLX 0.9"), ("False", "PyTorch adds none; MLX adds none")],
    ids=["in PyTorch", "on both"],
)
def test_sde_that_adds_no_noise_is_a_defect(
    on_mlx: str, seen: str, tmp_path: Path, run_doctor: RunDoctor
) -> None:
    """Without new noise the latents have the very level that SDE would give them."""
    application = WELL.edited(MODEL, ('if infer_method == "sde":', "if False:"))
    application = application.edited("generate", ("if infer_method == 'sde':", f"if {on_mlx}:"))
    report = run_doctor(application.write(tmp_path), ["sde"])
    assert verdicts(report) == {"sde": DEFECT}
    assert observed(report, "sde").startswith(seen)


def test_after_both_series_the_defects_without_a_patch_are_left(
    tmp_path: Path, run_doctor: RunDoctor
) -> None:
    root = str(SICK.write(tmp_path))
    assert main(["apply", root]) == main(["apply", root, "--series", "lego"]) == 0
    report = run_doctor(tmp_path)
    left = [check for check, finding in report.findings if finding.verdict == DEFECT]
    assert [check.name for check in left] == [
        "chunk-mask",
        "repeated-run",
        "batch",
        "short-context",
        "cover-noise-strength",
        "lora",
        "adg",
        "heun",
        "sde",
        "pytorch-timesteps",
    ]
    assert not any("{" in check.remedy for check in left)
