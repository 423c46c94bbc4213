"""The same request in PyTorch, from the same tensors: diffusers' AceStepPipeline on the same weights."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoke.request import Request
from smoke.run import Run

if TYPE_CHECKING:
    import torch

INPUTS = ("noise", "context_latents", "encoder_hidden_states", "null_condition_emb")


@dataclass(frozen=True)
class Distances:
    """How far a run is from PyTorch.

    schedule: largest |difference| of the timesteps, infinite where their number differs; latents: relative L2,
    |a - b| / |b|, of the final latents; pytorch_timesteps: those that PyTorch's scheduler ran.
    """

    schedule: float
    latents: float
    pytorch_timesteps: Sequence[float] = ()


def relative_l2(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """|a - b| / |b| in float64; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def schedule_distance(a: list[float], b: list[float]) -> float:
    """Largest |difference|; infinite where the lengths differ."""
    if len(a) != len(b):
        return float("inf")
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def distances_to_pytorch(
    request: Request, runs: Sequence[Run], at: Callable[[int], None] = lambda _: None
) -> list[Distances]:
    """Of each run to a PyTorch run at the asked-for step count, from its own noise, context and encoder states.

    Runs that had the very same inputs share one PyTorch run. `at` is called with the number of its steps so far, of
    all the runs together.
    """
    import torch

    from acestep.models.checkpoints import (
        load_decoder,  # for seconds, and who asks for --help needs none of it
    )
    from acestep.models.config import read_config
    from acestep.models.torch_loop import torch_generate_diffusion

    if request.checkpoint is None:
        raise ValueError("the request names no checkpoint to load PyTorch's decoder from")
    decoder = load_decoder(request.checkpoint, read_config(request.checkpoint))
    steps = itertools.count()
    decoder.register_forward_pre_hook(lambda *_: at(next(steps)))
    distances = []
    given: dict[str, torch.Tensor] = {}
    for run in runs:
        inputs = {name: run.tensors[name] for name in INPUTS}
        if not given or not all(torch.equal(inputs[name], given[name]) for name in INPUTS):
            given = inputs
            reference = torch_generate_diffusion(
                decoder,
                infer_steps=request.steps,
                shift=request.shift,
                guidance_scale=request.guidance_scale,
                noise=inputs["noise"],
                context_latents=inputs["context_latents"],
                encoder_hidden_states=inputs["encoder_hidden_states"],
                null_condition_emb=inputs["null_condition_emb"],
                disable_tqdm=True,
            )
        distances.append(
            Distances(
                schedule=schedule_distance(run.timesteps, reference.timesteps),
                latents=relative_l2(run.tensors["target_latents"], reference.latents),
                pytorch_timesteps=reference.timesteps,
            )
        )
    return distances
