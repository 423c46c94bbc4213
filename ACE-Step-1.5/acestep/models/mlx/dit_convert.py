"""Weights for the MLX decoder out of a checkpoint, strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from acestep.errors import CheckpointError
from acestep.models.layout import find_layout
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.weights import (
    DECODER_PREFIX,
    check_dtypes,
    check_keys,
    full_name,
    name_keys,
    weight_sources,
)

# The convolutions sit second in a container of the checkpoint, and MLX keeps their channels last:
# Conv1d (out, in, k) -> (out, k, in), ConvTranspose1d (in, out, k) -> (out, k, in).
CONVOLUTIONS = {"proj_in.1": ("proj_in", (0, 2, 1)), "proj_out.1": ("proj_out", (1, 2, 0))}

# What the large products may be computed in; norms, tables and the way in and out of the decoder stay float32.
PRECISIONS = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
LARGE_PRODUCTS = ("_proj", ".linear_1", ".linear_2", "condition_embedder")


def convert_decoder_weights(
    weights: Mapping[str, mx.array], precision: str = "float32"
) -> dict[str, mx.array]:
    """A checkpoint's `decoder.*` arrays -> this decoder's names and layouts; other keys are left out.

    The weights of the large products get the precision that is asked for, a key of PRECISIONS, all others float32.
    Converted weights have no such prefix and come back as they are.
    """
    if not any(key.startswith(DECODER_PREFIX) for key in weights):
        return dict(weights)
    converted = {}
    for key, value in weights.items():
        if not key.startswith(DECODER_PREFIX):
            continue
        name = key.removeprefix(DECODER_PREFIX)
        container, _, kind = name.rpartition(".")
        if container in CONVOLUTIONS:
            ours, axes = CONVOLUTIONS[container]
            name = f"{ours}.{kind}"
            value = value.transpose(axes) if kind == "weight" else value
        large = name.rpartition(".")[0].endswith(LARGE_PRODUCTS)
        converted[name] = value.astype(PRECISIONS[precision] if large else mx.float32)
    return converted


def load_decoder_weights(decoder: MLXDiTDecoder, weights: Mapping[str, mx.array], source: str) -> None:
    """Fills the decoder; a missing, unexpected or misshapen key is a CheckpointError that names it."""
    expected = dict(tree_flatten(decoder.parameters()))
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{source}: the decoder's weights do not fit its config.json: "
            f"{name_keys('missing', missing)}, {name_keys('unexpected', unexpected)}; copy the checkpoint again"
        )
    for name, value in weights.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: decoder weight '{name}' has the shape {value.shape}, "
                f"its config.json asks for {expected[name].shape}; are both of the same model?"
            )
    decoder.load_weights(list(weights.items()))
    # Weights left lazy could be computed in the loading thread only; all at once, they would be held as stored too.
    for name, value in tree_flatten(decoder.parameters()):
        if not mx.all(mx.isfinite(value)).item():
            raise CheckpointError(
                f"{source}: decoder weight '{name}' holds NaN or infinite values as {value.dtype}; "
                f"load it in float32, or copy the checkpoint again"
            )
    mx.clear_cache()


def _read(folder: Path) -> dict[str, mx.array]:
    """All weights of a checkpoint by upstream's names, one file or shards, not yet read but for their shapes."""
    weights: dict[str, mx.array] = {}
    for path, prefix in weight_sources(folder):
        check_dtypes(path)
        try:
            found: Any = mx.load(str(path))  # a dict, for safetensors
        except Exception as error:  # mlx has no error type of its own for a file cut short
            raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
        named = {full_name(key, prefix): value for key, value in found.items()}
        check_keys(named, str(path.parent))
        weights |= named
    return weights


def convert_and_load(folder: Path, decoder: MLXDiTDecoder, precision: str = "float32") -> None:
    """Reads the decoder of a checkpoint, in either layout, in a key of PRECISIONS."""
    converted = convert_decoder_weights(_read(folder), precision)
    load_decoder_weights(decoder, converted, str(find_layout(folder).decoder))
