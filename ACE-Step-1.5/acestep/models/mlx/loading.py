"""Weights from safetensors into MLX modules, strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from acestep.errors import CheckpointError
from acestep.models.checkpoint.quantization import stored_bits
from acestep.models.checkpoint.weights import (
    check_dtypes,
    check_keys,
    check_weights,
    full_name,
    name_keys,
    weight_files,
    weight_sources,
)
from acestep.models.mlx.linear import measure_rows


def read_arrays(path: Path) -> dict[str, mx.array]:
    """The arrays of a safetensors file, not yet read but for their shapes; CheckpointError where it is not whole."""
    try:
        arrays: Any = mx.load(str(path))  # a dict, for safetensors
    except Exception as error:  # mlx has no error type of its own for a file cut short
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
    return arrays


def read_model(folder: Path, stem: str) -> dict[str, mx.array]:
    """`read_arrays` of all weight files of one model; CheckpointError where one holds values that no model has."""
    arrays: dict[str, mx.array] = {}
    for path in weight_files(folder, stem):
        check_weights(path, skip=())
        arrays |= read_arrays(path)
    return arrays


def read_checkpoint(folder: Path, prefixes: tuple[str, ...]) -> dict[str, mx.array]:
    """`read_arrays` of decoder and condition encoder whose name, upstream's, starts with one of the prefixes."""
    arrays: dict[str, mx.array] = {}
    is_quantised = stored_bits(folder) is not None
    for path, prefix in weight_sources(folder):
        check_dtypes(path, is_quantised=is_quantised)
        named = {full_name(key, prefix): value for key, value in read_arrays(path).items()}
        check_keys(named, str(path.parent))
        arrays |= {name: value for name, value in named.items() if name.startswith(prefixes)}
    return arrays


def matrix_in(dtype: str, value: mx.array) -> mx.array:
    """A weight in the dtype of that name where it is a matrix; norms, tables, biases and convolutions are float32.

    They are small, and there it matters.
    """
    return value.astype(getattr(mx, dtype) if value.ndim == 2 else mx.float32)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of a model's parameters, by name."""
    return {name: value.shape for name, value in tree_flatten(model.parameters())}


def check_shapes(shapes: Mapping[str, tuple[int, ...]], weights: Mapping[str, mx.array], source: str) -> None:
    """CheckpointError that names what is missing, unexpected or of another shape than config.json asks for."""
    missing, unexpected = shapes.keys() - weights.keys(), weights.keys() - shapes.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: the weights do not fit its config.json: {name_keys('missing', missing)}, "
            f"{name_keys('unexpected', unexpected)}; copy the checkpoint again"
        )
    for key, shape in shapes.items():
        if weights[key].shape != shape:
            raise CheckpointError(
                f"{source}: weight '{key}' has the shape {weights[key].shape}, its config.json asks for {shape}; "
                f"are both of the same model?"
            )


def load_strictly(model: nn.Module, weights: Mapping[str, mx.array], source: str) -> None:
    """Fills a model whose parameters have the names and shapes of the weights."""
    check_shapes(shapes_of(model), weights, source)
    model.load_weights(list(weights.items()))
    # Weights left lazy could be computed in the loading thread only; all at once, they would be held as stored too.
    for name, value in tree_flatten(model.parameters()):
        if not mx.all(mx.isfinite(value)).item():
            raise CheckpointError(
                f"{source}: weight '{name}' holds NaN or infinite values as {value.dtype}; "
                f"load it in float32, or copy the checkpoint again"
            )
    measure_rows(model)
    mx.clear_cache()
