"""The same calling code drives this package or an upstream checkout: names, positions, and what is refused by name."""

import dataclasses
import inspect
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from acestep.core.generation.handler.generate_music_request import check_request
from acestep.core.generation.handler.upstream_fields import (
    LANGUAGE_MODEL,
    LOADING_OFF_ONLY,
    NO_EFFECT,
    OFF_ONLY,
)
from acestep.errors import RequestError
from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, GenerationResult, generate_music
from acestep.llm_inference import LLMHandler
from tests.upstream_names import COMMITS, names_of_clone, stored_names

LATEST = COMMITS[-1]
CLONE = "ACESTEP_UPSTREAM_CLONE"  # a clone with history, whose names are compared with the stored ones
README = Path(__file__).parents[2] / "ACE-Step-1.5" / "README.md"
HONOURED = {
    "task_type", "instruction", "src_audio", "caption", "lyrics", "vocal_language", "bpm", "keyscale",
    "timesignature", "enable_normalization", "normalization_db", "inference_steps", "seed", "guidance_scale",
    "cfg_interval_start", "cfg_interval_end", "shift", "infer_method", "timesteps", "repainting_start",
    "repainting_end", "batch_size", "use_random_seed", "seeds", "audio_format", "mp3_bitrate", "mp3_sample_rate",
}  # fmt: skip


def own_names() -> dict[str, list[str]]:
    """Of this fork, as `stored_names` has them of upstream."""
    classes = (GenerationParams, GenerationConfig, GenerationResult)
    functions = (generate_music, AceStepHandler.initialize_service, AceStepHandler.generate_instruction)
    return {cls.__name__: [f.name for f in dataclasses.fields(cls)] for cls in classes} | {
        function.__name__: [name for name in inspect.signature(function).parameters if name != "self"]
        for function in functions
    }


@pytest.mark.parametrize("commit", COMMITS)
def test_every_name_of_upstream_is_accepted(commit: str) -> None:
    own = own_names()
    missing = {name: set(names) - set(own[name]) for name, names in stored_names()[commit].items()}
    assert missing == {name: set() for name in own}


def test_positions_are_those_of_the_latest() -> None:
    own = own_names()
    for name, names in stored_names()[LATEST].items():
        assert own[name][: len(names)] == names


@pytest.mark.skipif(CLONE not in os.environ, reason=f"{CLONE} names no clone of upstream")
@pytest.mark.parametrize("commit", COMMITS)
def test_stored_names_are_those_of_a_clone(commit: str) -> None:
    clone = Path(os.environ[CLONE])
    known = subprocess.run(["git", "-C", str(clone), "cat-file", "-e", commit], capture_output=True)
    if known.returncode:
        pytest.skip(f"the clone has no {commit}")
    assert names_of_clone(clone, commit) == stored_names()[commit]


def test_each_field_is_honoured_refused_or_listed() -> None:
    """No field is ignored in silence."""
    fields = [f.name for cls in (GenerationParams, GenerationConfig) for f in dataclasses.fields(cls)]
    treated = [*HONOURED, *OFF_ONLY, *LANGUAGE_MODEL, *NO_EFFECT]
    assert sorted(treated) == sorted(fields)


def test_readme_lists_what_has_no_effect() -> None:
    section = README.read_text().split("no effect on a LEGO request")[1].split("\n## ")[0]
    assert set(NO_EFFECT) <= set(re.findall(r"`(\w+)`", section))


def accepted(**fields: Any) -> None:
    check_request(GenerationParams(src_audio="context.wav", **fields), GenerationConfig())


@pytest.mark.parametrize("name", OFF_ONLY)
def test_field_without_code_is_accepted_where_it_is_off_and_refused_by_name_elsewhere(name: str) -> None:
    values, what = OFF_ONLY[name]
    for value in (None, *values):
        accepted(**{name: value})
    for value in ("other.wav", 0.25, True if True not in values else 7):
        with pytest.raises(RequestError) as refused:
            accepted(**{name: value})
        assert str(refused.value) == (
            f"{name} is {value!r}; this fork has no {what}: give {' or '.join(map(repr, values))}, or leave it out"
        )


