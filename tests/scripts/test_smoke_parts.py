"""The parts of the smoke run: what is judged, what is mixed, what the context is made of."""

import io
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console

from smoke import generate, say, session
from smoke.compare import Distances, relative_l2, schedule_distance
from smoke.judge import judge, verdict_on_quantised
from smoke.options import Options
from smoke.report import caption, mix_over_context, print_table
from smoke.request import RECOMMENDED, Request, with_options
from smoke.run import Run

ROOT = Path(__file__).resolve().parent.parent.parent

GOOD_STEM = MappingProxyType({"rms": 0.1, "peak": 0.5, "clipped": 0.0, "samples": 48000})
EQUAL = Distances(schedule=0.0, latents=3e-7)


def a_run(evaluated: int = 50, **stem: float) -> Run:
    """A run that was asked for 50 steps."""
    return Run(50, [1.0] * evaluated, "cpu", 0.1, {}, {**GOOD_STEM, **stem}, {})


def failing(run: Run, distances: Distances = EQUAL) -> dict[str, str]:
    return {check.name: check.sentence for check in judge(run, distances, 48000) if not check.holds}


def test_a_good_run_passes_every_check() -> None:
    assert failing(a_run()) == {}


def test_a_run_of_eight_steps_is_told_by_its_count() -> None:
    sentence = "50 steps were requested, the decoder was evaluated 8 times"
    assert failing(a_run(evaluated=8)) == {"steps": sentence}


@pytest.mark.parametrize(
    ("name", "run", "distances"),
    [
        ("schedule", a_run(), Distances(schedule=1.1e-6, latents=0.0)),
        ("schedule", a_run(), Distances(schedule=float("inf"), latents=0.0)),
        ("latents", a_run(), Distances(schedule=0.0, latents=2.1e-6)),
        ("latents", a_run(), Distances(schedule=0.0, latents=float("nan"))),
        ("velocity", a_run(), Distances(schedule=0.0, velocity=2.1e-6, update=0.0)),
        ("update", a_run(), Distances(schedule=0.0, velocity=0.0, update=6e-7)),
        ("update", a_run(), Distances(schedule=0.0, velocity=0.0, update=float("nan"))),
        ("length", a_run(samples=48001), EQUAL),
        ("sound", a_run(rms=5e-4), EQUAL),
        ("clipping", a_run(clipped=0.01), EQUAL),
    ],
    ids=[
        "schedule off",
        "schedule of other length",
        "latents off",
        "latents nan",
        "velocity off",
        "update off",
        "update nan",
        "stem one sample too long",
        "silent stem",
        "clipped stem",
    ],
)
def test_each_check_fails_alone(name: str, run: Run, distances: Distances) -> None:
    assert list(failing(run, distances)) == [name]


HALF = replace(a_run(), dtype="bfloat16")


def test_half_precision_has_a_bound_of_its_own_and_the_schedule_has_not() -> None:
    assert failing(HALF, Distances(schedule=0.0, latents=1.9e-2)) == {}
    assert failing(HALF, Distances(schedule=1.1e-6, latents=2.1e-2)) == {
        "schedule": "the timesteps differ from PyTorch's by 1.1e-06, at most 1e-06 is right",
        "latents": "the final latents, computed in bfloat16, differ from PyTorch's by 2.1e-02 (relative L2), "
        "at most 2e-02 is right",
    }


@pytest.mark.parametrize(
    ("dtype", "right", "wrong"), [("float16", 2.9e-3, 3.1e-3), ("8bit", 4.9e-2, 5.1e-2), ("4bit", 0.39, 0.41)]
)
def test_each_precision_has_its_bound(dtype: str, right: float, wrong: float) -> None:
    run = replace(a_run(), dtype=dtype)
    assert failing(run, Distances(schedule=0.0, latents=right, velocity=right)) == {}
    assert list(failing(run, Distances(schedule=0.0, latents=wrong, velocity=wrong))) == [
        "latents",
        "velocity",
    ]


def test_a_quantised_decoder_is_said_with_its_distance_and_bound() -> None:
    run, apart = replace(a_run(), dtype="8bit"), Distances(schedule=0.0, latents=1.2e-2)
    words = "quantised, 8 bits: relative L2 1.2e-02 (bound 5e-02)"
    assert verdict_on_quantised(run, apart) == words
    assert verdict_on_quantised(run, None) == "quantised, 8 bits"
    assert verdict_on_quantised(HALF, apart) == ""
    assert caption(run, apart).endswith(f"; {words}")
    (sentence,) = [check.sentence for check in judge(run, apart, 48000) if check.name == "latents"]
    assert sentence == f"the final latents are {words} to PyTorch's in float32"


def test_the_bound_of_half_precision_is_said_below_the_table() -> None:
    assert caption(a_run(), EQUAL) == "distances: to PyTorch at the requested steps"
    assert caption(a_run(), None) == "not compared with PyTorch"
    assert caption(HALF, EQUAL).endswith(
        "of bfloat16 to PyTorch in float32 at the requested steps, latents up to 2e-02 is right"
    )


def test_what_is_no_number_is_put_into_words() -> None:
    distances = Distances(schedule=float("inf"), latents=float("nan"))
    assert failing(a_run(rms=float("nan")), distances) == {
        "schedule": "the timesteps have another length than PyTorch's, or were never seen",
        "latents": "the final latents contain NaN where PyTorch's do not",
        "sound": "the stem contains NaN; those samples are silence in the file",
    }


