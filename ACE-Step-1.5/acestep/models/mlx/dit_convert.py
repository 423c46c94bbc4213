"""Weights for the MLX decoder out of a checkpoint, strictly."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.weights import DECODER_PREFIX
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.loading import load_strictly, read_checkpoint

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


def convert_and_load(folder: Path, decoder: MLXDiTDecoder, precision: str = "float32") -> None:
    """Reads the decoder of a checkpoint, in either layout, in a key of PRECISIONS."""
    converted = convert_decoder_weights(read_checkpoint(folder, (DECODER_PREFIX,)), precision)
    load_strictly(decoder, converted, str(find_layout(folder).decoder))
