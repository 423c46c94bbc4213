"""What config.json says of a checkpoint: the keys that shape the models, checked, never guessed."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from acestep.errors import CheckpointError

LAYER_TYPES = ("sliding_attention", "full_attention")


@dataclass(frozen=True)
class ModelConfig:
    """config.json of a DiT folder, by upstream's key names; every key is required.

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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint; CheckpointError says which file and why not."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint copied whole?") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); copy the checkpoint again") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object; copy the checkpoint again")
    return value


def read_config(folder: Path) -> ModelConfig:
    """The model configuration of a DiT folder in upstream's layout."""
    path = folder / "config.json"
    found = read_json(path)
    for key, stands_for in SAME_AS_DIT.items():
        if found.get(key) is None and stands_for in found:
            found[key] = found[stands_for]
    names = [field.name for field in fields(ModelConfig)]
    missing = [name for name in names if name not in found]
    if missing == ["is_turbo"]:
        raise CheckpointError(
            f"{path} does not say 'is_turbo'; whether this is a base or a turbo model cannot be guessed: add "
            f'"is_turbo": false (base) or true (turbo) as its model card says'
        )
    if missing:
        raise CheckpointError(
            f"{path} is not the configuration of an ACE-Step 1.5 model: it lacks {', '.join(missing)}; "
            f"give the folder of acestep-v15-base or another base model"
        )
    values = {name: found[name] for name in names}
    _check_values(path, values)
    return ModelConfig(**{**values, "layer_types": tuple(values["layer_types"])})


def _check_values(path: Path, values: dict[str, Any]) -> None:
    def wrong(key: str, expected: str) -> CheckpointError:
        return CheckpointError(f"{path}: '{key}' is {values[key]!r}, expected {expected}")

    for field in fields(ModelConfig):
        value = values[field.name]
        if field.type is bool and not isinstance(value, bool):
            raise wrong(field.name, "true or false")
        if field.type is int and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise wrong(field.name, "a whole number of at least 1")
        if field.type is float and (not isinstance(value, (int, float)) or not value > 0):
            raise wrong(field.name, "a number above 0")
    layer_types = values["layer_types"]
    if not isinstance(layer_types, list) or any(kind not in LAYER_TYPES for kind in layer_types):
        raise wrong("layer_types", f"a list of {' and '.join(LAYER_TYPES)}")
    if len(layer_types) < values["num_hidden_layers"]:
        raise wrong("layer_types", f"one entry for each of {values['num_hidden_layers']} layers")
    if values["in_channels"] != 3 * values["audio_acoustic_hidden_dim"]:
        raise wrong(
            "in_channels", f"3 x audio_acoustic_hidden_dim = {3 * values['audio_acoustic_hidden_dim']}"
        )