def test_distances() -> None:
    assert schedule_distance([1.0, 0.5], [1.0, 0.75]) == 0.25
    assert schedule_distance([1.0], [1.0, 0.5]) == float("inf")
    assert relative_l2(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])) == 1.25
    assert relative_l2(torch.zeros(1, 2), torch.zeros(2, 1)) == float("inf")


OF_THE_FORK = (
    "upstream recommends steps 50, guidance 1, shift 1, the track in upper case, no language model for LEGO"
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, f"{OF_THE_FORK}; so does this run; worth giving: --bpm and --key of the song"),
        ({"bpm": 90}, f"{OF_THE_FORK}; so does this run; worth giving: --key of the song"),
        ({"bpm": 90, "key": "C major"}, f"{OF_THE_FORK}; so does this run"),
        (
            {"bpm": 90, "key": "C major", "steps": 8, "guidance_scale": 7.0},
            f"{OF_THE_FORK}; this run has steps 8, guidance 7",
        ),
        ({"checkpoint": None}, None),
    ],
    ids=["neither", "bpm", "both", "other settings", "tiny"],
)
def test_what_is_recommended_and_what_is_worth_giving_is_said(
    given: dict[str, Any], expected: str | None
) -> None:
    request = Request(Path("x.wav"), Path("base"), "drums", 50, 1.0, 1.0, 1, "mlx", "cpu")
    assert say.settings([replace(request, **given)], is_fork=True) == expected


def test_of_a_checkout_nothing_is_said_that_it_decides_itself() -> None:
    request = Request(
        Path("x.wav"), Path("base"), "drums", 50, 1.0, 1.0, 1, "mlx", "cpu", bpm=90, key="C major"
    )
    said = say.settings([request], is_fork=False)
    assert said == "upstream recommends steps 50, guidance 1, shift 1 for LEGO; so does this run"


def test_the_defaults_are_what_upstream_recommends() -> None:
    (request,) = Options(Path("x.wav")).requests()
    assert {name: getattr(request, name) for name in RECOMMENDED} == {
        "steps": 50,
        "guidance_scale": 1,
        "shift": 1,
    }


@pytest.mark.parametrize(
    ("peak", "expected"), [(0.2, 1.0), (0.9, 10 ** (-1 / 20) / 1.8)], ids=["quiet", "loud"]
)
def test_the_mix_is_turned_down_only_where_it_must(peak: float, expected: float) -> None:
    tone = np.full((10, 2), peak)
    mix, gain = mix_over_context(tone, tone)
    assert gain == pytest.approx(expected)
    assert np.allclose(mix, 2 * peak * expected)


def test_smoke_wav_is_what_its_script_renders() -> None:
    from render_smoke_wav import SMOKE_WAV, render

    samples, rate = soundfile.read(SMOKE_WAV)
    assert (rate, samples.shape) == (48000, (288000, 2))
    assert (
        np.abs(samples - render()).max() <= 1.5 / 2**15
    )  # 16 bit, and the last digit of another machine's sine
    assert Path(SMOKE_WAV).stat().st_size < 2_000_000
    assert np.abs(samples).mean() > 0.01
    assert np.abs(samples[:, 0] - samples[:, 1]).max() > 0.01


class TestBlasOfTheRun:
    """mlx's CPU build computes with a fast library, or the user is told that it does not."""

    @pytest.mark.parametrize(
        ("backend", "given"),
        [
            pytest.param("mlx", {"LD_PRELOAD": "libopenblas.so.0", "MLX_ENABLE_TF32": "0"}, id="mlx"),
            pytest.param("torch", {}, id="torch"),
        ],
    )
    def test_process_is_started_with_it(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        tiny_root: Any,
        backend: str,
        given: dict[str, str],
    ) -> None:
        class Seen(Exception):
            pass

        def process(tree: Any, *_: Any) -> None:
            raise Seen(dict(tree.environment))

        monkeypatch.setattr(generate, "Process", process)
        monkeypatch.setattr(
            session, "openblas_environment", lambda: ({"LD_PRELOAD": "libopenblas.so.0"}, "slow")
        )
        options = Options(
            ROOT / "scripts/smoke.wav",
            checkpoint=tiny_root() / "checkpoints/acestep-v15-base",
            backend=backend,
            device="cpu",
        )
        console = Console(record=True, width=200)
        with pytest.raises(Seen) as seen:
            session.run_smoke(ROOT / "ACE-Step-1.5", options, tmp_path / "out", console)
        assert seen.value.args == (given,)
        assert ("note: slow" in console.export_text()) == bool(given)


def test_no_figure_of_the_table_is_cut_at_80_columns() -> None:
    written = io.StringIO()
    console = Console(file=written, width=80)
    far = Distances(schedule=float("inf"), latents=float("inf"))
    near = Distances(schedule=0.0, latents=1.25e-7, velocity=1.5e-7, update=2.5e-8)
    named = [("before: patches reverted", 0.00755, far), ("after: this fork", 0.00655, near)]
    print_table(
        console, [(name, replace(a_run(), seconds_a_step=s), distances) for name, s, distances in named]
    )
    shown = written.getvalue()
    assert max(map(len, shown.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    for figure in ("0.00755", "mismatch", "0.00655", "1.2e-07", "1.5e-07", "2.5e-08"):
        assert figure in shown


def test_messages_name_options_and_leave_paths_alone() -> None:
    message = "/x/low_memory/mlx_precision needs 9 GB; choose a smaller mlx_precision, or use_mlx_dit=False."
    assert with_options(message) == (
        "/x/low_memory/mlx_precision needs 9 GB; choose a smaller --dtype, or --backend torch."
    )
