"""Where PyTorch itself does something else than was asked for, or than MLX: SDE, custom timesteps, wavelets."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from ..harness.fakes import CHANNELS, TOKENS, WIDTH, call_by_name
from ..harness.imports import CannotProbe
from .application import short
from .line import Finding, Line, found
from .pytorch import METHOD, Loop, still, to_nothing
from .site import Site

SDE_LINE = Line(
    "SDE",
    "a12a25a (2026-02-11)",
    "",
    "not closable in a few lines: ask for infer_method='ode', where backends are to be compared",
)
TIMESTEPS_LINE = Line(
    "custom timesteps in PyTorch",
    "",
    "",
    "not closable in a few lines: where PyTorch takes the list, end it with 0.0; where it does not, use MLX",
)
DCW_LINE = Line(
    "wavelet correction in PyTorch",
    "db3941f (2026-04-20)",
    "",
    "not closable in a few lines: pip install pytorch_wavelets PyWavelets, or ask for dcw_enabled=False",
)
STEPS, SHIFT, FRAMES = 8, 3.0, 512  # 8 steps at shift 3 are turbo's own table too
SDE_ASKED = f"{STEPS} SDE steps, shift {SHIFT:g}: the same levels of noise on both backends"


def look_sde(site: Site) -> Finding:
    """With a decoder that predicts zeros, what is left after a step is the noise alone: its level can be read."""
    loop = Loop(site)
    where = f"{loop.file} and {site.name('generate')}"
    sides: dict[str, Callable[[], list[float]]] = {
        "PyTorch": lambda: _levels_of_pytorch(loop),
        "MLX": lambda: _levels_of_mlx(site),
    }
    levels, refusals = {}, []
    for name, side in sides.items():
        try:
            levels[name] = side()
        except CannotProbe as reason:
            if "sde" not in str(reason).lower():
                raise
            refusals.append(f"{name} refuses it ({short(reason)})")
    if refusals:
        return found(False, SDE_ASKED, "; ".join(refusals), where)
    told = "; ".join(f"{name} {', '.join(f'{v:.2f}' for v in found)}" for name, found in levels.items())
    apart = max(abs(a - b) for a, b in zip(levels["PyTorch"], levels["MLX"], strict=True))
    return found(apart > 0.04, SDE_ASKED, told, where)


def _levels_of_pytorch(loop: Loop) -> list[float]:
    states = loop.run(to_nothing, frames=FRAMES, infer_steps=STEPS, infer_method="sde", shift=SHIFT).states
    return _levels(states)


def _levels_of_mlx(site: Site) -> list[float]:
    states: list[torch.Tensor] = []

    def decoder(hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **__: Any) -> tuple[Any, Any]:
        states.append(torch.tensor(np.array(hidden_states)))
        return hidden_states / timestep.reshape(-1, 1, 1), cache

    given = {
        "mlx_decoder": decoder,
        "encoder_hidden_states_np": np.ones((1, TOKENS, WIDTH), np.float32),
        "context_latents_np": np.zeros((1, FRAMES, 2 * CHANNELS), np.float32),
        "src_latents_shape": (1, FRAMES, CHANNELS),
        "seed": [1],
        "infer_method": "sde",
        "shift": SHIFT,
        "infer_steps": STEPS,
        "is_turbo": False,
        "dcw_enabled": False,
        "disable_tqdm": True,
    }
    mx.random.seed(1)
    module = site.module("generate")
    try:
        call_by_name(module.mlx_generate_diffusion, given)
    except Exception as error:
        raise CannotProbe(f"MLX's loop raises {error}") from error
    if len(states) != STEPS:
        raise CannotProbe(
            f"MLX takes {len(states)} steps where {STEPS} were asked for (see the line of the steps)"
        )
    return _levels(states)


def _levels(states: list[torch.Tensor]) -> list[float]:
    return [float(state.std()) for state in states[1:]]


def look_timesteps(site: Site) -> Finding:
    """Three timesteps: each is a step in MLX and in diffusers, and the last one goes on to 0."""
    loop, asked = Loop(site), [1.0, 0.75, 0.5]
    try:
        seen = loop.run(still, infer_steps=STEPS, timesteps=torch.tensor(asked)).timesteps
    except CannotProbe as reason:
        if "timesteps" not in str(reason):
            raise
        return found(False, "1, 0.75, 0.5", f"refused: {short(reason)}", loop.file)
    got = ", ".join(f"{t:g}" for t in (round(t, 4) for t in seen))
    if seen == asked:
        return found(False, "1, 0.75, 0.5 as three steps to 0", f"{got} evaluated", loop.file)
    how = "the last one is taken for the end" if seen == asked[:-1] else "the list is not used"
    return found(True, "1, 0.75, 0.5 as three steps to 0", f"{got} evaluated: {how}", loop.file)


def look_dcw(site: Site) -> Finding:
    """The correction asked for where pytorch_wavelets cannot be imported."""
    loop = Loop(site)
    asked = "the wavelet correction, which is on by default, without pytorch_wavelets"
    if "dcw_enabled" not in inspect.signature(getattr(loop.kind, METHOD)).parameters:
        return found(False, asked, "no such correction here", loop.file)
    kept = sys.modules.get("pytorch_wavelets")
    sys.modules["pytorch_wavelets"] = None  # type: ignore[assignment]
    try:
        plain = loop.run(still, infer_steps=STEPS).end
        try:
            corrected = loop.run(still, infer_steps=STEPS, dcw_enabled=True).end
        except CannotProbe as reason:
            return found(False, asked, f"refused: {short(reason)}", loop.file)
    finally:
        del sys.modules["pytorch_wavelets"]
        if kept is not None:
            sys.modules["pytorch_wavelets"] = kept
    skipped = torch.equal(plain, corrected)
    got = "left out, which the log alone says" if skipped else "applied all the same"
    return found(skipped, asked, got, loop.file)
