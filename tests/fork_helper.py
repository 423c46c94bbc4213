"""What the tests of the fork share: a decoder that counts, and tensors to run it on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


class CountingDecoder:
    """Notes every evaluation, then passes it on; without a decoder behind it, the velocity is zero."""

    def __init__(self, decoder: Any = None) -> None:
        self.decoder = decoder
        self.timesteps: list[float] = []
        self.batches: list[int] = []

    @property
    def evaluations(self) -> int:
        return len(self.timesteps)

    def __call__(self, *, hidden_states: Any, timestep: Any, **rest: Any) -> Any:
        assert len(set(timestep.tolist())) == 1, "one evaluation has one t"
        self.timesteps.append(timestep[0].item())
        self.batches.append(hidden_states.shape[0])
        if self.decoder is None:
            return hidden_states * 0, rest["cache"]
        return self.decoder(hidden_states=hidden_states, timestep=timestep, **rest)


class FailingDecoder(CountingDecoder):
    """Works for a while, then raises."""

    def __init__(self, decoder: Any, error: Exception, after: int = 2) -> None:
        super().__init__(decoder)
        self.error, self.after = error, after

    def __call__(self, **inputs: Any) -> Any:
        if self.evaluations == self.after:
            raise self.error
        return super().__call__(**inputs)


@dataclass
class Conditions:
    """What a loop is given, float32: states [batch, length, width], contexts [batch, frames, 2 x channels],
    noise [batch, frames, channels], null [1, 1, width]."""

    states: torch.Tensor
    context: torch.Tensor
    noise: torch.Tensor
    null: torch.Tensor


def random_conditions(config: Any, batch: int, frames: int, length: int = 13, seed: int = 0) -> Conditions:
    """Of the sizes that a checkpoint's config asks for; the chunk mask is 0 in the last quarter."""
    draw = torch.Generator().manual_seed(seed)
    channels, width = config.audio_acoustic_hidden_dim, config.encoder_hidden_size
    source = torch.randn(batch, frames, channels, generator=draw)
    mask = torch.ones(batch, frames, channels)
    mask[:, frames - frames // 4 :] = 0.0
    return Conditions(
        states=torch.randn(batch, length, width, generator=draw),
        context=torch.cat([source, mask], dim=-1),
        noise=torch.randn(batch, frames, channels, generator=draw),
        null=torch.randn(1, 1, width, generator=draw),
    )


def linspace_and_shift(steps: int, shift: float) -> list[float]:
    """The schedule of PyTorch in float32, one value a step."""
    t = torch.linspace(1.0, 0.0, steps + 1)
    t = shift * t / (1.0 + (shift - 1.0) * t)
    return t[:-1].tolist()


def float32(values: list[float]) -> list[float]:
    """As the decoder sees them."""
    return np.asarray(values, dtype=np.float32).tolist()
