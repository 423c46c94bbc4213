"""Timesteps that a base model should be evaluated at, and how those that were evaluated differ from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

TOLERANCE = 1e-6  # float32 resolves 6e-8 below 1


def base_schedule(steps: int, shift: float) -> list[float]:
    """PyTorch's schedule of a base model: `steps` values from 1 down, in float32."""
    t = torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float32)
    schedule: list[float] = (shift * t / (1 + (shift - 1) * t))[:-1].tolist()
    return schedule


def differs(evaluated: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether the number of evaluations, or a timestep by more than TOLERANCE, is another one."""
    if len(evaluated) != len(expected):
        return True
    return any(not abs(a - b) <= TOLERANCE for a, b in zip(evaluated, expected, strict=True))


def describe_timesteps(evaluated: Sequence[Sequence[float]], expected: Sequence[Sequence[float]]) -> str:
    """The numbers of evaluations of several runs, and whether their timesteps are the expected ones."""
    counts = f"{', '.join(str(len(run)) for run in evaluated)} evaluated"
    wrong = any(map(differs, evaluated, expected))
    return f"{counts}, at other timesteps" if wrong else f"{counts}, at the expected timesteps"
