"""The text encoder's config.json: Qwen3, checked alike for both backends."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acestep.core.generation.handler.request_values import show
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, check_library_config, read_json

MODEL_TYPE = "qwen3"
# Keys that may be left out, with the one value that is implemented. transformers 5 writes the rotary settings as
# rope_parameters, earlier versions as rope_theta and rope_scaling.
FIXED: dict[str, Any] = {"hidden_act": "silu", "use_sliding_window": False}
ROPE_KEYS = ("rope_parameters", "rope_scaling")
ROPE_FIXED: dict[str, Any] = {"rope_type": "default", "type": "default", "partial_rotary_factor": 1.0}
FULL_ATTENTION = "full_attention"
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number above 0"),
    float: ((int, float), "a number above 0"),
    bool: ((bool,), "true or false"),
}


@dataclass(frozen=True)
class TextEncoderConfig:
    """The text encoder's config.json, by its own key names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    attention_bias: bool


def read_text_encoder_config(folder: Path, config: ModelConfig) -> TextEncoderConfig:
    """The configuration of a text encoder folder; CheckpointError where it is not the one of the DiT beside it."""
    path = folder / "config.json"
    check_library_config(path)
    found = read_json(path)
    if found.get("model_type") != MODEL_TYPE:
        raise _other_model(path, "model_type", found.get("model_type"), repr(MODEL_TYPE))
    _check_fixed(path, found, FIXED)
    kinds = found.get("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != FULL_ATTENTION for kind in kinds)):
        raise _other_model(path, "layer_types", kinds, f"null or a list of {FULL_ATTENTION!r}")
    values = found | {"rope_theta": _rope_theta(path, found)}
    names = TextEncoderConfig.__dataclass_fields__
    if missing := [name for name in names if values.get(name) is None]:
        raise CheckpointError(
            f"{path} is not the configuration of a Qwen3 text encoder: it lacks {', '.join(missing)}; "
            f"copy the checkpoint again"
        )
    for name, field in names.items():
        types, expected = KINDS[field.type]
        if type(values[name]) not in types or (field.type is not bool and not values[name] > 0):
            raise CheckpointError(
                f"{path}: '{name}' is {show(values[name])}, expected {expected}; copy the checkpoint again"
            )
    if values["hidden_size"] != config.text_hidden_dim:
        raise CheckpointError(
            f"{folder} is {values['hidden_size']} wide, the DiT's config.json asks for text_hidden_dim "
            f"{config.text_hidden_dim}; give the text encoder of the same checkpoint"
        )
    return TextEncoderConfig(**{name: values[name] for name in names})


def _other_model(path: Path, key: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: '{key}' is {show(value)}, expected {expected}; give the text encoder of the same checkpoint"
    )


def _check_fixed(path: Path, found: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for key, expected in fixed.items():
        if key in found and (
            found[key] != expected or isinstance(found[key], bool) != isinstance(expected, bool)
        ):
            raise _other_model(path, key, found[key], repr(expected))


def _rope_theta(path: Path, found: Mapping[str, Any]) -> Any:
    """The base of the rotary angles, None where the file does not say; it may be in several places."""
    thetas = [found["rope_theta"]] if found.get("rope_theta") is not None else []
    for key in ROPE_KEYS:
        rope = found.get(key)
        if rope is None:
            continue
        if not isinstance(rope, dict):
            raise _other_model(path, key, rope, "null or an object")
        _check_fixed(path, rope, ROPE_FIXED)
        if rope.get("rope_theta") is not None:
            thetas.append(rope["rope_theta"])
    if any(theta != thetas[0] for theta in thetas):
        raise _other_model(path, "rope_theta", thetas, "the same value wherever it is given")
    return thetas[0] if thetas else None
