"""Custom timesteps in PyTorch: whether each is a step, and the last one goes on to 0, as on MLX and in diffusers."""

from __future__ import annotations

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import zero_velocity
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

TIMESTEPS = [1.0, 0.75, 0.5]


def run(checkout: LoadedCheckout) -> Finding:
    loop = checkout.torch_loop
    try:
        seen = loop.run(zero_velocity, infer_steps=8, timesteps=torch.tensor(TIMESTEPS)).timesteps
    except CannotProbe as reason:
        if "timesteps" not in str(reason):
            raise
        return judged(False, "1, 0.75, 0.5", f"refused: {shorten(reason)}", loop.file)
    evaluated = ", ".join(f"{round(t, 4):g}" for t in seen)
    requested = "1, 0.75, 0.5 as three steps to 0"
    if seen == TIMESTEPS:
        return judged(False, requested, f"{evaluated} evaluated", loop.file)
    how = "the last one is used as the end" if seen == TIMESTEPS[:-1] else "the list is not used"
    return judged(True, requested, f"{evaluated} evaluated: {how}", loop.file)
