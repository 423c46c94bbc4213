"""The decoder's matrices in 8 or 4 bits, by mlx's own quantisation.

64 neighbouring numbers of a row share a scale and a bias. Both are float16: of the 16 bits of bfloat16 fewer are
digits, which alone would move 8-bit weights by half as much again. What the layers take and return is float32,
however large: only the weights are quantised.
"""

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn

from acestep.models.checkpoint.precision import GROUP_SIZE, bits_of
from acestep.models.mlx.dit_model import MLXDiTDecoder


def quantize_layers(decoder: MLXDiTDecoder, bits: int) -> None:
    """Replaces the Linear layers of a decoder whose weights are still to be loaded.

    Norms, tables and both ends stay float32, and so does a matrix whose rows are no multiple of GROUP_SIZE.
    """

    def quantisation(name: str, layer: nn.Module) -> bool | dict[str, int]:
        if not isinstance(layer, nn.Linear) or layer.weight.shape[1] % GROUP_SIZE:
            return False
        return {"group_size": GROUP_SIZE, "bits": bits_of(name, bits)}

    nn.quantize(decoder, class_predicate=quantisation)


def quantized_layers(decoder: MLXDiTDecoder) -> dict[str, nn.QuantizedLinear]:
    """By name."""
    return {name: layer for name, layer in decoder.named_modules() if isinstance(layer, nn.QuantizedLinear)}


def quantize_weights(
    decoder: MLXDiTDecoder, weights: Mapping[str, mx.array], prefix: str = ""
) -> dict[str, mx.array]:
    """`{layer}.weight` of each quantised layer -> `weight`, `scales` and `biases`; all other weights as they are.

    prefix: what the weights' names have before the layer's.
    """
    quantised = dict(weights)
    for name, layer in quantized_layers(decoder).items():
        parts = mx.quantize(
            quantised[f"{prefix}{name}.weight"].astype(mx.float16),
            group_size=layer.group_size,
            bits=layer.bits,
        )
        for kind, value in zip(("weight", "scales", "biases"), parts, strict=True):
            quantised[f"{prefix}{name}.{kind}"] = value
    return quantised