@pytest.mark.parametrize("name", [name for name in NO_EFFECT if hasattr(GenerationParams, name)])
def test_field_without_effect_is_accepted(name: str) -> None:
    accepted(**{name: 0.5})


def test_upstreams_quick_start_runs(
    mlx_handler: Any, make_context: Callable[..., Path], tmp_path: Path
) -> None:
    """Names and values as upstream's own examples write them for LEGO."""
    language_model = LLMHandler()
    message, loaded = language_model.initialize(
        checkpoint_dir="checkpoints", lm_model_path="acestep-5Hz-lm-0.6B"
    )
    assert (message, loaded) == (
        "no language model was loaded: this fork generates LEGO stems only, which use none",
        False,
    )
    params = GenerationParams(
        task_type="lego",
        instruction=mlx_handler.generate_instruction("lego", "Backing Vocals", None),
        src_audio=str(make_context(1.0)),
        duration=30,
        inference_steps=2,
        lm_temperature=0.9,
    )
    config = GenerationConfig(
        batch_size=2, seeds=42, use_random_seed=False, audio_format="FLAC", mp3_bitrate="192k"
    )
    result = generate_music(mlx_handler, language_model, params, config, save_dir=str(tmp_path))
    assert result.success, result.error
    first, second = result.audios
    assert first["params"]["seed"] == first["seed"] == 42
    assert second["params"]["seed"] == second["seed"] >= 0
    assert json.dumps(first["params"]), "may be written beside the stem"
    assert config.to_dict()["seeds"] == 42
    assert params.to_dict()["duration"] == 30
    assert result.to_dict()["audios"] is result.audios


class TestLoading:
    """initialize_service."""

    def message(self, root: Path, *args: Any, **options: Any) -> str:
        handler = AceStepHandler()
        message, loaded = handler.initialize_service(root, *args, **options)
        assert loaded == handler.use_mlx_dit
        return message

    def test_upstreams_call_by_position_runs_on_mlx(self, tiny_root: Callable[..., Path]) -> None:
        """The fourth is flash attention: taken for use_mlx_dit, PyTorch would run."""
        call = (tiny_root(), "acestep-v15-base", "cpu", False, False, False, False, None, None, True, None)
        assert "MLX DiT: Active" in self.message(*call)

    @pytest.mark.parametrize("name", LOADING_OFF_ONLY)
    def test_what_cannot_be_done_is_refused_by_name(self, name: str, tmp_path: Path) -> None:
        accepted, what = LOADING_OFF_ONLY[name]
        off = accepted[0] if accepted else None
        assert self.message(tmp_path, **{name: "int8"}) == (
            f"{name} is 'int8'; this fork has no {what}: give {off!r}, or leave it out"
        )
        assert "does not exist" in self.message(tmp_path, **{name: off}), "off is as good as not given"


class TestFormats:
    """The file formats of upstream that libsndfile can write."""

    @pytest.mark.parametrize(
        ("audio_format", "options", "rate", "kbps"),
        [
            ("mp3", {"mp3_bitrate": "320k", "mp3_sample_rate": 44100}, 44100, 320),
            ("mp3", {}, 48000, 128),
            ("opus", {}, 48000, None),
        ],
    )
    def test_compressed(
        self, tmp_path: Path, audio_format: str, options: dict[str, Any], rate: int, kbps: int | None
    ) -> None:
        import soundfile

        from acestep.audio_utils import save_audio

        samples = 0.1 * torch.randn(2, 96_000, generator=torch.Generator().manual_seed(0)).numpy()
        path = save_audio(samples, 48_000, tmp_path, "stem", audio_format, **options)
        assert path.name == f"stem.{audio_format}"
        info = soundfile.info(path)
        assert info.samplerate == rate
        assert info.duration == pytest.approx(2.0, abs=0.06)
        if kbps is not None:
            assert path.stat().st_size * 8 / 1000 / info.duration == pytest.approx(kbps, rel=0.05)
