"""What the report says of checkouts that are not cut by an edit: unpatched, patched in part, awkward, not runnable."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from patches.errors import KitError
from patches.harness.process import ChildResult
from patches.verify import VerifyReport, render_report, run, verify_checkout
from patches.verify.cases import FURTHER, FURTHER_STEPS, FURTHER_TIMESTEPS, Case, Observation, plan_cases
from patches.verify.judge import CaseResult, judge
from tests.patches.mini_checkout import KIND as KIND_OF_HOST
from tests.patches.mini_checkout import MiniCheckout
from tests.patches.verify.checkouts import at_import, patched
from tests.patches.verify.cuts import (
    CALL_GENERATE,
    COUNT,
    CURRENT,
    DCW,
    FETCH,
    FORWARD,
    FOUND_BY,
    GUIDED,
    IN_ORDER,
    PASS,
    RUNS,
    SECOND_HALF,
    STEADY,
    UNCOUNTED,
)

Verify = Callable[..., VerifyReport]
KIND = f"            is_turbo={KIND_OF_HOST},\n"
STEPS_OF_DIFFUSION = "        infer_steps: int = 8,\n"


def bad(report: VerifyReport) -> dict[str, set[str]]:
    """The verdicts that are not well, by request."""
    found: dict[str, set[str]] = {}
    for result in report.results:
        if not result.ok:
            found.setdefault(f"{result.model}, {result.request}", set()).add(result.verdict)
    return found


def rows(report: VerifyReport, model: str, request: str) -> list[CaseResult]:
    return [result for result in report.results if (result.model, result.request) == (model, request)]


def test_without_the_patches_50_steps_are_8(verify: Verify) -> None:
    """88c9f20 as upstream has it: nothing is passed on, and the schedule knows turbo alone."""
    unpatched = (
        patched("88c9f20")
        .edited("execute", (PASS, ""))
        .edited("diffusion", (STEPS_OF_DIFFUSION, ""), (FORWARD, ""), (KIND, ""))
    )
    report = verify(unpatched, RUNS - {FURTHER}, steps=(8, 50))
    assert bad(report) == {
        "base, 50 steps": {"requested 50, evaluated 8"},
        "XL base, 50 steps": {"requested 50, evaluated 8"},
        "base, 40 custom timesteps": {
            "requested 40, evaluated 20, 12 of them timesteps that were not requested",
            "requested 40, evaluated 20, 14 of them timesteps that were not requested",
        },
        "base, 300 custom timesteps": {
            "requested 300, evaluated 20, 3 of them timesteps that were not requested"
        },
    }
    assert report.cut[0] == (
        "cut: infer_steps does not arrive at _mlx_run_diffusion, called at "
        "acestep/core/generation/handler/service_generate_execute.py:23"
    )
    assert report.cut[1] == (
        "on the way, 50 steps (in order): infer_steps requested: 50; as it arrived at _mlx_run_diffusion: none; "
        "at mlx_generate_diffusion: 8; at get_timestep_schedule: 8; values that it returned: 8; "
        "decoder evaluations: 8"
    )


def test_steps_without_custom_timesteps_are_not_enough(verify: Verify) -> None:
    """As upstream stands since 82a5d84: steps are passed on, custom timesteps are cut and snapped."""
    upstream = patched("82a5d84").edited("generate", ("not is_turbo and timesteps is not None", "False"))
    report = verify(upstream, {IN_ORDER, FURTHER}, steps=(8, 50))
    assert list(bad(report)) == [
        "base, 40 custom timesteps",
        "base, 300 custom timesteps",
        "base, further timesteps",
    ]
    assert not report.honoured


def test_patch_of_diffusion_missing_makes_mlx_fail(verify: Verify) -> None:
    report = verify(
        patched("88c9f20").edited("diffusion", (STEPS_OF_DIFFUSION, "")), {IN_ORDER}, steps=(8, 50)
    )
    assert {verdict for verdicts in bad(report).values() for verdict in verdicts} == {
        "PyTorch ran instead of MLX: TypeError: DiffusionMixin._mlx_run_diffusion() got an unexpected keyword "
        "argument 'infer_steps' (service_generate_execute.py:23)"
    }
    assert not report.honoured
    assert rows(report, "base", "50 steps")[0].fallback is not None


def test_turbo_that_lost_its_table_is_not_honoured(verify: Verify) -> None:
    everyone_is_base = patched("88c9f20").edited(
        "diffusion", (KIND, '            is_turbo=not hasattr(self, "config"),\n')
    )
    assert bad(verify(everyone_is_base, {IN_ORDER}, steps=(8, 50))) == {
        "turbo, 50 steps": {"evaluated 50, the schedule before the patches has 8 values"},
        "turbo, 40 custom timesteps": {"evaluated 40, the schedule before the patches has 20 values"},
    }


def test_host_without_config_that_became_base_is_not_honoured(verify: Verify) -> None:
    kind = '            is_turbo=getattr(getattr(self, "config", None), "is_turbo", False),\n'
    assert bad(verify(patched("88c9f20").edited("diffusion", (KIND, kind)), {IN_ORDER}, steps=(8, 50))) == {
        "no config, 50 steps": {"evaluated 50, the schedule before the patches has 8 values"},
        "no config, 40 custom timesteps": {"evaluated 40, the schedule before the patches has 20 values"},
    }


def test_model_kind_read_unguarded_from_the_config_is_no_fault(verify: Verify) -> None:
    own = patched("88c9f20").edited("diffusion", (KIND, "            is_turbo=self.config.is_turbo,\n"))
    report = verify(
        own.edited("generate", ("infer_steps=8, is_turbo=True)", "infer_steps=8, is_turbo=False)")),
        {IN_ORDER},
        steps=(8, 50),
    )
    assert report.honoured, render_report(report)
    assert rows(report, "no config", "50 steps")[0].verdict.startswith(
        "not run: this checkout needs a config"
    )


def test_ignored_guidance_is_a_finding_and_no_fault(verify: Verify) -> None:
    report = verify(patched("88c9f20"), {"guidance 5"}, steps=(8, 50), guidance_scale=5.0)
    assert report.honoured
    assert report.findings == ("guidance 5 is ignored on MLX (upstream applies it there since 82a5d84)",)
    assert verify(patched("82a5d84"), {GUIDED}, steps=(8, 50)).findings == ()


FAILS_IN_A_THREAD = (
    CURRENT,
    "        import threading\n\n"
    "        if threading.current_thread() is not threading.main_thread():\n"
    "            raise RuntimeError('There is no Stream(gpu, 0) in current thread.')\n" + CURRENT,
)


def test_worker_thread_that_falls_back_is_a_finding_and_no_fault(verify: Verify) -> None:
    report = verify(
        patched("82a5d84").edited("generate", FAILS_IN_A_THREAD), {IN_ORDER, "worker thread"}, steps=(8, 50)
    )
    assert report.honoured, render_report(report)
    (finding,) = report.findings
    assert finding.startswith(
        "in a worker thread PyTorch runs instead of MLX: RuntimeError: There is no Stream("
    )
    (row,) = [row for row in rows(report, "base", "50 steps") if row.run == "worker thread"]
    assert (row.evaluated, row.verdict) == (0, "not on MLX: the worker thread falls back to PyTorch")


def test_steps_that_depend_on_what_ran_before_are_told(verify: Verify) -> None:
    first_only = patched("82a5d84").edited(
        "generate",
        ("GRID = ", "_RUNS = []\nGRID = "),
        (
            FETCH,
            f"{FETCH}    _RUNS.append(1)\n    if len(_RUNS) == 3:\n        t_schedule_list = t_schedule_list[:5]\n",
        ),
    )
    report = verify(first_only, {IN_ORDER}, steps=(8, 50))
    assert not report.honoured
    assert report.cut[0].endswith("were evaluated as requested: it depends on what ran before.")


AWKWARD = (
    patched("82a5d84")
    .edited(
        "execute",
        ("import torch\n", "import gradio_nowhere.themes\nimport torch\nfrom sound_nowhere import play\n"),
        (
            "infer_method, shift, timesteps\n    ):",
            "infer_method, shift, timesteps, task_type: str, mode: float\n    ):",
        ),
        ("        built = {", "        print('{}')\n        built = {"),
        ("audio_cover_strength\n    ):", "audio_cover_strength, guidance_mode, *, count: int\n    ):"),
        ("        with torch.inf", "        payload['stems'], range(count), play()\n        with torch.inf"),
    )
    .edited(
        "generate",
        (
            "import numpy as np\n",
            "import numpy as np\nfrom bars_nowhere import bar\n\n"
            "try:\n    import wavelets_nowhere\nexcept ImportError:\n    wavelets_nowhere = None\n"
            "assert wavelets_nowhere is None\n",
        ),
        (
            "    import mlx.core as mx\n",
            "    import lazily_nowhere\n    import mlx.core as mx\n\n    lazily_nowhere.log()\n",
        ),
    )
)


def test_awkward_fork_is_run_as_it_is(verify: Verify) -> None:
    """Libraries missing at the top, guarded, or inside a call; further required parameters; unknown payload entries."""
    report = verify(AWKWARD, {IN_ORDER}, steps=(8, 50))
    assert report.honoured, render_report(report)


def test_rows_of_one_evaluation_that_have_several_timesteps_are_told(verify: Verify) -> None:
    name = "timesteps_differ_in_a_batch"
    report = verify(UNCOUNTED[name](patched("82a5d84")), FOUND_BY[name].of)
    assert report.results[0].verdict.startswith(
        "raised RuntimeError: one decoder evaluation was given several timesteps: ["
    )


@pytest.mark.parametrize(
    ("checkout", "problem"),
    [
        pytest.param(
            patched("88c9f20").edited("generate", ("TABLES = ", "FIRST = math.pi\nTABLES = ")),
            "acestep/models/mlx/dit_generate.py does not import: NameError: name 'math' is not defined "
            "(dit_generate.py:3)",
            id="does_not_import",
        ),
        pytest.param(
            patched("88c9f20").edited(
                "diffusion", ("import torch\n", "import torch\nfrom acestep.gone import x\n")
            ),
            "acestep/core/generation/handler/diffusion.py does not import: ModuleNotFoundError: "
            "No module named 'acestep.gone' (diffusion.py:2)",
            id="part_missing",
        ),
        pytest.param(
            at_import("import sys\nsys.exit('needs a GPU')"),
            "acestep/models/mlx/dit_generate.py does not import: SystemExit: needs a GPU (dit_generate.py:4)",
            id="sys_exit",
        ),
        pytest.param(
            patched("88c9f20").edited(
                "diffusion", (CALL_GENERATE, f"        self.show_progress()\n{CALL_GENERATE}")
            ),
            "it reads self.show_progress, which only the whole application has",
            id="whole_application",
        ),
        pytest.param(
            patched("88c9f20").edited(
                "diffusion", (CALL_GENERATE, f"        self.config.get('limit')\n{CALL_GENERATE}")
            ),
            "it reads self.config.get, which only the whole application has",
            id="whole_config",
        ),
        pytest.param(
            patched("88c9f20").edited("diffusion", ("_mlx_run_diffusion", "_run")),
            "acestep.core.generation.handler.diffusion has no class that defines _mlx_run_diffusion",
            id="no_mixin",
        ),
        pytest.param(
            MiniCheckout(
                patched("88c9f20").execute,
                patched("88c9f20").diffusion,
                "def mlx_generate_diffusion(): pass\n",
            ),
            "acestep.models.mlx.dit_generate does not define get_timestep_schedule",
            id="no_schedule",
        ),
    ],
)
def test_checkout_that_cannot_be_run_is_a_problem(
    verify: Verify, checkout: MiniCheckout, problem: str
) -> None:
    report = verify(checkout, steps=(8,))
    assert report.problem == problem
    assert not report.honoured
    assert render_report(report).endswith(f" cannot be run, because {problem}")


@pytest.mark.parametrize("value", ["False", "'fast'"])
@pytest.mark.parametrize("beside", [True, False], ids=["beside-acestep", "not-installed"])
def test_setting_of_another_module_decides_as_it_would_in_the_application(
    verify: Verify, tmp_path: Path, value: str, beside: bool
) -> None:
    """A stub in its place would let the steps pass, whatever the setting is."""
    condition = "not library_settings.MODE" if value == "False" else "library_settings.MODE == 'fast'"
    checkout = at_import("import library_settings").edited(
        "generate",
        (COUNT, f"{COUNT}    if {condition}:\n        num_steps = min(num_steps, 5)\n"),
    )
    root = checkout.write(tmp_path / "checkout")
    if beside:
        (root / "library_settings.py").write_text(f"MODE = {value}\n")
    report = verify(root, {IN_ORDER}, steps=(8,))
    assert not report.honoured
    assert (report.problem is None) == beside
    if not beside:
        assert report.problem == (
            "what it runs depends on library_settings.MODE, of what is not installed here; install it"
        )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(None, "ended without an answer", id="nothing"),
        pytest.param({}, "gave an answer of another form", id="empty"),
        pytest.param({"observations": 5, "versions": {}}, "gave an answer of another form", id="number"),
        pytest.param(
            {"observations": [{}], "versions": {}}, "gave an answer of another form", id="no_fields"
        ),
        pytest.param(
            {"observations": [], "versions": []}, "gave an answer of another form", id="no_versions"
        ),
        pytest.param({"observations": [], "versions": {}}, "answered for 0 of", id="too_few"),
    ],
)
def test_forged_or_missing_answer_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, object] | None, problem: str
) -> None:
    answers = () if data is None else (data,)
    monkeypatch.setattr(run, "run_module", lambda *_: ChildResult(answers, None))
    report = verify_checkout(patched("88c9f20").write(tmp_path / "checkout"))
    assert not report.honoured
    assert report.problem is not None
    assert report.problem.startswith(f"the child process {problem}")


@pytest.mark.parametrize(
    ("requested", "sentence"),
    [
        pytest.param({"steps": ()}, "steps: expected at least one number of steps, found none", id="none"),
        pytest.param({"steps": (8, 0)}, "steps: expected whole numbers from 1 to 10000, found 0", id="zero"),
        pytest.param(
            {"steps": (10**9,)}, "steps: expected whole numbers from 1 to 10000, found 1000000000", id="huge"
        ),
        pytest.param({"shift": 0.0}, "shift: expected a finite number above 0, found 0.0", id="shift"),
        pytest.param(
            {"guidance_scale": float("nan")},
            "guidance scale: expected a finite number of at least 1, found nan",
            id="guidance",
        ),
    ],
)
def test_request_that_makes_no_sense_is_refused(
    tmp_path: Path, requested: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(KitError, match=f"^{sentence}$") as caught:
        verify_checkout(patched("88c9f20").write(tmp_path / "checkout"), **requested)
    assert caught.value.exit_status == 2


EIGHT = tuple(3 * t / (1 + 2 * t) for t in (i / 8 for i in range(8, 0, -1)))
BASE, TURBO = Case("base", {"is_turbo": False}, 8), Case("turbo", {"is_turbo": True}, 8)
CUSTOM = Case("base", {"is_turbo": False}, 8, timesteps=(1.0, 0.7, 0.2))


def seen(evaluated: tuple[float, ...], **other: object) -> Observation:
    fields: dict[str, object] = {
        "evaluated": evaluated,
        "guided": 0,
        "reference": EIGHT,
        "unpatched": evaluated,
        "latents": 1e-7,
        "fallback": None,
        "error": None,
    }
    return Observation(**{**fields, **other})  # type: ignore[arg-type]


def moved(timesteps: tuple[float, ...], by: float) -> tuple[float, ...]:
    return (*timesteps[:-1], timesteps[-1] + by)


@pytest.mark.parametrize(
    ("case", "observation", "verdict"),
    [
        pytest.param(BASE, seen(moved(EIGHT, 1e-7)), "honoured", id="base_within_float32"),
        pytest.param(
            BASE, seen(moved(EIGHT, 2e-6)), "other timesteps than expected, by up to 2e-06", id="base_moved"
        ),
        pytest.param(
            CUSTOM,
            seen(moved(CUSTOM.timesteps or (), 1e-7), reference=CUSTOM.timesteps),
            "other timesteps than expected, by up to 1e-07",
            id="custom_has_no_tolerance",
        ),
        pytest.param(
            BASE, seen(moved(EIGHT, float("nan"))), "timesteps that are not finite numbers", id="not_a_number"
        ),
        pytest.param(
            BASE,
            seen(EIGHT, latents=1e-3),
            "the count is right, the latents are not those of these steps (relative L2 0.001 away)",
            id="latents",
        ),
        pytest.param(
            BASE,
            seen(EIGHT, latents=None),
            "the count is right, the latents are not those of these steps (relative L2 not finite)",
            id="latents_not_finite",
        ),
        pytest.param(replace(BASE, dcw=True), seen(EIGHT, latents=None), "honoured", id="latents_of_dcw"),
        pytest.param(TURBO, seen(EIGHT), "as before the patches", id="turbo"),
        pytest.param(
            TURBO,
            seen(tuple(i / 8 for i in range(8, 0, -1))),
            "not the 8 timesteps that turbo models were distilled for",
            id="turbo_table_of_another_shift",
        ),
        pytest.param(
            TURBO, seen(EIGHT, unpatched=None), "the checkout's own schedule raises for this", id="raises"
        ),
        pytest.param(
            BASE, seen((), error="KeyError: 'x' (a.py:8)"), "raised KeyError: 'x' (a.py:8)", id="error"
        ),
    ],
)
def test_verdict(case: Case, observation: Observation, verdict: str) -> None:
    result = judge(case, observation)
    assert result.verdict == verdict
    assert result.ok is (verdict in {"honoured", "as before the patches"})


def test_every_base_request_runs_in_every_way() -> None:
    cases = plan_cases((27, 1000), shift=2.0, guidance_scale=5.0)
    further = [case for case in cases if case.run == FURTHER]
    assert {case.steps for case in further if case.timesteps is None} == set(FURTHER_STEPS)
    assert {case.timesteps for case in further if case.timesteps} == set(FURTHER_TIMESTEPS)
    assert len({(c.frames, c.batch, c.guidance_scale, c.shift) for c in further}) == len(further)
    cases = [case for case in cases if case.run != FURTHER]
    base = [case for case in cases if case.model == "base"]
    requests = ["27 steps", "1000 steps", *["40 custom timesteps"] * 2, "300 custom timesteps"]
    ways = ["in order", "guidance 5", "compiled", "worker thread", "shift 1", "reverse order"]
    once = [case for case in base if case.run in ("shift 2.5", STEADY, SECOND_HALF, DCW)]
    assert [(c.run, c.requested, c.shift, c.steady, c.part, c.dcw, c.noise) for c in once] == [
        ("shift 2.5", "27 steps", 2.5, False, False, False, None),
        (STEADY, "27 steps", 2.0, True, False, False, None),
        (SECOND_HALF, "27 steps", 2.0, False, True, False, None),
        (DCW, "27 steps", 2.0, False, False, True, None),
    ]
    cases = [case for case in cases if case not in once]
    base = [case for case in base if case not in once]
    assert [(case.run, case.requested) for case in base if case.batch == 1] == [
        (way, request) for way in ways for request in (requests[::-1] if way == "reverse order" else requests)
    ]
    real_size = [(c.model, c.run, c.requested) for c in cases if c.batch == 2 and c.frames == 1500]
    assert real_size == [
        ("XL base", "batch of 2 at 60 s", "27 steps"),
        ("base", "batch of 2 at 60 s", "40 custom timesteps"),
    ]
    assert {c.run for c in base if not c.lego} == {"in order"}
    assert {c.noise for c in base if c.run == "shift 1"} == {(2**32 - 1,)}
    assert {case.shift for case in cases if case.run != "shift 1"} == {2.0}
    assert {case.shift for case in cases if case.run == "shift 1"} == {1.0}
    assert {case.run for case in base if case.guidance_scale == 5.0} == {"guidance 5"}
    assert {case.run for case in base if case.thread} == {"worker thread"}
    assert {case.run for case in base if case.compiled} == {"compiled"}
    assert len({case.seed for case in cases}) == len(cases)


def test_table_shows_one_row_for_all_runs_of_a_request() -> None:
    fell_back = seen((), fallback="TypeError: no such keyword (diffusion.py:3)")
    one = Case("base", {"is_turbo": False}, 8, run="in order")
    other = Case("base", {"is_turbo": False}, 8, run="reverse order")
    results = (judge(one, seen(EIGHT)), judge(TURBO, seen(EIGHT)), judge(other, fell_back))
    report = VerifyReport(
        Path("here"), 3.0, 7.0, {"mlx": "0.1"}, results, ("something else",), ("cut: at x.py:3",)
    )
    assert render_report(report).splitlines() == [
        "here: its own three files, run with a fake decoder (shift 3; mlx 0.1)",
        "base: each request runs in order, reverse order; one row for all of its runs. Each further one runs once, at "
        "another shift, guidance, batch and length, compiled or in a thread",
        "",
        "model  request  requested  evaluated  distance  fallback  verdict",
        "base   8 steps  8          0          -         PyTorch   NOT OK (reverse order): "
        "PyTorch ran instead of MLX: TypeError: no such keyword (diffusion.py:3)",
        "turbo  8 steps  8          8          0         no        as before the patches",
        "",
        "finding: something else",
        "cut: at x.py:3",
        "1 of 2 requests were not honoured.",
    ]
    assert json.loads(json.dumps(report.to_json()))["honoured"] is False
