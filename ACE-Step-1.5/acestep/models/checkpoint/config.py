"""config.json of a checkpoint: the keys that shape the models. Each is required and checked."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from acestep.constants import LATENT_FRAMES_PER_SECOND
from acestep.core.generation.handler.request_values import show
from acestep.errors import CheckpointError
from acestep.models.checkpoint.layout import MODEL_INDEX, Layout, find_layout

LAYER_TYPES = ("sliding_attention", "full_attention")
PIPELINE = "AceStepPipeline"


@dataclass(frozen=True)
class ModelConfig:
    """What the files of a checkpoint say, by upstream's key names; every key is required.

    `encoder_hidden_size` is the width of the condition encoder: absent from the plain shape's file, where it
    equals `hidden_size`; smaller than it in the XL shape.
    """

    is_turbo: bool
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    in_channels: int
    audio_acoustic_hidden_dim: int
    timbre_hidden_dim: int
    text_hidden_dim: int
    encoder_hidden_size: int
    patch_size: int
    sliding_window: int
    layer_types: tuple[str, ...]
    rope_theta: float
    rms_norm_eps: float
    attention_bias: bool
    num_lyric_encoder_hidden_layers: int
    num_timbre_encoder_hidden_layers: int
    timbre_fix_frame: int
    encoder_intermediate_size: int
    encoder_num_attention_heads: int
    encoder_num_key_value_heads: int


# The XL shape gives its condition encoder sizes of its own; the plain shape leaves them out and means the DiT's.
SAME_AS_DIT = {
    "encoder_hidden_size": "hidden_size",
    "encoder_intermediate_size": "intermediate_size",
    "encoder_num_attention_heads": "num_attention_heads",
    "encoder_num_key_value_heads": "num_key_value_heads",
}
# diffusers' layout has a config.json for each model. The condition encoder's own:
OF_CONDITION_ENCODER = {
    "timbre_hidden_dim": "timbre_hidden_dim",
    "text_hidden_dim": "text_hidden_dim",
    "num_lyric_encoder_hidden_layers": "num_lyric_encoder_hidden_layers",
    "num_timbre_encoder_hidden_layers": "num_timbre_encoder_hidden_layers",
    **SAME_AS_DIT,
}
# What both files hold and upstream's one file holds once.
OF_BOTH = ("head_dim", "rope_theta", "rms_norm_eps", "sliding_window", "attention_bias")
# Keys that may be left out: the value that the code computes with, and its text in JSON.
FIXED: dict[str, tuple[Any, str]] = {
    "hidden_act": ("silu", '"silu"'),
    "use_sliding_window": (True, "true"),
    "rope_scaling": (None, "null"),
    "quantization_config": (None, "null"),
}
MAX_LAYERS, MAX_SIZE = 1000, 1_000_000
TIMBRE_SECONDS = 30  # of silence for the timbre encoder; diffusers' layout does not say, its pipeline does


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; CheckpointError says which file and why not."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint copied whole?") from None
    except (
        OSError,
        ValueError,
        RecursionError,
    ) as error:  # ValueError: also a number of more than 4300 digits
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object; copy the checkpoint again")
    return value


def _missing(path: Path, keys: list[str]) -> CheckpointError:
    if keys == ["is_turbo"]:
        return CheckpointError(
            f"{path} does not say 'is_turbo'; whether this is a base or a turbo model cannot be guessed: add "
            f'"is_turbo": false (base) or true (turbo) as its model card says'
        )
    return CheckpointError(
        f"{path} is not the configuration of an ACE-Step 1.5 model: it lacks {', '.join(keys)}; "
        f"give the folder of acestep-v15-base or another base model"
    )


@dataclass(frozen=True)
class _Entry:
    """A value and where it stands."""

    path: Path
    key: str
    value: Any

    def wrong(self, expected: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: '{self.key}' is {show(self.value)}, expected {expected}")


def _entries(path: Path, found: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, _Entry]:
    """keys: field of ModelConfig -> key of the file; CheckpointError where one is missing."""
    if missing := [key for key in keys.values() if key not in found]:
        raise _missing(path, missing)
    return {name: _Entry(path, key, found[key]) for name, key in keys.items()}


def read_config(folder: Path) -> ModelConfig:
    """The model configuration of a checkpoint in either layout."""
    layout = find_layout(folder)
    entries = _of_diffusers(folder, layout) if layout.is_diffusers else _of_upstream(folder)
    _check_values(entries)
    values = {name: entry.value for name, entry in entries.items()}
    return ModelConfig(**{**values, "layer_types": tuple(values["layer_types"])})


def check_fixed_keys(path: Path, found: Mapping[str, Any]) -> None:
    """CheckpointError where an optional key has a value that is not implemented."""
    for key, (value, text) in FIXED.items():
        if key in found and (found[key] != value or type(found[key]) is not type(value)):
            raise _Entry(path, key, found[key]).wrong(f"{text}, the only one that is implemented")
    rope = {"rope_type": "default", "rope_theta": found.get("rope_theta")}
    if found.get("rope_parameters") not in (None, rope):
        raise _Entry(path, "rope_parameters", found["rope_parameters"]).wrong(f"null or {json.dumps(rope)}")
    version = found.get("model_version")
    if isinstance(version, str) and "turbo" in version and found.get("is_turbo") is False:
        raise CheckpointError(
            f"{path} says 'is_turbo' false and 'model_version' {version}; correct the one that its model card denies"
        )


def check_library_config(path: Path) -> None:
    """CheckpointError for values that a library would take for another model, or for one of endless size."""
    found = read_json(path)
    if found.get("quantization_config") is not None:
        raise _Entry(path, "quantization_config", found["quantization_config"]).wrong("none")
    for key, value in found.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise _Entry(path, key, value).wrong("a finite number")
        if key.endswith("layers") and isinstance(value, int) and value > MAX_LAYERS:
            raise _Entry(path, key, value).wrong(f"at most {MAX_LAYERS}")


def _of_upstream(folder: Path) -> dict[str, _Entry]:
    path = folder / "config.json"
    found = read_json(path)
    check_fixed_keys(path, found)
    for key, stands_for in SAME_AS_DIT.items():
        if found.get(key) is None and stands_for in found:
            found[key] = found[stands_for]
    return _entries(path, found, {field.name: field.name for field in fields(ModelConfig)})


def _of_diffusers(folder: Path, layout: Layout) -> dict[str, _Entry]:
    index = folder / MODEL_INDEX
    if (pipeline := read_json(index).get("_class_name")) != PIPELINE:
        raise _Entry(index, "_class_name", pipeline).wrong(f"'{PIPELINE}'")
    path = layout.decoder / "config.json"
    found = read_json(path)
    check_fixed_keys(path, found)
    if found.get("layer_types", "") is None and isinstance(found.get("num_hidden_layers"), int):
        found["layer_types"] = in_turn(found["num_hidden_layers"])  # what the library takes null for
    own = {*OF_CONDITION_ENCODER, "timbre_fix_frame"}
    decoder = _entries(path, found, {f.name: f.name for f in fields(ModelConfig) if f.name not in own})
    width = found.get("encoder_hidden_size")
    width = decoder["hidden_size"] if width is None else _Entry(path, "encoder_hidden_size", width)
    encoder = _of_condition_encoder(layout.condition_encoder, {**decoder, "encoder_hidden_size": width})
    frames = _Entry(path, "timbre_fix_frame", TIMBRE_SECONDS * LATENT_FRAMES_PER_SECOND)
    return {**encoder, **decoder, "timbre_fix_frame": frames}


def _of_condition_encoder(folder: Path, decoder: Mapping[str, _Entry]) -> dict[str, _Entry]:
    """decoder: what the decoder's file says; CheckpointError where the two files contradict one another."""
    path = folder / "config.json"
    found = read_json(path)
    entries = _entries(path, found, OF_CONDITION_ENCODER | {key: key for key in OF_BOTH})
    for name in ("encoder_hidden_size", *OF_BOTH):
        other = decoder[name]
        if entries[name].value != other.value:
            raise entries[name].wrong(
                f"{other.value!r}, which is '{other.key}' in {other.path}; are both of the same model?"
            )
    kinds = found.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or kinds != in_turn(len(kinds))):
        raise _Entry(path, "layer_types", kinds).wrong("null or both layer types in turn, the window first")
    return entries


