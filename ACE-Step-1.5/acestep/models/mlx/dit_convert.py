"""Weights for the MLX decoder out of a checkpoint, strictly."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import Precision
from acestep.models.checkpoint.quantization import stored_bits
from acestep.models.checkpoint.weights import DECODER_PREFIX
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.loading import check_shapes, load_strictly, matrix_in, read_checkpoint, shapes_of
from acestep.models.mlx.quantize import quantize_layers, quantize_weights

# The convolutions sit second in a container of the checkpoint, and MLX keeps their channels last:
# Conv1d (out, in, k) -> (out, k, in), ConvTranspose1d (in, out, k) -> (out, k, in).
CONVOLUTIONS = {"proj_in.1": ("proj_in", (0, 2, 1)), "proj_out.1": ("proj_out", (1, 2, 0))}


def convert_decoder_weights(
    weights: Mapping[str, mx.array], precision: str = "float32"
) -> dict[str, mx.array]:
    """A checkpoint's `decoder.*` arrays -> this decoder's names and layouts; other keys are left out.

    precision: the dtype of the matrices. Converted weights have no such prefix and come back as they are.
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
        is_quantised = value.dtype == mx.uint32 or kind in ("scales", "biases")
        converted[name] = value if is_quantised else matrix_in(precision, value)
    return converted


def convert_and_load(folder: Path, decoder: MLXDiTDecoder, precision: str = "float32") -> None:
    """Reads the decoder of a checkpoint, in either layout; precision: the dtype of its matrices, or '8bit' or '4bit'.

    A decoder that is stored quantised is loaded as it is; precision: the one that it is stored in.
    """
    bits = Precision(precision).bits
    # No name for what is read: as long as it had one, it would be held beside what it is converted to.
    converted = convert_decoder_weights(
        read_checkpoint(folder, (DECODER_PREFIX,)), precision if bits is None else "float32"
    )
    source = str(find_layout(folder).decoder)
    if bits is not None:
        shapes = shapes_of(decoder)
        quantize_layers(decoder, bits)
        if stored_bits(folder) is None:
            check_shapes(shapes, converted, source)
            converted = quantize_weights(decoder, converted)
    load_strictly(decoder, converted, source)
