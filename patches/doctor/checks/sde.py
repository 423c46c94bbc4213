"""SDE: the level of the new noise that is added after each step, on MLX and in PyTorch.

Steps that add no new noise are ODE steps, whatever was requested.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import velocity_to_zeros
from ...harness.mlx_loop import run_mlx_loop
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

STEPS, SHIFT, FRAMES = 8, 3.0, 512  # 8 steps at shift 3 are turbo's own table too
BOUND = 0.04  # of a standard deviation that is measured on 512 x 64 values
REQUESTED = f"{STEPS} SDE steps, shift {SHIFT:g}: the same levels of noise on both backends"


def run(checkout: LoadedCheckout) -> Finding:
    """With a decoder that predicts zeros, the latents after a step are the noise alone: its level can be measured."""
    loop = checkout.torch_loop
    where = f"{loop.file} and {checkout.file_name('generate')}"
    backends: dict[str, Callable[[], list[float]]] = {
        "PyTorch": lambda: _levels(
            loop.run(
                velocity_to_zeros, frames=FRAMES, infer_steps=STEPS, infer_method="sde", shift=SHIFT
            ).states
        ),
        "MLX": lambda: _levels_on_mlx(checkout),
    }
    levels, refusals = {}, []
    for name, measure in backends.items():
        try:
            levels[name] = measure()
        except CannotProbe as reason:
            if "sde" not in str(reason).lower():
                raise
            refusals.append(f"{name} refuses it ({shorten(reason)})")
    if refusals:
        return judged(False, REQUESTED, "; ".join(refusals), where)
    largest = max(abs(a - b) for a, b in zip(levels["PyTorch"], levels["MLX"], strict=True))
    without_noise = any(max(values) <= BOUND for values in levels.values())
    observed = "; ".join(f"{name} {_describe(values)}" for name, values in levels.items())
    return judged(largest > BOUND or without_noise, REQUESTED, observed, where)


def _describe(levels: list[float]) -> str:
    return ", ".join(f"{level:.2f}" for level in levels) if max(levels) > BOUND else "adds none"


def _levels_on_mlx(checkout: LoadedCheckout) -> list[float]:
    states = run_mlx_loop(
        checkout.module("generate"),
        velocity_to_zeros,
        frames=FRAMES,
        infer_method="sde",
        shift=SHIFT,
        infer_steps=STEPS,
    ).states
    if len(states) != STEPS:
        raise CannotProbe(
            f"MLX evaluates {len(states)} steps where {STEPS} were requested (see the check steps)"
        )
    return _levels(states)


def _levels(states: list[torch.Tensor]) -> list[float]:
    """The standard deviation of each state without its part along the first one, the noise of the run."""
    noise = states[0].flatten()
    latents = [state.flatten() for state in states[1:]]
    return [float((x - noise * (x @ noise) / (noise @ noise)).std()) for x in latents]
