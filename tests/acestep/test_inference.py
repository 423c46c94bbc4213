"""Requests that are refused, each with its whole sentence, before anything is read or run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acestep.core.generation.handler.generate_music_request import MAX_SEED, check_request, resolve_seeds
from acestep.core.generation.handler.request_values import show
from acestep.errors import AudioError, RequestError
from acestep.inference import GenerationConfig, GenerationParams, generate_music

FALL = "expected 1 to 1000 numbers that fall from at most 1 to above 0; zeros at the end are left out"
NO_LANGUAGE_MODEL = (
    "is True; this fork has no language model, and with one a LEGO request would lose its "
    "context audio: give False"
)


class Untouchable:
    """A handler that must not be asked for anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the handler was asked for {name}")


def refusal(config: dict[str, Any] | None = None, **params: Any) -> str:
    """The sentence of a request that is refused; nothing was run."""
    result = generate_music(
        Untouchable(),
        None,
        GenerationParams(**{"src_audio": "context.wav", **params}),
        GenerationConfig(**{"use_random_seed": False, "seeds": [1], **(config or {})}),
    )
    assert result.success is False
    assert result.audios == []
    assert isinstance(result.exception, RequestError)
    assert result.error == result.status_message == str(result.exception)
    return result.error


STEPS = "expected a whole number from 1 to 1000"
UNIT = "expected a number from 0 to 1"


OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    *[("inference_steps", v, STEPS) for v in (0, -5, 2.5, "many", "8", None, True, 1001, 10**9, 10**400)],
    *[
        ("shift", v, "expected a number above 0")
        for v in (0, 0.0, -1.0, "3", None, float("nan"), float("inf"))
    ],
    *[
        ("guidance_scale", v, "expected a number of at least 0")
        for v in (-1, -0.1, float("nan"), float("inf"), "7", None, 10**400)
    ],
    *[("cfg_interval_start", v, UNIT) for v in (-0.1, 1.1, float("nan"))],
    *[("cfg_interval_end", v, UNIT) for v in (-0.1, 1.1, float("nan"), None)],
    *[("repainting_start", v, "expected a number of at least 0") for v in (-1.0, float("nan"), None)],
    *[("repainting_end", v, "expected a number") for v in (float("nan"), float("inf"), "end")],
    *[("bpm", v, "expected a whole number from 30 to 300") for v in (29, 301, 99.5, "120")],
    *[("normalization_db", v, "expected a number from -60 to 0") for v in (0.1, -61, float("nan"), "loud")],
    *[("timesteps", v, FALL) for v in ([], [0.0], [0.5, 0.7], [float("nan")], [1.5], [0.5, -0.1])],
    *[("timesteps", v, FALL) for v in (0.5, "0.5", ["0.5"], [1.0, None], [0.5] * 1001)],
    *[("caption", v, "expected a text; '' is none") for v in (None, 3)],
    ("lyrics", None, "expected a text; '' is none"),
    ("instruction", None, "expected a text; '' is none"),
]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    OUT_OF_RANGE,
    ids=[f"{name}_{value!r:.24}".replace(" ", "") for name, value, _ in OUT_OF_RANGE],
)
def test_value_out_of_range(name: str, value: Any, expected: str) -> None:
    assert refusal(**{name: value}) == f"{name} is {show(value)}, {expected}"


@pytest.mark.parametrize("value", [0.5, 0.01, 0.999], ids="guidance_{:g}".format)
def test_guidance_that_would_have_no_effect(value: float) -> None:
    assert refusal(guidance_scale=value) == (
        f"guidance_scale is {value:g}; between 0 and 1 it would have no effect: give 1 for no guidance, or more than 1"
    )


def test_interval_that_ends_before_it_starts() -> None:
    assert refusal(cfg_interval_start=0.6, cfg_interval_end=0.5) == (
        "cfg_interval_end is 0.5, expected a number from 0.6 to 1"
    )


@pytest.mark.parametrize("value", [0, 9, 1.5, "2"], ids=repr)
def test_batch_size(value: Any) -> None:
    assert refusal({"batch_size": value}) == f"batch_size is {value!r}, expected a whole number from 1 to 8"


def test_audio_format() -> None:
    assert refusal({"audio_format": "aac"}) == (
        "audio_format is 'aac', expected one of wav, wav32, flac, mp3, opus"
    )


@pytest.mark.parametrize("value", [None, 5], ids=repr)
def test_no_context(value: Any) -> None:
    assert refusal(src_audio=value) == (
        f"src_audio is {value!r}; LEGO fits a stem to a context audio: give its path"
    )


@pytest.mark.parametrize("task", ["text2music", "cover", "repaint", "extract", "complete"])
def test_other_tasks(task: str) -> None:
    assert refusal(task_type=task) == (
        f"task_type is {task!r}; this fork generates LEGO stems only: use 'lego', or upstream's ACE-Step 1.5"
    )


@pytest.mark.parametrize("name", ["thinking", "use_cot_metas", "use_cot_caption", "use_cot_language"])
def test_language_model(name: str) -> None:
    assert refusal(**{name: True}) == f"{name} {NO_LANGUAGE_MODEL}"


def test_other_methods() -> None:
    assert refusal(infer_method="heun") == "infer_method is 'heun', expected 'ode', or 'sde' on MLX"


