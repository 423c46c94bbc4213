"""What running a denoising loop alone needs on both backends: a velocity in place of the decoder, and a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

# Hidden states [rows, frames, 64], t, and for each row whether it is uncond's; the velocity.
Velocity = Callable[[torch.Tensor, float, torch.Tensor], torch.Tensor]

COND, UNCOND = 1.0, -1.0  # the value of all encoder states, which tells a row's branch


@dataclass
class LoopRecord:
    """For each decoder evaluation its timestep, its hidden states [rows, frames, 64] and which rows were
    uncond's; and the latents [batch, frames, 64] that the loop returned. All float32."""

    timesteps: list[float] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)
    uncond: list[torch.Tensor] = field(default_factory=list)
    end: torch.Tensor = field(default_factory=lambda: torch.empty(0))

    def evaluate(
        self, velocity: Velocity, states: torch.Tensor, t: float, encoder_states: torch.Tensor | None
    ) -> torch.Tensor:
        """Records one evaluation, and returns its velocity. Without encoder states every row is conditional."""
        is_uncond = torch.zeros(states.shape[0], dtype=torch.bool)
        if encoder_states is not None:
            is_uncond |= encoder_states.flatten(1).mean(dim=1) < 0  # one row broadcasts
        self.timesteps.append(t)
        self.states.append(states)
        self.uncond.append(is_uncond)
        return velocity(states, t, is_uncond)


def zero_velocity(states: torch.Tensor, _t: float, _is_uncond: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(states)


def velocity_to_zeros(states: torch.Tensor, t: float, _is_uncond: torch.Tensor) -> torch.Tensor:
    """Predicts a clean sample of zeros, so that what SDE adds after a step is the noise alone."""
    return states / t
