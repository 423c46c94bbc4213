"""The denoising loop of a checkout's MLX path, `mlx_generate_diffusion`, with a given velocity for the decoder."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from .arrays import as_array, one_timestep
from .fakes import call_by_name
from .imports import CannotProbe, describe
from .loops import COND, UNCOND, LoopRecord, Velocity
from .models import CHANNELS, TOKENS, WIDTH

FUNCTION = "mlx_generate_diffusion"


def run_mlx_loop(
    module: ModuleType, velocity: Velocity, *, frames: int, batch: int = 1, **kwargs: Any
) -> LoopRecord:
    """One run for a base model, with `kwargs` on top of neutral values; those that the function does not take are
    left out. Raises CannotProbe where it is missing or raises."""
    generate = getattr(module, FUNCTION, None)
    if generate is None:
        raise CannotProbe(f"{module.__name__} does not define {FUNCTION}")
    record = LoopRecord()

    def decoder(
        hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **conditions: Any
    ) -> tuple[Any, Any]:
        encoder_states = conditions.get("encoder_hidden_states")
        made = record.evaluate(
            velocity,
            torch.from_numpy(as_array(hidden_states)),
            one_timestep(timestep),
            None if encoder_states is None else torch.from_numpy(as_array(encoder_states)),
        )
        return mx.array(made.numpy()), cache

    values = {
        "mlx_decoder": decoder,
        "encoder_hidden_states_np": np.full((batch, TOKENS, WIDTH), COND, np.float32),
        "context_latents_np": np.zeros((batch, frames, 2 * CHANNELS), np.float32),
        "src_latents_shape": (batch, frames, CHANNELS),
        "seed": list(range(1, batch + 1)),
        "infer_method": "ode",
        "shift": 3.0,
        "is_turbo": False,
        "null_condition_emb_np": np.full((1, 1, WIDTH), UNCOND, np.float32),
        "dcw_enabled": False,
        "disable_tqdm": True,
        **kwargs,
    }
    mx.random.seed(1)  # SDE draws from mlx's global generator
    try:
        result = call_by_name(generate, values)
    except Exception as error:
        raise CannotProbe(f"MLX's loop raises {describe(error)}") from error
    record.end = torch.from_numpy(as_array(result["target_latents"]))
    return record
