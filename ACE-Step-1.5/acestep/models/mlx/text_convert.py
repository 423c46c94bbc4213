"""The MLX text encoder out of a checkpoint, strictly."""

from pathlib import Path
from typing import Any

from acestep.core.generation.handler.request_values import show
from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, check_library_config, read_json
from acestep.models.checkpoint.weights import TRANSFORMERS_STEM
from acestep.models.mlx.loading import load_strictly, matrix_in, read_model
from acestep.models.mlx.text_encoder import MLXTextEncoder, TextEncoderConfig

# What the encoder here has in one form only: the value that is meant where the file does not say.
FIXED = {"hidden_act": "silu", "use_sliding_window": False, "model_type": "qwen3"}
KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number above 0"),
    float: ((int, float), "a number above 0"),
    bool: ((bool,), "true or false"),
}
MODEL_PREFIX = "model."  # of every key, where the folder holds the language model


def read_text_encoder_config(folder: Path, config: ModelConfig) -> TextEncoderConfig:
    """The configuration of a text encoder folder; CheckpointError where it is not the one of the DiT beside it."""
    path = folder / "config.json"
    check_library_config(path)
    found = read_json(path)
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    # transformers 5 writes theta among the rope parameters, earlier versions beside them.
    values: dict[str, Any] = {"rope_theta": rope.get("rope_theta")} | found
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
    fixed = FIXED | {"rope_type": "default"}
    for name, value in ({"rope_type": rope.get("rope_type", "default")} | found).items():
        if name in fixed and value != fixed[name]:
            raise CheckpointError(
                f"{path}: '{name}' is {show(value)}, expected {fixed[name]!r}; "
                f"give the text encoder of the same checkpoint"
            )
    if values["hidden_size"] != config.text_hidden_dim:
        raise CheckpointError(
            f"{folder} is {values['hidden_size']} wide, the DiT's config.json asks for text_hidden_dim "
            f"{config.text_hidden_dim}; give the text encoder of the same checkpoint"
        )
    return TextEncoderConfig(**{name: values[name] for name in names})


def load_mlx_text_encoder(folder: Path, config: ModelConfig, dtype: str = "float32") -> MLXTextEncoder:
    """The text encoder; keys with and without the prefix of a language model's file are read.

    dtype: of its matrices, the embeddings among them.
    """
    encoder = MLXTextEncoder(read_text_encoder_config(folder, config))
    weights = {
        key.removeprefix(MODEL_PREFIX): matrix_in(dtype, value)
        for key, value in read_model(folder, TRANSFORMERS_STEM).items()
    }
    load_strictly(encoder, weights, str(folder))
    return encoder