class TestAccepted:
    """The limits themselves are within them."""

    @pytest.mark.parametrize(
        "params",
        [
            {"inference_steps": 1},
            {"inference_steps": 1000},
            {"guidance_scale": 0},
            {"guidance_scale": 1},
            {"guidance_scale": 1.0001},
            {"shift": 0.1},
            {"shift": 5},
            {"cfg_interval_start": 0.5, "cfg_interval_end": 0.5},
            {"cfg_interval_start": 1, "cfg_interval_end": 1},
            {"timesteps": [1.0, 0.5, 0.0]},
            {"timesteps": (1, 0.5, 0.5)},
            {"timesteps": [1 - i / 1000 for i in range(1000)] + [0.0]},
            {"bpm": 30},
            {"bpm": 300},
            {"normalization_db": 0},
            {"normalization_db": -60.0},
            {"src_audio": Path("context.wav")},
        ],
        ids=lambda params: "_".join(f"{k}_{v}" for k, v in params.items())[:40],
    )
    def test_params(self, params: dict[str, Any]) -> None:
        check_request(GenerationParams(**{"src_audio": "context.wav", **params}), GenerationConfig())

    @pytest.mark.parametrize(
        "config",
        [
            {"batch_size": 8},
            *({"audio_format": name} for name in ("wav", "wav32", "flac", "mp3", "opus", " WAV ")),
        ],
        ids=str,
    )
    def test_config(self, config: dict[str, Any]) -> None:
        check_request(GenerationParams(src_audio="context.wav"), GenerationConfig(**config))


class TestSeeds:
    """One for each item; params.seed counts where no list was given."""

    def seeds(self, params_seed: Any = -1, **config: Any) -> list[int]:
        return resolve_seeds(
            GenerationParams(seed=params_seed), GenerationConfig(**{"use_random_seed": False, **config})
        )

    def refused(self, *args: Any, **config: Any) -> str:
        with pytest.raises(RequestError) as refused:
            self.seeds(*args, **config)
        return str(refused.value)

    def test_list(self) -> None:
        assert self.seeds(seeds=[5, 0, MAX_SEED], batch_size=3) == [5, 0, MAX_SEED]

    def test_list_goes_before_the_params_seed(self) -> None:
        assert self.seeds(7, seeds=[5]) == [5]

    def test_params_seed_and_its_successors(self) -> None:
        assert self.seeds(7, batch_size=3) == [7, 8, 9]

    def test_callers_list_is_not_handed_on(self) -> None:
        given = [5]
        self.seeds(seeds=given).clear()
        assert given == [5]

    def test_random_ones_differ_and_are_seeds(self) -> None:
        drawn = self.seeds(7, seeds=[1], batch_size=8, use_random_seed=True)
        assert len(set(drawn)) == 8
        assert all(0 <= seed <= MAX_SEED for seed in drawn)
        assert self.seeds(use_random_seed=True) != self.seeds(use_random_seed=True)

    def test_none_given(self) -> None:
        assert self.refused() == (
            "use_random_seed is False and there is no seed; give config.seeds or params.seed"
        )

    def test_list_that_is_too_long(self) -> None:
        assert self.refused(seeds=[1, 2, 3], batch_size=2) == (
            "3 seeds were given for a batch of 2; give at most one for each"
        )

    @pytest.mark.parametrize("given", [5, [5], np.int64(5), torch.tensor([5]), (5.0,)], ids=str)
    def test_what_lacks_is_drawn(self, given: Any) -> None:
        first, *drawn = self.seeds(seeds=given, batch_size=3)
        assert first == 5
        assert len(set(drawn)) == 2
        assert all(0 <= seed <= MAX_SEED for seed in drawn)

    def test_seeds_are_taken_where_nothing_is_said_of_random_ones(self) -> None:
        assert self.seeds(seeds=[8], use_random_seed=None) == [8]
        assert self.seeds(9, use_random_seed=None) == [9]
        assert self.seeds(use_random_seed=None) != self.seeds(use_random_seed=None)

    @pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.5, "1", None], ids=repr)
    def test_no_seed(self, seed: Any) -> None:
        assert self.refused(seeds=[seed]) == f"seed is {seed!r}, expected a whole number from 0 to 4294967295"

    @pytest.mark.parametrize("seed", ["x", 1.5, None], ids=repr)
    def test_params_seed_that_is_none(self, seed: Any) -> None:
        assert self.refused(seed) == f"seed is {seed!r}, expected a whole number from -1 to 4294967295"

    def test_successor_beyond_the_last_seed(self) -> None:
        assert "seed is 4294967296" in self.refused(MAX_SEED, batch_size=2)


def test_context_that_cannot_serve_is_a_sentence(mlx_handler: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    result = generate_music(
        mlx_handler,
        None,
        GenerationParams(src_audio=str(path)),
        GenerationConfig(),
        save_dir=tmp_path / "out",
    )
    assert isinstance(result.exception, AudioError)
    assert result.error == f"context audio {path} does not exist; give a WAV, FLAC, OGG or MP3 file"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("start", "end"), [(2.0, 1.0), (0.0, 9.0)], ids=["backwards", "outside"])
def test_range_that_is_not_within_the_context(
    mlx_handler: Any, make_context: Callable[..., Path], start: float, end: float
) -> None:
    """Only the file says how long the context is."""
    params = GenerationParams(src_audio=str(make_context(3.0)), repainting_start=start, repainting_end=end)
    result = generate_music(mlx_handler, None, params, GenerationConfig())
    assert result.error == (
        f"the range from {start:g} s to {end:g} s is not within the context, which lasts 3.00 s; "
        "give repainting_start below repainting_end, both within it"
    )
