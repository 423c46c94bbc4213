"""Guidance on MLX: whether momentum, threshold and projection are those of PyTorch's APG.

The decoder's velocities are known for both branches, so that the whole run can be computed in float64 and compared
with the latents at its end.
"""

from __future__ import annotations

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import LoopRecord
from ...harness.mlx_loop import run_mlx_loop
from ...harness.models import CHANNELS
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

SCALE, STEPS, BATCH, FRAMES = 7.0, 6, 2, 24
MOMENTUM, THRESHOLD = -0.75, 2.5
BOUND = 1e-5  # float32 sums of six steps; a wrong momentum is off by 1e-1
OTHER_MOMENTA = {1.0: "a running sum, +1", 0.0: "no momentum", 0.75: "+0.75"}


def run(checkout: LoadedCheckout) -> Finding:
    """The guided run is compared with PyTorch's momentum, and where it differs with other likely ones."""
    velocity = KnownVelocity(BATCH)
    record = run_mlx_loop(
        checkout.module("generate"),
        velocity,
        frames=FRAMES,
        batch=BATCH,
        infer_steps=STEPS,
        guidance_scale=SCALE,
    )
    if not record.timesteps:
        raise CannotProbe("a guided run never calls the decoder")
    if not any(rows.any() for rows in record.uncond):
        raise CannotProbe("MLX applies no guidance here (see the check guidance)")
    distances = {momentum: velocity.distance(record, momentum) for momentum in (MOMENTUM, *OTHER_MOMENTA)}
    observed = f"relative L2 {distances[MOMENTUM]:.1e} from PyTorch's formula"
    wrong = not distances[MOMENTUM] <= BOUND
    if wrong:
        nearest = min(OTHER_MOMENTA, key=lambda momentum: distances[momentum])
        if distances[nearest] <= BOUND:
            observed += f"; it is the one with momentum {nearest:+g} ({OTHER_MOMENTA[nearest]})"
    observed += _of_its_own_pytorch(checkout)
    return judged(
        wrong,
        f"momentum {MOMENTUM:g}, threshold {THRESHOLD:g}, projection over time",
        observed,
        checkout.file_name("generate"),
    )


def _of_its_own_pytorch(checkout: LoadedCheckout) -> str:
    """What to add where the checkout's PyTorch has another of the known momenta, as a fork may."""
    velocity = KnownVelocity(1)
    try:
        record = checkout.torch_loop.run(velocity, frames=FRAMES, infer_steps=STEPS, guidance_scale=SCALE)
    except CannotProbe:
        return ""
    found = [
        momentum for momentum in (MOMENTUM, *OTHER_MOMENTA) if velocity.distance(record, momentum) <= BOUND
    ]
    return (
        f"; this checkout's own PyTorch has momentum {found[0]:+g}" if found and found[0] != MOMENTUM else ""
    )


class KnownVelocity:
    """Random velocities [batch, frames, 64] for each step and branch, whatever the hidden states are."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.branches: dict[float, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, states: torch.Tensor, t: float, is_uncond: torch.Tensor) -> torch.Tensor:
        if t not in self.branches:
            generator = torch.Generator().manual_seed(len(self.branches))
            made = torch.randn(2, self.batch, FRAMES, CHANNELS, generator=generator)
            # Some channels above the norm threshold and some below it, in both branches.
            made[1] = made[0] + made[1] * torch.linspace(0.1, 1.5, CHANNELS)
            self.branches[t] = (made[0], made[1])
        rows, used = [], {True: 0, False: 0}
        for branch in map(bool, is_uncond):
            rows.append(self.branches[t][branch][used[branch] % self.batch])
            used[branch] += 1
        return torch.stack(rows)

    def distance(self, record: LoopRecord, momentum: float) -> float:
        """Relative L2 of the way from the noise to the end, against the one computed with this momentum."""
        way = torch.zeros(self.batch, FRAMES, CHANNELS, dtype=torch.float64)
        running: torch.Tensor | None = None
        times = list(self.branches)
        for now, then in zip(times, [*times[1:], 0.0], strict=True):
            cond, uncond = (branch.double() for branch in self.branches[now])
            difference = cond - uncond
            running = difference if running is None else difference + momentum * running
            way += guided(cond, running) * (now - then)
        noise = record.states[0][: self.batch].double()
        return float((noise - record.end.double() - way).norm() / way.norm())


def guided(cond: torch.Tensor, running: torch.Tensor) -> torch.Tensor:
    """The guided velocity of APG; `running` is the branches' difference with its momentum. [batch, frames, 64]."""
    clipped = running * torch.clamp(THRESHOLD / running.norm(dim=1, keepdim=True), max=1.0)
    direction = cond / cond.norm(dim=1, keepdim=True)
    parallel = (clipped * direction).sum(dim=1, keepdim=True) * direction
    return cond + (SCALE - 1) * (clipped - parallel)
