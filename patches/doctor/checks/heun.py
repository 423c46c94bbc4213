"""Guided Heun steps on MLX: whether the second evaluation of a step is guided as PyTorch does it.

PyTorch guides the corrector with plain CFG, since APG would move its momentum twice a step. Concerns LEGO wherever the
caller asks for Heun on a guided request, by sampler_mode or, in a fork, by infer_method; the default is Euler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import LoopRecord, zero_velocity
from ...harness.mlx_loop import FUNCTION, run_mlx_loop
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged
from .apg_momentum import BOUND, FRAMES, OTHER_MOMENTA, SCALE, KnownVelocity, guided
from .apg_momentum import MOMENTUM as APG_MOMENTUM

STEPS, OPTION, METHOD = 6, "sampler_mode", "infer_method"
REQUESTED = f"Heun, guidance {SCALE:g}: the corrector guided as in PyTorch"


@dataclass(frozen=True)
class Formula:
    """How a loop computes guided Heun steps: the guidance of the corrector, and the momentum of APG."""

    corrector: str
    momentum: float

    def __str__(self) -> str:
        return f"{self.corrector} in the corrector (momentum {self.momentum:+g})"


FORMULAS = [
    Formula(corrector, momentum)
    for corrector, momentum in product(("plain CFG", "APG"), (APG_MOMENTUM, *OTHER_MOMENTA))
]


def run(checkout: LoadedCheckout) -> Finding:
    """Both loops run with known velocities; the formula that gives each one's latents is looked up."""
    loop, where = checkout.torch_loop, f"{checkout.file_name('generate')}:_apply_cfg"
    generate = checkout.module("generate")
    on_mlx = OPTION in inspect.signature(getattr(generate, FUNCTION)).parameters
    kwargs: dict[str, Any] = {"frames": FRAMES, "infer_steps": STEPS, OPTION: "heun"}
    if OPTION not in loop.parameters:
        if on_mlx:
            return judged(True, REQUESTED, f"{OPTION} on MLX alone", where)
        kwargs[METHOD] = kwargs.pop(OPTION)
        try:
            if not _is_heun(loop.run(zero_velocity, **kwargs)):
                return judged(False, REQUESTED, f"no {OPTION} here", where)
            on_mlx = _is_heun(run_mlx_loop(generate, zero_velocity, **kwargs))
        except CannotProbe as reason:
            if not {"heun", METHOD} & set(str(reason).lower().replace("'", " ").split()):
                raise
            return judged(False, REQUESTED, f"refused: {shorten(reason)}", where)
    if not on_mlx:
        return judged(True, REQUESTED, "PyTorch: Heun; MLX: Euler, without an error", where)
    pytorch = _formula(lambda velocity: loop.run(velocity, guidance_scale=SCALE, **kwargs), "PyTorch")
    mlx = _formula(lambda velocity: run_mlx_loop(generate, velocity, guidance_scale=SCALE, **kwargs), "MLX")
    observed = f"PyTorch: {pytorch}; MLX: {mlx}"
    return judged(mlx.corrector != pytorch.corrector, REQUESTED, observed, where)


def _is_heun(record: LoopRecord) -> bool:
    """Two evaluations a step, the last one excepted."""
    return len(record.timesteps) > STEPS


def _formula(run_loop: Callable[[KnownVelocity], LoopRecord], backend: str) -> Formula:
    velocity = KnownVelocity(batch=1)
    record = run_loop(velocity)
    noise = record.states[0][:1].double()
    way = noise - record.end.double()
    distances = {formula: _distance(way, velocity, formula) for formula in FORMULAS}
    nearest = min(distances, key=lambda formula: distances[formula])
    if not distances[nearest] <= BOUND:
        raise CannotProbe(f"{backend}'s guided Heun steps follow no known formula")
    return nearest


def _distance(way: torch.Tensor, velocity: KnownVelocity, formula: Formula) -> float:
    """Relative L2 of the way from the noise to the end, against the one computed with `formula`."""
    branches = {t: (cond.double(), uncond.double()) for t, (cond, uncond) in velocity.branches.items()}
    expected, running, times = torch.zeros_like(way), None, [*(t for t in branches if t > 0), 0.0]
    for now, then in pairwise(times):
        cond, uncond = branches[now]
        difference = cond - uncond
        running = difference if running is None else difference + formula.momentum * running
        step = guided(cond, running)
        if then in branches:  # MLX evaluates nothing at t = 0: its last step is an Euler step
            cond2, uncond2 = branches[then]
            difference = cond2 - uncond2
            if formula.corrector == "APG":
                running = difference + formula.momentum * running
                second = guided(cond2, running)
            else:
                second = uncond2 + SCALE * difference
            step = (step + second) / 2
        expected += step * (now - then)
    return float((way - expected).norm() / expected.norm())
