"""Guidance on MLX: whether it is applied, and whether momentum and projection are those of PyTorch.

The decoder of this probe gives velocities that are known beforehand, others for the conditional branch than for
the null one, so that the whole run can be recomputed in float64 from what it ended with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from ..harness.fakes import CHANNELS, TOKENS, WIDTH, call_by_name
from ..harness.imports import CannotProbe, describe
from .line import SERIES, Finding, Line, found
from .site import Site, base_case

LINE = Line(
    "guidance",
    "a12a25a (2026-02-11)",
    "82a5d84 (2026-02-25)",
    "not closable in a few lines: update to 82a5d84 or later, or ask for guidance_scale=1",
)
APG_LINE = Line("guidance momentum (APG)", "82a5d84 (2026-02-25)", "", SERIES)
SCALE, STEPS, BATCH, FRAMES = 7.0, 6, 2, 24
MOMENTUM, THRESHOLD = -0.75, 2.5
BOUND = 1e-5  # float32 sums of six steps; a wrong momentum is off by 1e-1
OTHERS = {1.0: "a running sum, +1", 0.0: "no momentum", 0.75: "+0.75"}


def look(site: Site) -> Finding:
    """From the request to the decoder: are there evaluations of the null branch at all?"""
    case = base_case(STEPS, guidance_scale=SCALE)
    (seen,) = site.drive(case)
    if seen.error or seen.fallback:
        raise CannotProbe(f"a guided request does not run on MLX: {seen.error or seen.fallback}")
    guided = seen.guided > 0 or len(seen.evaluated) == 2 * len(set(seen.evaluated))
    got = "the null branch is evaluated too" if guided else "the null branch is never evaluated"
    return found(not guided, f"guidance {SCALE:g}", got, f"{site.name('generate')}, and what reaches it")


def look_momentum(site: Site) -> Finding:
    """The guided run against its reference, for PyTorch's momentum and for those it could be taken for."""
    run = _guided_run(site)
    if not run.null_rows:
        raise CannotProbe("MLX applies no guidance here (see the line above)")
    away = run.distance_to(MOMENTUM)
    got = f"relative L2 {away:.1e} from PyTorch's formula"
    if away > BOUND:
        near = min(OTHERS, key=run.distance_to)
        if run.distance_to(near) <= BOUND:
            got += f"; it is the one with momentum {near:+g} ({OTHERS[near]})"
    return found(
        away > BOUND,
        f"momentum {MOMENTUM:g}, threshold {THRESHOLD:g}, projection over time",
        got,
        site.name("generate"),
    )


@dataclass(frozen=True)
class _Run:
    """The noise, the latents at the end, the timesteps, and each step's velocities of both branches, float64."""

    noise: torch.Tensor
    end: torch.Tensor
    timesteps: list[float]
    branches: list[tuple[torch.Tensor, torch.Tensor]]
    null_rows: int

    def distance_to(self, momentum: float) -> float:
        """Relative L2 of the way from the noise to the end against the one that guidance should give."""
        walked = torch.zeros_like(self.noise)
        running: torch.Tensor | None = None
        for (conditional, null), now, then in zip(
            self.branches, self.timesteps, [*self.timesteps[1:], 0.0], strict=True
        ):
            difference = conditional - null
            running = difference if running is None else difference + momentum * running
            walked += guided(conditional, running) * (now - then)
        return float((self.noise - self.end - walked).norm() / walked.norm())


def guided(conditional: torch.Tensor, running: torch.Tensor) -> torch.Tensor:
    """APG over time: `running` is the difference of the branches with its momentum; [batch, frames, channels]."""
    length = running.norm(dim=1, keepdim=True)
    short = running * torch.clamp(THRESHOLD / length, max=1.0)
    direction = conditional / conditional.norm(dim=1, keepdim=True)
    parallel = (short * direction).sum(dim=1, keepdim=True) * direction
    return conditional + (SCALE - 1) * (short - parallel)


class _KnownDecoder:
    """Answers each row by its encoder states: 1 for the conditional branch, -1 for the null one."""

    def __init__(self) -> None:
        self.timesteps: list[float] = []
        self.branches: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.noise: torch.Tensor | None = None
        self.null_rows = 0

    def __call__(
        self, hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **given: Any
    ) -> tuple[Any, Any]:
        x = torch.tensor(hidden_states.tolist(), dtype=torch.float64)
        t = float(timestep.tolist()[0])
        if not self.timesteps or self.timesteps[-1] != t:
            self._next_step(t, x)
        states = torch.tensor(given["encoder_hidden_states"].tolist())
        rows, seen = [], {True: 0, False: 0}
        for row in range(x.shape[0]):
            is_null = bool(states[row].mean() < 0)
            rows.append(self.branches[-1][is_null][seen[is_null] % BATCH])
            seen[is_null] += 1
        self.null_rows += seen[True]
        return mx.array(torch.stack(rows).float().numpy()), cache

    def _next_step(self, t: float, x: torch.Tensor) -> None:
        if self.noise is None:
            self.noise = x[:BATCH]
        draw = torch.Generator().manual_seed(len(self.timesteps))
        made = torch.randn(2, BATCH, FRAMES, CHANNELS, generator=draw)
        # Some channels beyond the norm threshold and some below it, in both branches.
        made[1] = made[0] + made[1] * torch.linspace(0.1, 1.5, CHANNELS)
        self.timesteps.append(t)
        self.branches.append((made[0].double(), made[1].double()))


def _guided_run(site: Site) -> _Run:
    generate = getattr(site.module("generate"), "mlx_generate_diffusion", None)
    if generate is None:
        raise CannotProbe(f"{site.name('generate')} does not define mlx_generate_diffusion")
    decoder = _KnownDecoder()
    given = {
        "mlx_decoder": decoder,
        "encoder_hidden_states_np": np.ones((BATCH, TOKENS, WIDTH), np.float32),
        "context_latents_np": np.zeros((BATCH, FRAMES, 2 * CHANNELS), np.float32),
        "src_latents_shape": (BATCH, FRAMES, CHANNELS),
        "seed": [1, 2],
        "infer_method": "ode",
        "shift": 3.0,
        "infer_steps": STEPS,
        "is_turbo": False,
        "guidance_scale": SCALE,
        "null_condition_emb_np": -np.ones((1, 1, WIDTH), np.float32),
        "dcw_enabled": False,
        "disable_tqdm": True,
    }
    try:
        end = call_by_name(generate, given)["target_latents"]
    except Exception as error:
        raise CannotProbe(f"a guided run raises {describe(error)}") from error
    if decoder.noise is None:
        raise CannotProbe("a guided run never calls the decoder")
    return _Run(
        decoder.noise,
        torch.from_numpy(np.array(end)).double(),
        decoder.timesteps,
        decoder.branches,
        decoder.null_rows,
    )
