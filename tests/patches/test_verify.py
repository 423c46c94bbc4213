"""What `verify` says of whole checkouts; each one is run in a probe process, so there are few of them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from patches.verify.report import CaseResult, VerifyReport, render_report, verify_checkout
from tests.patches.mini_checkout import (
    BEFORE,
    FIXED,
    KIND,
    PATCHED,
    MiniCheckout,
    edit,
)


def verify(checkout: MiniCheckout, root: Path, **asked: float) -> VerifyReport:
    return verify_checkout(checkout.write(root), steps=(8, 50), **asked)


def row(report: VerifyReport, model: str, wanted: str) -> CaseResult:
    (found,) = [result for result in report.results if (result.model, result.wanted) == (model, wanted)]
    return found


def bad_rows(report: VerifyReport) -> dict[str, str]:
    return {f"{r.model}, {r.wanted}": r.verdict for r in report.results if not r.ok}


def test_unpatched_checkout_is_asked_50_and_evaluates_8(tmp_path: Path) -> None:
    report = verify(BEFORE, tmp_path)
    assert not report.ok
    assert bad_rows(report) == {
        "base, 50 steps": "asked 50, evaluated 8",
        "base, 40 custom timesteps": "asked 40, evaluated 20, 12 timesteps that nobody asked for",
    }
    assert "python -m patches check" in render_report(report)


def test_upstream_fix_honours_steps_but_not_custom_timesteps(tmp_path: Path) -> None:
    report = verify(FIXED, tmp_path)
    assert row(report, "base", "50 steps").evaluated == 50
    assert list(bad_rows(report)) == ["base, 40 custom timesteps"]


def test_patched_checkout_honours_everything_and_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    PATCHED.write(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    report = verify_checkout(tmp_path, steps=(1, 27, 50), shift=2.5)
    assert report.ok, render_report(report)
    assert [row(report, "base", f"{n} steps").evaluated for n in (1, 27, 50)] == [1, 27, 50]
    assert row(report, "base", "40 custom timesteps").distance == 0.0
    assert row(report, "turbo", "50 steps").evaluated == 8
    assert row(report, "no config", "50 steps").evaluated == 8
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert json.loads(json.dumps(report.to_json()))["ok"] is True
    assert "Everything that was asked for was honoured." in render_report(report)


def test_without_patch_1_the_asked_steps_do_not_arrive(tmp_path: Path) -> None:
    report = verify(replace(PATCHED, execute=BEFORE.execute), tmp_path)
    assert bad_rows(report) == {"base, 50 steps": "asked 50, evaluated 8"}


def test_without_patch_2_mlx_fails_and_the_fallback_is_named(tmp_path: Path) -> None:
    report = verify(replace(PATCHED, diffusion=BEFORE.diffusion), tmp_path)
    assert len(bad_rows(report)) == len(report.results)
    assert row(report, "base", "50 steps").fallback is not None
    assert "PyTorch ran instead of MLX: TypeError" in row(report, "base", "50 steps").verdict
    assert "unexpected keyword argument 'infer_steps'" in row(report, "base", "50 steps").verdict


def test_without_patch_3_mlx_fails_and_the_fallback_is_named(tmp_path: Path) -> None:
    report = verify(replace(PATCHED, generate=BEFORE.generate), tmp_path)
    assert len(bad_rows(report)) == len(report.results)
    assert "mlx_generate_diffusion() got an unexpected keyword" in row(report, "base", "8 steps").verdict


def test_without_the_model_kind_base_stays_on_turbo_s_list(tmp_path: Path) -> None:
    unaware = PATCHED.edited("diffusion", (f"            is_turbo={KIND},\n", ""))
    assert list(bad_rows(verify(unaware, tmp_path))) == ["base, 50 steps", "base, 40 custom timesteps"]


def test_turbo_that_lost_its_table_is_seen(tmp_path: Path) -> None:
    everyone_is_base = PATCHED.edited("diffusion", (KIND, 'not hasattr(self, "config")'))
    assert bad_rows(verify(everyone_is_base, tmp_path)) == {
        "turbo, 50 steps": "evaluated 8 before the patches, 50 now",
        "turbo, 40 custom timesteps": "evaluated 20 before the patches, 40 now",
    }


def test_host_without_config_that_turned_base_is_seen(tmp_path: Path) -> None:
    no_config_is_base = PATCHED.edited(
        "diffusion", (KIND, 'getattr(getattr(self, "config", None), "is_turbo", False)')
    )
    assert bad_rows(verify(no_config_is_base, tmp_path)) == {
        "no config, 50 steps": "evaluated 8 before the patches, 50 now",
        "no config, 40 custom timesteps": "evaluated 20 before the patches, 40 now",
    }


def test_guidance_that_mlx_ignores_is_seen(tmp_path: Path) -> None:
    report = verify(PATCHED, tmp_path, guidance_scale=7.0)
    assert row(report, "base", "50 steps").evaluated == 50
    assert row(report, "base", "50 steps").verdict.startswith("guidance 7 is ignored on MLX")
    assert not report.ok
    assert row(report, "turbo", "8 steps").ok


AWKWARD_EXECUTE = edit(
    PATCHED.execute,
    (
        "import torch\n",
        "import os\n\nimport gradio_nowhere.themes\nimport torch\nfrom sound_nowhere import play\n",
    ),
    ("shift, timesteps\n    ):", "shift, timesteps, task_type: str, reverence: float\n    ):"),
    (
        "        built = {",
        "        print('{}')\n        os.system('echo past python | tee log')\n        built = {",
    ),
    ("audio_cover_strength\n    ):", "audio_cover_strength, guidance_mode, *, more_of_it: int\n    ):"),
    ("        with torch.inf", "        payload['stems'], range(more_of_it), play()\n        with torch.inf"),
)
AWKWARD_DIFFUSION = edit(
    PATCHED.diffusion,
    ("\nfrom acestep.models.mlx.dit_generate import mlx_generate_diffusion\n", ""),
    (
        "        done = ",
        "        from acestep.mlx_dit.generate import mlx_generate_diffusion\n\n        done = ",
    ),
    ('compile_model=getattr(self, "mlx_dit_compiled", False)', "compile_model=True"),
)
GUARDED_IMPORT = """\
try:
    import wavelets_nowhere
