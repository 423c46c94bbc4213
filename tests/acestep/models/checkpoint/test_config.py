"""config.json: every key that shapes the models is there and makes sense, or the run ends with a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config
from acestep.models.tiny import tiny_config


def write(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        read_config(folder)
    return str(refused.value)


def changed(**changes: Any) -> dict[str, Any]:
    return {**tiny_config("base", "plain"), **changes}


def test_plain_shape_gives_its_encoder_the_sizes_of_the_dit(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, tiny_config("base", "plain")))
    assert isinstance(config, ModelConfig)
    assert (config.encoder_hidden_size, config.hidden_size) == (64, 64)
    assert config.encoder_intermediate_size == config.intermediate_size
    assert config.encoder_num_attention_heads == config.num_attention_heads
    assert config.encoder_num_key_value_heads == config.num_key_value_heads
    assert config.layer_types == ("sliding_attention", "full_attention", "sliding_attention")
    assert config.is_turbo is False


def test_xl_shape_has_an_encoder_of_its_own_sizes(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, tiny_config("turbo", "xl")))
    assert (config.encoder_hidden_size, config.hidden_size) == (48, 64)
    assert (config.encoder_num_attention_heads, config.encoder_num_key_value_heads) == (3, 1)
    assert config.is_turbo is True


def test_null_in_the_file_means_the_size_of_the_dit(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, changed(encoder_hidden_size=None))).encoder_hidden_size == 64


def test_missing_model_kind_is_never_guessed(tmp_path: Path) -> None:
    config = tiny_config("base", "plain")
    del config["is_turbo"]
    assert refusal(write(tmp_path, config)) == (
        f"{tmp_path / 'config.json'} does not say 'is_turbo'; whether this is a base or a turbo model cannot be "
        'guessed: add "is_turbo": false (base) or true (turbo) as its model card says'
    )


def test_configuration_of_another_model_is_named(tmp_path: Path) -> None:
    config = tiny_config("base", "plain")
    del config["patch_size"], config["timbre_fix_frame"]
    assert refusal(write(tmp_path, config)) == (
        f"{tmp_path / 'config.json'} is not the configuration of an ACE-Step 1.5 model: it lacks patch_size, "
        "timbre_fix_frame; give the folder of acestep-v15-base or another base model"
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("is_turbo", "false", "true or false"),
        ("is_turbo", None, "true or false"),
        ("attention_bias", 0, "true or false"),
        ("hidden_size", 0, "a whole number of at least 1"),
        ("hidden_size", 64.0, "a whole number of at least 1"),
        ("num_hidden_layers", True, "a whole number of at least 1"),
        ("sliding_window", None, "a whole number of at least 1"),
        ("rope_theta", "1e6", "a number above 0"),
        ("rms_norm_eps", 0, "a number above 0"),
        ("rope_theta", float("nan"), "a number above 0"),
        ("layer_types", "full_attention", "a list of sliding_attention and full_attention"),
        ("layer_types", ["full_attention", "linear"], "a list of sliding_attention and full_attention"),
        ("layer_types", ["full_attention"] * 2, "one entry for each of 3 layers"),
        ("in_channels", 192, "3 x audio_acoustic_hidden_dim = 24"),
    ],
    ids=lambda value: str(value).replace(" ", "_")[:30],
)
def test_value_that_makes_no_sense_is_named(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    folder = write(tmp_path, changed(**{key: value}))
    assert refusal(folder) == f"{tmp_path / 'config.json'}: '{key}' is {value!r}, expected {expected}"


def test_whole_number_serves_as_a_number(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, changed(rope_theta=1_000_000))).rope_theta == 1e6


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(b"[1, 2]", "holds no JSON object; copy the checkpoint again", id="a_list"),
        pytest.param(
            b'{"is_turbo": fal',
            "cannot be read as JSON (Expecting value: line 1 column 14 (char 13)); copy the checkpoint again",
            id="cut_short",
        ),
        pytest.param(
            b"\xff\xfe{}",
            "cannot be read as JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
            "copy the checkpoint again",
            id="not_utf_8",
        ),
    ],
)
def test_file_that_is_no_json_object_is_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'} {sentence}"


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path / 'config.json'} is missing; is the checkpoint copied whole?"
