"""The layers of the audio VAE, on arrays [batch, length, channels]; each knows how far its receptive field reaches.

`vae_cpu` computes the same layers without a GPU.
"""

import math
from fractions import Fraction
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

KERNEL = 7


class Layer(Protocol):
    """[batch, length, channels] -> the same, with another length and width where `ratio` and the weights say so."""

    ratio: Fraction  # positions of the output for one of the input

    def __call__(self, x: mx.array) -> mx.array: ...

    def parameters(self) -> dict[str, Any]: ...

    def margin(self, outputs: int) -> int:
        """How many positions of the input, on either side, the outer `outputs` positions of the output reach out to."""
        ...


class Snake1d(nn.Module):
    """x + sin(alpha x)^2 / beta, with an alpha and a beta for each channel."""

    ratio = Fraction(1)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = mx.ones(channels)
        self.inverse_beta = mx.ones(channels)

    def margin(self, outputs: int) -> int:
        return outputs

    def __call__(self, x: mx.array) -> mx.array:
        wave = mx.sin(x * self.alpha)
        return x + wave * wave * self.inverse_beta


class Conv1d(nn.Module):
    """A convolution that keeps the length; its kernel is odd."""

    ratio = Fraction(1)

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = mx.zeros((kernel, inputs, outputs))
        if bias:
            self.bias = mx.zeros(outputs)
        self.dilation = dilation
        self.padding = dilation * (kernel - 1) // 2

    def margin(self, outputs: int) -> int:
        return outputs + self.padding

    def __call__(self, x: mx.array) -> mx.array:
        kernel = self.weight.transpose(2, 0, 1)
        y = mx.conv1d(x, kernel, padding=self.padding, dilation=self.dilation)
        return y + self.bias if "bias" in self else y


class DownsamplingConv1d(nn.Module):
    """A convolution of stride s and kernel 2 s, as one of kernel 2 over groups of s positions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.weight = mx.zeros((2, stride * inputs, outputs))
        self.bias = mx.zeros(outputs)
        self.stride, self.padding = stride, math.ceil(stride / 2)
        self.ratio = Fraction(1, stride)

    def margin(self, outputs: int) -> int:
        return outputs * self.stride + self.padding

    def groups(self, length: int) -> tuple[int, int]:
        """How many groups there are of an input, and how many positions are added at its end, or left out below 0."""
        groups = (length + 2 * self.padding) // self.stride
        return groups, groups * self.stride - length - self.padding

    def __call__(self, x: mx.array) -> mx.array:
        batch, length, channels = x.shape
        groups, end = self.groups(length)
        padded = mx.pad(x[:, : length + min(end, 0)], [(0, 0), (self.padding, max(end, 0)), (0, 0)])
        grouped = padded.reshape(batch, groups, self.stride * channels)
        return mx.conv1d(grouped, self.weight.transpose(2, 0, 1)) + self.bias


class UpsamplingConv1d(nn.Module):
    """A transposed convolution of stride s and kernel 2 s, as a convolution of kernel 2 that gives s positions each."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.weight = mx.zeros((2, inputs, stride * outputs))
        self.bias = mx.zeros(outputs)
        self.stride, self.padding = stride, math.ceil(stride / 2)
        self.ratio = Fraction(stride)

    def margin(self, outputs: int) -> int:
        return 1 + (outputs + self.padding - 1) // self.stride

    def __call__(self, x: mx.array) -> mx.array:
        y = mx.conv1d(x, self.weight.transpose(2, 0, 1), padding=1).reshape(len(x), -1, self.bias.size)
        return y[:, self.padding : y.shape[1] - self.padding] + self.bias


class OobleckResidualUnit(nn.Module):
    """Two convolutions, the first one dilated, beside the identity."""

    ratio = Fraction(1)

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.snake1 = Snake1d(channels)
        self.conv1 = Conv1d(channels, channels, KERNEL, dilation)
        self.snake2 = Snake1d(channels)
        self.conv2 = Conv1d(channels, channels, 1)

    def margin(self, outputs: int) -> int:
        return self.conv1.margin(outputs)

    def __call__(self, x: mx.array) -> mx.array:
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))
