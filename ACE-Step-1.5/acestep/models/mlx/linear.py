"""The large matmuls of the models, whatever their weights are held in; what goes in and what comes out is float32.

float16 ends at 65,504, and real weights go beyond: the gated MLP product reaches 137,000, the output of a lyric
encoder layer's down_proj 505,000. Rows that could overflow are divided by a power of two first,
and the result is multiplied by it in float32. That changes no bit of a number, unless it is too small for float16
where the largest of its row is too large. bfloat16 has float32's range.
"""

import mlx.core as mx
import mlx.nn as nn

from acestep.models.mlx.cpu_math import is_on_cpu

FLOAT16_RANGE = 2.0**15  # half of float16's, so that no rounding leads beyond it
EXPONENT = 0x7F800000  # the bits of a float32 that hold its power of two
HALF_DTYPES = (mx.float16, mx.bfloat16)


def project(layer: nn.Linear | nn.QuantizedLinear, x: mx.array) -> mx.array:
    """x float32 [..., inputs] -> float32 [..., outputs]

    Half precision rounds the input once and the output once; quantised weights take float32 as it is.
    """
    if isinstance(layer, nn.QuantizedLinear):
        return _with_bias(layer, quantized_matmul(layer, x))
    if layer.weight.dtype not in HALF_DTYPES:
        return layer(x)
    if layer.weight.dtype == mx.bfloat16:
        return _with_bias(layer, half_matmul(x, layer.weight))
    scale = scale_into_range(x, layer.largest_row_sum, axis=-1)
    return _with_bias(layer, half_matmul(x / scale, layer.weight) * scale)


def _with_bias(layer: nn.Module, y: mx.array) -> mx.array:
    return y + layer.bias if "bias" in layer else y


def half_matmul(x: mx.array, weight: mx.array) -> mx.array:
    """x float32 [..., inputs], weight float16 or bfloat16 [outputs, inputs] -> float32 [..., outputs]"""
    x = x.astype(weight.dtype)
    if is_on_cpu():
        # mlx has only a slow loop for it there, which sums in float32 and rounds the sum to half precision, as here.
        return (x.astype(mx.float32) @ weight.astype(mx.float32).T).astype(weight.dtype).astype(mx.float32)
    return (x @ weight.T).astype(mx.float32)


def scale_into_range(x: mx.array, growth: float = 1.0, axis: int | None = None) -> mx.array:
    """The power of two, at least 1, that x has to be divided by to stay within float16 in a matmul.

    growth: the largest sum of magnitudes of a row of the weights. Neither the result nor any part of the sum, in
    whatever order and precision it is summed, is larger than the largest |x| times it. axis: of the rows; None: one
    power for all of x.
    """
    bound = mx.max(mx.abs(x), axis=axis, keepdims=axis is not None) * (2.0 * max(growth, 1.0) / FLOAT16_RANGE)
    return mx.maximum(mx.view(mx.view(bound, mx.uint32) & EXPONENT, mx.float32), 1.0)


def quantized_matmul(layer: nn.QuantizedLinear, x: mx.array) -> mx.array:
    """x float32 [..., inputs] -> float32 [..., outputs], without the bias."""
    scales, biases = layer.scales.astype(mx.float32), layer.biases.astype(mx.float32)
    quantisation = {"group_size": layer.group_size, "bits": layer.bits}
    if is_on_cpu():
        # mlx's kernel for the CPU takes 26 times as long as to dequantise and to multiply by BLAS. It would dequantise
        # the weights of many layers ahead, as nothing else is needed for it: each is made to wait for its input.
        (weight,) = mx.depends([layer.weight], [x])
        return x @ mx.dequantize(weight, scales, biases, **quantisation).T
    return mx.quantized_matmul(x, layer.weight, scales, biases, transpose=True, **quantisation)


def measure_rows(model: nn.Module) -> None:
    """Gives each float16 Linear of a loaded model its `largest_row_sum`, which `project` needs."""
    for _, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer.weight.dtype == mx.float16:
            sums = mx.sum(mx.abs(layer.weight.astype(mx.float32)), axis=-1)
            layer.largest_row_sum = mx.max(sums).item()
