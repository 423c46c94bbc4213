"""Requests that are refused, each with its whole sentence, before anything is read or run."""

from collections.abc import Callable
from fractions import Fraction
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
    *[("enable_normalization", v, "expected True or False") for v in ("no", None, 2)],
    ("inference_steps", np.bool_(True), STEPS),
    ("inference_steps", torch.tensor([8]), STEPS),
    ("timesteps", np.ones((2, 2)), FALL),
    ("timesteps", torch.ones(2, device="meta"), FALL),
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


@pytest.mark.parametrize("value", [1000.1, 1e39, 1e300, 10**300], ids=lambda v: f"{v:.0e}")
def test_guidance_beyond_float32(value: float) -> None:
    assert refusal(guidance_scale=value) == (
        f"guidance_scale is {show(value)}, out of range: give at most 1000; 1 is no guidance"
    )


@pytest.mark.parametrize("value", [1e-9, 0.0009, 1001, 1e38], ids=str)
def test_shift_that_leaves_no_timesteps(value: float) -> None:
    assert refusal(shift=value) == (
        f"shift is {value!r}; outside 0.001 to 1000 the timesteps cannot be told apart: "
        "give a value within, 1 is no shift"
    )


@pytest.mark.parametrize("value", [0, -0.5, -2], ids=str)
def test_end_that_is_no_time(value: float) -> None:
    assert refusal(repainting_end=value) == (
        f"repainting_end is {value}; give seconds above repainting_start, or -1 for the context's end"
    )


def test_text_that_is_no_unicode() -> None:
    assert refusal(caption="warm \udc80") == (
        "caption holds '\\udc80' at position 5, which is not a character; give valid Unicode text"
    )


def test_long_value_is_cut() -> None:
    sentence = refusal(timesteps=[0.5] * 100_000)
    assert sentence.startswith("timesteps is [0.5, 0.5, ")
    assert len(sentence) < 300


def test_number_that_python_does_not_print() -> None:
    assert refusal(bpm=10**5000) == ("bpm is a value of the type int, expected a whole number from 30 to 300")


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


@pytest.mark.parametrize("value", [None, 5, "", "a\0b"], ids=repr)
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
    asked: dict[str, Any] = {name: True}
    assert refusal(**asked) == f"{name} {NO_LANGUAGE_MODEL}"


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
            {"guidance_scale": 1000, "shift": 1000, "repainting_end": None},
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


NUMBERS = [
    ("inference_steps", np.int64(8), 8),
    ("inference_steps", 8.0, 8),
    ("inference_steps", torch.tensor(8), 8),
    ("inference_steps", np.array(8, dtype=np.uint8), 8),
    ("guidance_scale", np.float32(7.5), 7.5),
    ("guidance_scale", Fraction(15, 2), 7.5),
    ("bpm", 120.0, 120),
    ("bpm", np.float64(120), 120),
    ("shift", torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    ("timesteps", np.array([1.0, 0.5, 0.0]), [1.0, 0.5]),
    ("timesteps", torch.tensor([1.0, 0.5]), [1.0, 0.5]),
    ("timesteps", (1, np.float32(0.5)), [1.0, 0.5]),
]


@pytest.mark.parametrize(("name", "given", "plain"), NUMBERS, ids=lambda value: f"{value!r:.30}")
def test_number_of_another_library_is_the_same_number(name: str, given: Any, plain: Any) -> None:
    params, _ = check_request(GenerationParams(src_audio="context.wav", **{name: given}), GenerationConfig())
    value = getattr(params, name)
    assert value == plain
    assert type(value) is type(plain)


class TestArguments:
    """Anything else than a request is a sentence too."""

    def error(self, *args: Any, **options: Any) -> str:
        result = generate_music(*args, **options)
        assert not result.success
        assert result.error is not None
        return result.error

    def test_params(self) -> None:
        assert self.error(Untouchable(), None, None, GenerationConfig()) == (
            "params is None, expected a GenerationParams"
        )

    def test_config(self) -> None:
        assert self.error(Untouchable(), None, GenerationParams(src_audio="a.wav"), None) == (
            "config is None, expected a GenerationConfig"
        )

    @pytest.mark.parametrize("value", [5, "a\0b", b"out"], ids=repr)
    def test_save_dir(self, value: Any) -> None:
        assert self.error(Untouchable(), None, GenerationParams(), GenerationConfig(), value) == (
            f"save_dir is {value!r}, expected the path of a folder"
        )

    def test_progress(self) -> None:
        request = (GenerationParams(src_audio="a.wav"), GenerationConfig())
        assert self.error(Untouchable(), None, *request, progress=3) == (
            "progress is 3, expected a function of a fraction and desc"
        )

    def test_handler(self) -> None:
        request = (GenerationParams(src_audio="a.wav"), GenerationConfig())
        assert self.error(None, None, *request) == "dit_handler is None, expected an AceStepHandler"

    @pytest.mark.parametrize(
        ("config", "sentence"),
        [
            ({"audio_format": []}, "audio_format is [], expected one of wav, wav32, flac, mp3, opus"),
            (
                {"audio_format": "mp3", "mp3_bitrate": "96k"},
                "mp3_bitrate is '96k', expected one of 128k, 192k, 256k, 320k",
            ),
            (
                {"audio_format": "mp3", "mp3_sample_rate": 8000},
                "mp3_sample_rate is 8000, expected one of 48000, 44100",
            ),
            ({"use_random_seed": "yes"}, "use_random_seed is 'yes', expected True or False"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_config_fields(self, config: dict[str, Any], sentence: str) -> None:
        assert refusal(config) == sentence


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
