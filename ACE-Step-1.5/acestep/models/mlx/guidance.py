"""Adaptive projected guidance (APG) in MLX, as base models use it.

Held to diffusers' normalized_guidance with eta 0, over time. Source: Sadat et al. 2024, "Eliminating
Oversaturation and Artifacts of High Guidance Scales in Diffusion Models".
"""

import mlx.core as mx

MOMENTUM = -0.75
NORM_THRESHOLD = 2.5
TIME_AXIS = 1


def norm_over_time(x: mx.array) -> mx.array:
    """L2 norm along the frames: [batch, frames, channels] -> [batch, 1, channels]"""
    return mx.sqrt(mx.sum(x * x, axis=TIME_AXIS, keepdims=True))


class AdaptiveProjectedGuidance:
    """One run's guidance: it remembers the difference of the branches from step to step."""

    def __init__(self, guidance_scale: float) -> None:
        self.guidance_scale = guidance_scale
        self._running: mx.array | None = None

    def __call__(self, conditional: mx.array, null: mx.array) -> mx.array:
        """The guided velocity from both branches' velocities, each [batch, frames, channels]."""
        difference = conditional - null
        if self._running is not None:
            difference = difference + MOMENTUM * self._running
        self._running = difference

        norm = mx.maximum(norm_over_time(difference), 1e-30)  # 0 / 0 where both branches agree
        difference = difference * mx.minimum(1.0, NORM_THRESHOLD / norm)

        direction = conditional / mx.maximum(norm_over_time(conditional), 1e-12)
        parallel = mx.sum(difference * direction, axis=TIME_AXIS, keepdims=True) * direction
        return conditional + (self.guidance_scale - 1.0) * (difference - parallel)
