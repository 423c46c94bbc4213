"""SDE: the level of noise that is added back after each step, on MLX and in PyTorch."""

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
    observed = "; ".join(f"{name} {', '.join(f'{v:.2f}' for v in values)}" for name, values in levels.items())
    return judged(largest > 0.04, REQUESTED, observed, where)


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
    return [float(state.std()) for state in states[1:]]
