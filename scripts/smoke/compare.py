"""The same request in PyTorch, from the same tensors: diffusers' AceStepPipeline on the same weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from acestep.models.checkpoints import load_decoder
from acestep.models.config import read_config
from acestep.models.torch_loop import torch_generate_diffusion
from smoke.request import Request
from smoke.run import Run


@dataclass(frozen=True)
class Distances:
    """How far a run is from PyTorch.

    schedule: largest |difference| of the timesteps, infinite where their number differs; latents: relative L2,
    |a - b| / |b|, of the final latents; pytorch_timesteps: those that PyTorch's scheduler ran.
    """

    schedule: float
    latents: float
    pytorch_timesteps: Sequence[float] = ()


def relative_l2(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b| in float64; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def schedule_distance(a: list[float], b: list[float]) -> float:
    """Largest |difference|; infinite where the lengths differ."""
    if len(a) != len(b):
        return float("inf")
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def distances_to_pytorch(request: Request, runs: list[Run]) -> list[Distances]:
    """One PyTorch run at the asked-for step count for each run, from its own noise, context and encoder states."""
    if request.checkpoint is None:
        raise ValueError("the request names no checkpoint to load PyTorch's decoder from")
    decoder = load_decoder(request.checkpoint, read_config(request.checkpoint))
    distances = []
    for run in runs:
        reference = torch_generate_diffusion(
            decoder,
            infer_steps=request.steps,
            shift=request.shift,
            guidance_scale=request.guidance_scale,
            noise=run.tensors["noise"],
            context_latents=run.tensors["context_latents"],
            encoder_hidden_states=run.tensors["encoder_hidden_states"],
            null_condition_emb=run.tensors["null_condition_emb"],
        )
        distances.append(
            Distances(
                schedule=schedule_distance(run.timesteps, reference.timesteps),
                latents=relative_l2(run.tensors["target_latents"], reference.latents),
                pytorch_timesteps=reference.timesteps,
            )
        )
    return distances
