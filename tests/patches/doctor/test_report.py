"""What the doctor prints, its JSON, its exit status, and the choice of checks."""

import json
from pathlib import Path

import pytest

from patches.cli import main
from patches.doctor.finding import DEFECT, FINE, SKIPPED, Finding
from patches.doctor.registry import CHECKS, Check, UnknownCheck, select
from patches.doctor.report import Report, examine, render
from patches.harness.process import ChildResult
from patches.report import command
from tests.patches.mini_checkout import BEFORE

CHECK = {check.name: check for check in CHECKS}
PATH = Path("some checkout")
APPLY = command("apply", PATH)


def report(**findings: str) -> Report:
    """A report with a verdict for each check; its names are written with underscores."""
    return Report(
        PATH,
        {"mlx": "0.32"},
        tuple(
            (CHECK[name.replace("_", "-")], Finding(verdict, "40 timesteps", "20", "dit_generate.py"))
            for name, verdict in findings.items()
        ),
    )


MIXED = report(
    steps=FINE, custom_timesteps=DEFECT, prompt=DEFECT, seed=DEFECT, sde=DEFECT, worker_thread=SKIPPED
)


def test_text_has_one_row_for_each_check() -> None:
    lines = render(MIXED).splitlines()
    assert lines[0] == "some checkout: LEGO, run with fakes for the models (mlx 0.32)"
    assert lines[1].startswith("Only the check dcw leaves the wavelet correction")
    assert lines[3].split()[:2] == ["steps", "fine"]
    assert lines[4] == (
        "custom-timesteps  DEFECT   requested: 40 timesteps; observed: 20; in dit_generate.py"
        "  [upstream: a12a25a (2026-02-11) to the newest known state]"
    )
    assert "worker-thread     skipped  because 20" in lines[8]
    assert "6 checks: 1 fine, 4 defects, 1 skipped." in lines


def test_text_ends_with_what_to_do_for_each_defect() -> None:
    lines = render(MIXED).splitlines()
    assert lines[-3:] == [
        f"custom-timesteps: {APPLY}",
        f"prompt, seed: {APPLY} --series lego",
        "sde: give infer_method='ode', where PyTorch is to be compared",
    ]


@pytest.mark.parametrize("applied", [False, True])
def test_defect_of_steps_is_not_to_be_patched_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    root = BEFORE.write(tmp_path)
    remedy = command("apply", root)
    if applied:
        assert main(["apply", str(root)]) == 0
        verify = command("verify", root)
        remedy = f"the patches are applied, and other code decides the steps; to see which, run {verify}"
    finding = {"name": "steps", "finding": Finding(DEFECT, "8 steps", "5", "dit_generate.py").to_json()}
    child = ChildResult(({"versions": {}}, finding), None)
    monkeypatch.setattr("patches.doctor.report.run_module", lambda *_: child)
    assert render(examine(root, ["steps"])).splitlines()[-1] == f"steps: {remedy}"


def test_json_names_defects_and_skipped_checks() -> None:
    data = json.loads(json.dumps(MIXED.to_json()))
    assert data["defects"] == ["custom-timesteps", "prompt", "seed", "sde"]
    assert data["skipped"] == ["worker-thread"]
    assert data["checks"][1]["remedy"] == APPLY
    assert data["checks"][1]["verdict"] == DEFECT


@pytest.mark.parametrize(
    ("found", "allowed", "status"),
    [
        (report(steps=FINE, sde=FINE), [], 0),
        (report(steps=FINE, sde=DEFECT), [], 1),
        (report(steps=FINE, sde=DEFECT), ["sde"], 0),
        (report(steps=DEFECT, sde=DEFECT), ["sde"], 1),
        (report(steps=FINE, sde=SKIPPED), [], 1),
        (report(steps=FINE, sde=SKIPPED), ["sde"], 0),
        (Report(PATH, {}, (), "torch is missing"), ["sde"], 3),
    ],
)
def test_exit_status(found: Report, allowed: list[str], status: int) -> None:
    assert found.exit_status(allowed) == status


def test_allowed_checks_are_named() -> None:
    assert "Allowed, and not counted in the exit status: sde, worker-thread." in render(
        MIXED, ["sde", "worker-thread", "steps"]
    )


def test_log_of_a_ci_run_ends_with_the_checks_that_are_not_allowed() -> None:
    last = render(MIXED, ["prompt", "steps", "seed"]).splitlines()[-1]
    assert last == "Not allowed: custom-timesteps, sde, worker-thread."
    everything = [*MIXED.defects, "worker-thread"]
    assert "Not allowed" not in render(MIXED) + render(MIXED, everything)


def test_selection_keeps_the_order_of_the_registry() -> None:
    assert [check.name for check in select(["sde", "steps"])] == ["steps", "sde"]
    assert [check.name for check in select(["sde, steps", "lora"])] == ["steps", "lora", "sde"]
    assert select(None) == CHECKS
    with pytest.raises(UnknownCheck):
        select(["steps", ""])


def test_every_check_has_one_module() -> None:
    folder = Path(__file__).parents[3] / "patches" / "doctor" / "checks"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == {check.module for check in CHECKS}
    assert all(isinstance(check, Check) and check.what and check.remedy for check in CHECKS)


FOUND = Finding(FINE, "50 steps", "50 evaluated", "dit_generate.py").to_json()


@pytest.mark.parametrize(
    "answer", [None, [], {"verdict": FINE}, {**FOUND, "where": 1}, {**FOUND, "verdict": "good"}]
)
def test_finding_that_the_checkout_made_up_is_not_read(answer: object) -> None:
    assert Finding.from_json(answer) is None
    assert Finding.from_json(FOUND) == Finding(**FOUND)


def test_upstream_states_are_named() -> None:
    assert CHECK["batch"].upstream == "no known state"
    assert CHECK["seed"].upstream == "before a12a25a to the newest known state"
    assert CHECK["dcw"].upstream == "be74cd5 (2026-04-23) to b751bd2 (2026-08-16)"
