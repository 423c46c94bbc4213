"""The wavelet correction (DCW) of a base model: off in a plain call, since it garbles what base models generate.

The error grows with the number of steps. The decoder of this check predicts the middle between the hidden states and
known clean latents, so that the latents at the end get closer to the clean ones with more steps; with the correction
they get further away.

This check alone makes a plain call, with every default of the checkout but the instruction, the step count and the
seed; all others ask for dcw_enabled=False.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import torch

from ...harness.imports import CannotProbe
from ...harness.loops import zero_velocity
from ...harness.models import CHANNELS
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

COUNTS, BOUND = (8, 50, 200), 1e-5
REQUESTED = "a base model with every default of the checkout: no wavelet correction (DCW)"
WHERE = "inference.py:GenerationParams.dcw_enabled"
OPTION = "dcw_enabled"


def run(checkout: LoadedCheckout) -> Finding:
    """Plain calls are compared with the same calls that ask for no correction."""
    if not checkout.has_param(OPTION):
        return judged(False, REQUESTED, "no such correction here", WHERE)
    clean = torch.randn(
        1, checkout.application.frames(6.0), CHANNELS, generator=torch.Generator().manual_seed(1)
    )
    distances = {}
    for count in COUNTS:
        plain = checkout.lego(**_request(clean, count)).require_latents()
        off = checkout.lego(**_request(clean, count), **{OPTION: False}).require_latents()
        distances[count] = (_distance(off, clean), _distance(plain, clean), _distance(plain, off))
    is_on = any(not change <= BOUND for _, _, change in distances.values())
    if is_on:
        observed = "; ".join(
            f"{count} steps end {off:.2f} from the clean latents without it, {plain:.2f} with the defaults"
            for count, (off, plain, _) in distances.items()
        )
        return judged(True, REQUESTED, f"it is on: {observed}; {_on_pytorch(checkout)}", WHERE)
    return judged(False, REQUESTED, f"it is off; asked for, {_on_pytorch(checkout)}", WHERE)


def _request(clean: torch.Tensor, count: int) -> dict[str, Any]:
    target = mx.array(clean.numpy())

    def velocity(states: mx.array, timestep: mx.array) -> mx.array:
        return (states - target) / (2 * timestep.reshape(-1, 1, 1))

    return {"plain": True, "velocity": velocity, "inference_steps": count}


def _distance(latents: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative L2."""
    return float((latents.double() - reference.double()).norm() / reference.double().norm())


def _on_pytorch(checkout: LoadedCheckout) -> str:
    """What PyTorch does about the correction where pytorch_wavelets is not installed."""
    try:
        loop = checkout.torch_loop
        if OPTION not in loop.parameters:
            return "PyTorch has no such correction"
        with _without("pytorch_wavelets"):
            plain = loop.run(zero_velocity, infer_steps=8).end
            corrected = loop.run(zero_velocity, infer_steps=8, dcw_enabled=True).end
    except CannotProbe:
        return "PyTorch without pytorch_wavelets refuses it"
    if torch.equal(plain, corrected):
        return "PyTorch without pytorch_wavelets leaves it out, which only the log says"
    return "PyTorch applies it"


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Makes the import of a module fail."""
    kept = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        if kept is not None:
            sys.modules[module] = kept
