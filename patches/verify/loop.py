"""A fake decoder with known velocities, and the Euler loop that they have to give, recomputed in float64.

A velocity that is skipped, repeated, reused or applied in another order leaves other latents behind, also where the
number of evaluations is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from ..harness.arrays import as_array
from ..harness.fakes import CountingDecoder
from .trace import StepTrace


class RandomVelocityDecoder(CountingDecoder):
    """Counts, keeps the latents of each evaluation, and returns random velocities of a known seed.

    Both guidance branches get the same velocity, so that guidance of any kind and size changes nothing. Velocities are
    uniform with mean 0 and standard deviation `scale`: normal ones take six times as long to draw, most of a run at
    real size.
    """

    def __init__(self, seed: int, batch: int, scale: float = 1.0, trace: StepTrace | None = None) -> None:
        """trace: is told of each evaluation."""
        super().__init__(batch)
        self._trace, self._scale = trace, scale
        self.latents: list[np.ndarray] = []
        self.velocities: list[np.ndarray] = []
        self._random = np.random.default_rng(seed)

    def __call__(
        self, hidden_states: Any, timestep: Any, *rest: Any, cache: Any = None, **given: Any
    ) -> tuple[Any, Any]:
        super().__call__(hidden_states, timestep, *rest, cache=cache, **given)
        if self._trace is not None:
            self._trace.decoder_called()
        self.latents.append(as_array(hidden_states[: self.batch]))
        drawn = self._random.random(self.latents[-1].shape, dtype=np.float32)
        drawn -= 0.5
        drawn *= 12**0.5 * self._scale
        self.velocities.append(drawn)
        velocity = mx.array(drawn).astype(hidden_states.dtype)
        branches = hidden_states.shape[0] // self.batch
        return mx.concatenate([velocity] * branches, axis=0) if branches > 1 else velocity, cache


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
    largest = 0.0
    for k, (now, then) in enumerate(zip(schedule, [*schedule[1:], 0.0], strict=True)):
        expected = expected - decoder.velocities[k].astype(np.float64) * (now - then)
        distance = np.linalg.norm(found[k + 1] - expected) / np.linalg.norm(expected)
        if not np.isfinite(distance):
            return None
        largest = max(largest, float(distance))
    return largest
