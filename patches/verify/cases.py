"""What `verify` asks of a checkout, and what it sees: the JSON between verify and its probe process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One generation to drive through the checkout's three sites.

    config: the host's `config` attributes; None means a host that has no `config` at all.
    steps: the asked-for number of decoder evaluations, handed over as it is, even where it makes no sense.
    timesteps: custom timesteps in (0, 1], maybe with trailing zeros; None means the default schedule.
    """

    name: str
    config: Mapping[str, bool] | None
    steps: Any = 8
    shift: float = 3.0
    guidance_scale: float = 1.0
    timesteps: tuple[float, ...] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        timesteps = data["timesteps"]
        return cls(**{**data, "timesteps": None if timesteps is None else tuple(timesteps)})


@dataclass(frozen=True)
class Observation:
    """What the counting decoder and the stand-in model saw during one case.

    evaluated: the timestep of each decoder evaluation, in order, as the float32 value that arrived.
    guided: how many of these evaluations had a doubled batch, that is, covered both guidance branches.
    reference: what PyTorch's base schedule has for this case (torch.linspace and shift, in float32), or the
        custom timesteps less trailing zeros; empty where `steps` is not a whole number of at least 1.
    unpatched: what the checkout's own `get_timestep_schedule` gives when nobody names the model kind, which
        is what the checkout did before the patches; None where that call raises.
    fallback: why the checkout ran PyTorch instead of MLX; None if it did not.
    error: what the checkout raised instead of returning; None if it returned.
    """

    evaluated: tuple[float, ...]
    guided: int
    reference: tuple[float, ...]
    unpatched: tuple[float, ...] | None
    fallback: str | None
    error: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        return cls(
            evaluated=tuple(data["evaluated"]),
            guided=data["guided"],
            reference=tuple(data["reference"]),
            unpatched=None if data["unpatched"] is None else tuple(data["unpatched"]),
            fallback=data["fallback"],
            error=data["error"],
        )