def in_turn(layers: int) -> list[str]:
    """Both layer types in turn, the window first."""
    return [LAYER_TYPES[layer % 2] for layer in range(layers)]


def _check_values(entries: Mapping[str, _Entry]) -> None:
    for field in fields(ModelConfig):
        entry, value = entries[field.name], entries[field.name].value
        if field.type is bool and not isinstance(value, bool):
            raise entry.wrong("true or false")
        if field.type is int and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise entry.wrong("a whole number of at least 1")
        limit = MAX_LAYERS if field.name.endswith("layers") else MAX_SIZE
        if field.type is int and value > limit:
            raise entry.wrong(f"at most {limit}")
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if field.type is float and not (is_number and 0 < value < math.inf):
            raise entry.wrong("a number above 0")
    layers, layer_types = entries["num_hidden_layers"].value, entries["layer_types"]
    kinds = layer_types.value
    if not isinstance(kinds, list) or any(kind not in LAYER_TYPES for kind in kinds):
        raise layer_types.wrong(f"a list of {' and '.join(LAYER_TYPES)}")
    if len(kinds) != layers:
        raise layer_types.wrong(f"one entry for each of {layers} layers")
    if entries["timbre_fix_frame"].value != TIMBRE_SECONDS * LATENT_FRAMES_PER_SECOND:
        raise entries["timbre_fix_frame"].wrong(f"{TIMBRE_SECONDS * LATENT_FRAMES_PER_SECOND}")
    channels = 3 * entries["audio_acoustic_hidden_dim"].value
    if entries["in_channels"].value != channels:
        raise entries["in_channels"].wrong(f"3 x audio_acoustic_hidden_dim = {channels}")
