"""The checkout's own PyTorch loop, run with a decoder that answers what it is told to.

The loop is a method of the model class; here it gets an instance that was never built, with stand-ins for the
decoder and for the conditions, so that the loop alone runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from ..harness.fakes import CHANNELS, TOKENS, WIDTH, build_payload, call_by_name
from ..harness.imports import CannotProbe, describe, import_file, stub_missing
from .site import Site

HOME = Path("acestep/models/base")
METHOD = "generate_audio"
FRAMES = 128

Velocity = Callable[[torch.Tensor, float], torch.Tensor]


class Loop:
    """`generate_audio` of the checkout's base model. Raises CannotProbe where there is none."""

    def __init__(self, site: Site) -> None:
        found = sorted((site.root / HOME).glob("modeling_*.py"))
        if not found:
            raise CannotProbe(f"it has no PyTorch model in {HOME}")
        module = import_file(site.root, found[0])
        kinds = [k for k in vars(module).values() if isinstance(k, type) and METHOD in vars(k)]
        if not kinds:
            raise CannotProbe(f"{found[0].name} does not define {METHOD}")
        self.kind, self.file = kinds[0], found[0].name

    def run(self, velocity: Velocity, *, frames: int = FRAMES, **asked: Any) -> Ran:
        """One run; `velocity` gives the answer for hidden states [batch, frames, channels] at t."""
        ran = Ran()

        def conditions(**_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return torch.zeros(1, TOKENS, WIDTH), torch.ones(1, TOKENS), torch.zeros(1, frames, 2 * CHANNELS)

        stand_ins = {
            "decoder": _Decoder(ran, velocity),
            "prepare_condition": staticmethod(conditions),
            "null_condition_emb": torch.zeros(1, 1, WIDTH),
            "config": None,
        }
        model: Any = object.__new__(type("LoopAlone", (self.kind,), stand_ins))
        torch.manual_seed(0)  # SDE draws from the common source
        latents = torch.zeros(1, frames, CHANNELS)
        given = {
            **build_payload(),
            "src_latents": latents,
            "chunk_masks": torch.ones_like(latents),
            "is_covers": torch.zeros(1, dtype=torch.bool),
            "silence_latent": latents,
            "seed": [7],
            "infer_method": "ode",
            "shift": 3.0,
            "diffusion_guidance_scale": 1.0,
            "diffusion_guidance_sale": 1.0,
            "cfg_interval_start": 0.0,
            "cfg_interval_end": 1.0,
            "use_progress_bar": False,
            "disable_tqdm": True,
            "dcw_enabled": False,
            **asked,
        }
        while True:
            try:
                made = _call(getattr(model, METHOD), given)
                break
            except Exception as error:
                if not stub_missing(error):
                    raise CannotProbe(f"PyTorch's loop raises {describe(error)}") from error
        ran.end = made["target_latents"].detach()
        return ran


class _Decoder:
    """Not a function, which would become a method; and some ask it for its config."""

    config = SimpleNamespace(in_channels=3 * CHANNELS, audio_acoustic_hidden_dim=CHANNELS, patch_size=2)
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, ran: Ran, velocity: Velocity) -> None:
        self.ran, self.velocity = ran, velocity

    def __call__(self, hidden_states: torch.Tensor, timestep: torch.Tensor, *_: Any, **given: Any) -> Any:
        t = float(timestep.flatten()[0])
        self.ran.timesteps.append(t)
        self.ran.states.append(hidden_states.detach().clone())
        return self.velocity(hidden_states, t), given.get("past_key_values")


def _call(loop: Callable[..., Any], given: dict[str, Any]) -> Any:
    """With all of `given` where it takes any keyword, as upstream's executor calls it."""
    kinds = [p.kind for p in inspect.signature(loop).parameters.values()]
    return loop(**given) if inspect.Parameter.VAR_KEYWORD in kinds else call_by_name(loop, given)


class Ran:
    """What a run's decoder saw, evaluation after evaluation, and the latents at the end."""

    def __init__(self) -> None:
        self.timesteps: list[float] = []
        self.states: list[torch.Tensor] = []
        self.end = torch.empty(0)


def still(states: torch.Tensor, _t: float) -> torch.Tensor:
    """No motion."""
    return torch.zeros_like(states)


def to_nothing(states: torch.Tensor, t: float) -> torch.Tensor:
    """The velocity that predicts a clean sample of zeros: what is re-noised then is the noise alone."""
    return states / t
