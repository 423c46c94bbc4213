"""The timesteps that a case has to run at: PyTorch's for a base model, else the checkout's own before the patches."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch

from ..harness.fakes import call_by_name
from ..harness.imports import CannotProbe
from .cases import Case


def reference_schedule(case: Case) -> tuple[float, ...]:
    """The decoder's timesteps on PyTorch's side, in float32; see Observation.reference."""
    if case.timesteps is not None:
        values = torch.tensor(case.timesteps, dtype=torch.float32).tolist()
        while values and values[-1] == 0:
            values.pop()
        return tuple(values)
    if not isinstance(case.steps, int) or case.steps < 1:
        return ()
    t = torch.linspace(1.0, 0.0, case.steps + 1, dtype=torch.float32)
    return tuple((case.shift * t / (1 + (case.shift - 1) * t))[:-1].tolist())


def unpatched_schedule(case: Case, generate: ModuleType) -> tuple[float, ...] | None:
    """What the checkout's schedule gives to a caller that does not name the model kind.

    A checkout whose own default is a base model is asked for turbo's list by name, except where the host has no
    `config` to say so.
    """
    schedule = getattr(generate, "get_timestep_schedule", None)
    if schedule is None:
        raise CannotProbe(f"{generate.__name__} does not define get_timestep_schedule")
    known: dict[str, Any] = {"shift": case.shift, "infer_steps": case.steps, "timesteps": None}
    if case.timesteps is not None:
        known["timesteps"] = torch.tensor(case.timesteps, dtype=torch.float32).tolist()
    try:
        is_turbo = inspect.signature(schedule).parameters.get("is_turbo")
        needs_the_kind = [inspect.Parameter.empty] + ([] if case.config is None else [False])
        if is_turbo is not None and is_turbo.default in needs_the_kind:
            known["is_turbo"] = True
        values = list(call_by_name(schedule, known))
        return tuple(torch.tensor(values, dtype=torch.float32).tolist())
    except Exception:
        return None
