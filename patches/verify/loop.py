"""A fake decoder with known velocities, and the Euler loop that they have to give, recomputed in float64.

A velocity that is skipped, repeated, reused or applied in another order leaves other latents behind, also where the
number of evaluations is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..harness.arrays import as_array, one_timestep
from ..harness.fakes import CountingDecoder
from .trace import StepTrace

DISTINCT_VELOCITIES = 10_007  # of one run, more than the steps that can be requested


class RandomVelocityDecoder(CountingDecoder):
    """Counts, keeps the timestep and the latents of each evaluation, and returns random velocities of a known seed.

    Both guidance branches get the same velocity, so that guidance of any kind and size changes nothing. Velocities are
    uniform with mean 0 and standard deviation `scale`. Each is the one before, shifted by one value: new ones for each
    evaluation would take most of a run at real size.

    latents, velocities: float32 [batch, frames, 64], one an evaluation. Latents and timesteps are there after `finish`:
    to have MLX compute them at each evaluation would take nearly as long as the checkout's own loop.
    """

    def __init__(
        self, seed: int, batch: int, scale: float = 1.0, trace: StepTrace | None = None, steady: bool = False
    ) -> None:
        """trace: is told of each evaluation. steady: each velocity is the first one."""
        super().__init__(batch)
        self.latents: list[np.ndarray] = []
        self.velocities: list[np.ndarray] = []
        self._trace, self._scale, self._steady = trace, scale, steady
        self._random = np.random.default_rng(seed)
        self._drawn = np.empty(0, np.float32)
        self._given: list[tuple[mx.array, mx.array]] = []

    def __call__(
        self, hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **__: Any
    ) -> tuple[Any, Any]:
        # copies (a slice is one), since the checkout may write into its own arrays later
        self._given.append((mx.array(timestep), hidden_states[: self.batch]))
        self.guided += hidden_states.shape[0] == 2 * self.batch
        if self._trace is not None:
            self._trace.decoder_called()
        self.velocities.append(self._next_velocity(self._given[-1][1].shape))
        velocity = mx.array(self.velocities[-1]).astype(hidden_states.dtype)
        branches = hidden_states.shape[0] // self.batch
        return mx.concatenate([velocity] * branches, axis=0) if branches > 1 else velocity, cache

    def finish(self) -> None:
        """Compute what the evaluations were given. To be called in the thread of the run.

        Raises RuntimeError where the rows of one evaluation had several timesteps.
        """
        mx.eval(self._given)
        self.latents = [as_array(latents) for _, latents in self._given]
        for timestep, _ in self._given:
            self.timesteps.append(one_timestep(timestep))

    def _next_velocity(self, shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        if len(self._drawn) < size + DISTINCT_VELOCITIES:
            self._drawn = self._random.random(size + DISTINCT_VELOCITIES, dtype=np.float32)
            self._drawn -= 0.5
            self._drawn *= 12**0.5 * self._scale
        start = 0 if self._steady else len(self.velocities) % DISTINCT_VELOCITIES
        return self._drawn[start : start + size].reshape(shape)


def latents_distance(
    decoder: RandomVelocityDecoder, schedule: Sequence[float], returned: Any
) -> float | None:
    """Relative L2 distance between the latents of a run and those of the Euler loop, the largest over all steps.

    The loop starts from the noise that arrived at the first evaluation.

    Args:
        schedule: the expected timesteps, one an evaluation, without the 0 at the end.
        returned: the `target_latents` that the checkout returned, a torch tensor [B, T, C].

    Returns None where there is nothing to compare: another number of evaluations, other shapes, values not finite.
    """
    if not decoder.latents or len(decoder.latents) != len(schedule):
        return None
    found = [*decoder.latents, np.array(returned.tolist(), dtype=np.float64)]
    if len({latents.shape for latents in found}) != 1:
        return None
    expected = decoder.latents[0].astype(np.float64)
    difference = np.empty_like(expected)
    largest = 0.0
    for k, (now, then) in enumerate(zip(schedule, [*schedule[1:], 0.0], strict=True)):
        np.multiply(decoder.velocities[k], now - then, out=difference, dtype=np.float64)
        expected -= difference
        np.subtract(found[k + 1], expected, out=difference)
        squared = np.vdot(difference, difference) / np.vdot(expected, expected)
        if not np.isfinite(squared):
            return None
        largest = max(largest, float(squared))
    return math.sqrt(largest)
