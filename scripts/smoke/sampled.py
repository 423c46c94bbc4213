"""A comparison that costs a few evaluations of PyTorch's decoder, whatever the number of steps.

At a few steps of the run PyTorch's decoder is given the very latents, timestep and conditions of each, and its
velocity is compared with the run's. On every step the latents that follow are computed with PyTorch's guidance from
the recorded latents and velocities and compared with those recorded next. Schedule and count cover the rest.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from smoke.compare import Distances, Reference, relative_l2, sampled_steps, schedule_distance
from smoke.request import Request
from smoke.run import Run

if TYPE_CHECKING:
    import torch

FRAMES_AT_ONCE = 2048  # latent frames of a batch, 80 s; a longer one gains nothing and needs memory


def sampled_distances(reference: Reference, request: Request, run: Run, count: int) -> Distances:
    """`count` evaluations of the reference decoder; the run's steps are recorded."""
    import torch

    chosen = sampled_steps(run.evaluated, count)
    with torch.inference_mode():
        velocity_distances = [
            distance
            for steps in batches(run, chosen)
            for step, references in zip(steps, velocities(reference, run, steps), strict=True)
            for distance in map(relative_l2, recorded(run, step)[1:], references)
        ]
        update_distances = updates(request, run)
    pytorch_timesteps = timesteps_of_pytorch(reference.decoder, request, run)
    return Distances(
        schedule=schedule_distance(run.timesteps, pytorch_timesteps),
        velocity=largest(velocity_distances),
        update=largest(update_distances),
        sampled=chosen,
        pytorch_timesteps=pytorch_timesteps,
    )


def largest(values: list[float]) -> float:
    """NaN where one of them is."""
    return next((value for value in values if value != value), max(values))


def recorded(run: Run, step: int) -> "tuple[torch.Tensor, ...]":
    """Latents, velocity of cond and, where there is one, of uncond, [batch, frames, channels] each."""
    import numpy as np
    import torch

    return torch.from_numpy(np.load(f"{run.steps}/{step}.npy")).unbind()


def updates(request: Request, run: Run) -> list[float]:
    """For each step, how far the latents recorded next are from PyTorch's guidance and Euler step."""
    guidance = Guidance(request.guidance_scale)
    distances = []
    latents, *branches = recorded(run, 0)
    for step, t in enumerate(run.timesteps):
        last = step + 1 == run.evaluated
        t_next = 0.0 if last else run.timesteps[step + 1]
        following = latents - guidance(branches) * (t - t_next)
        latents, *branches = (run.to_torch("target_latents"),) if last else recorded(run, step + 1)
        distances.append(relative_l2(latents, following))
    return distances


def batches(run: Run, steps: Sequence[int]) -> list[list[int]]:
    """The steps in groups that are evaluated at once: of a short context PyTorch reads its weights once for several.

    A group has at most FRAMES_AT_ONCE latent frames, all branches counted, and at least one step.
    """
    frames = sum(part.shape[0] * part.shape[1] for part in recorded(run, steps[0])[1:])
    size = max(1, FRAMES_AT_ONCE // frames)
    return [list(steps[start : start + size]) for start in range(0, len(steps), size)]


def velocities(reference: Reference, run: Run, steps: Sequence[int]) -> "list[tuple[torch.Tensor, ...]]":
    """For each step PyTorch's velocity for the encoder states and, of two branches, for the null condition.

    The decoder is given the latents and timesteps of all these steps as one batch.
    """
    import torch

    states = run.to_torch("encoder_hidden_states")
    conditions = [states, run.to_torch("null_condition_emb").expand_as(states)]
    items = []
    for step in steps:
        latents, *branches = recorded(run, step)
        t = torch.full((len(latents),), run.timesteps[step])
        context = run.to_torch("context_latents")
        items += [
            (latents, context, condition, t) for condition, _ in zip(conditions, branches, strict=False)
        ]
    latents, context, condition, t = (
        torch.cat(parts).to(reference.device) for parts in zip(*items, strict=True)
    )
    (velocity,) = reference.decoder(
        hidden_states=latents,
        context_latents=context,
        encoder_hidden_states=condition,
        timestep=t,
        timestep_r=t,
        return_dict=False,
    )
    parts = velocity.cpu().chunk(len(items))
    count = len(items) // len(steps)
    return [parts[start : start + count] for start in range(0, len(items), count)]


class Guidance:
    """diffusers' guidance over the recorded velocities of a run, with its momentum from step to step."""

    def __init__(self, guidance_scale: float) -> None:
        from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

        self._scale = guidance_scale
        self._momentum: Any = MomentumBuffer(momentum=-0.75)

    def __call__(self, branches: "list[torch.Tensor]") -> "torch.Tensor":
        """The velocity that a step is to follow; NaN where guidance was requested and its second branch is missing."""
        from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

        if self._scale <= 1:
            return branches[0]
        if len(branches) < 2:
            return branches[0] * float("nan")
        return normalized_guidance(
            branches[0],
            branches[1],
            guidance_scale=self._scale - 1,
            momentum_buffer=self._momentum,
            eta=0.0,
            norm_threshold=2.5,
            use_original_formulation=True,
            norm_dim=(1,),
        )


def timesteps_of_pytorch(decoder: Any, request: Request, run: Run) -> list[float]:
    """Those that diffusers' pipeline runs, found by running it on one frame with a decoder that computes nothing."""
    import torch

    from acestep.models.pytorch.loop import torch_generate_diffusion

    class ZeroVelocity(torch.nn.Module):
        """A fake decoder with the config of the real one."""

        config, device, dtype = decoder.config, torch.device("cpu"), torch.float32

        def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor]:
            return (0 * hidden_states,)

    fake: Any = ZeroVelocity()
    result = torch_generate_diffusion(
        fake,
        infer_steps=request.steps,
        shift=request.shift,
        noise=run.to_torch("noise")[:, :1],
        context_latents=run.to_torch("context_latents")[:, :1],
        encoder_hidden_states=run.to_torch("encoder_hidden_states")[:, :1],
        null_condition_emb=run.to_torch("null_condition_emb"),
        disable_tqdm=True,
    )
    return list(result.timesteps)