except ImportError:
    wavelets_nowhere = None

assert wavelets_nowhere is None
"""
AWKWARD_GENERATE = edit(
    PATCHED.generate,
    ("import numpy as np\n", f"import numpy as np\nfrom bars_nowhere import bar\n\n{GUARDED_IMPORT}"),
    (
        "    import mlx.core as mx\n",
        "    import lazily_nowhere\n    import mlx.core as mx\n\n    lazily_nowhere.log()\n",
    ),
)


def test_awkward_fork_is_run_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Early path, missing libraries (at the top, in a call, guarded), further required parameters, unknown
    payload entries, a compiled decoder, prints on both levels, a log file: none of it hides what the decoder
    saw, or lands where verify was called."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    fork = MiniCheckout(AWKWARD_EXECUTE, AWKWARD_DIFFUSION, AWKWARD_GENERATE, "acestep/mlx_dit/generate.py")
    report = verify(fork, tmp_path / "fork")
    assert report.ok, render_report(report)
    assert list(here.iterdir()) == []


def test_checkout_that_threads_the_model_kind_its_own_way_is_no_fault(tmp_path: Path) -> None:
    """It reads the config unguarded, and takes a model for base where nobody names its kind."""
    own_way = PATCHED.edited("diffusion", (KIND, "self.config.is_turbo"))
    own_way = replace(
        own_way, generate=own_way.generate.replace("is_turbo: bool = True", "is_turbo: bool = False")
    )
    report = verify(own_way, tmp_path)
    assert report.ok, render_report(report)
    assert row(report, "no config", "50 steps").verdict.startswith("not run: this checkout wants a config")
