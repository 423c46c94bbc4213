"""The denoising loop in PyTorch: diffusers' AceStepPipeline, run on tensors that are given to it.

This is the `torch` backend and the reference that the MLX loop is held to. The loop, the guidance and the
decoder are diffusers'; written here is only the way in, past the text encoder and the VAE.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AceStepPipeline, AceStepTransformer1DModel, FlowMatchEulerDiscreteScheduler


class _GivenConditions:
    """Stands where the pipeline has its condition encoder and answers with states that exist already."""

    def __init__(self, states: torch.Tensor, null_condition_emb: torch.Tensor) -> None:
        self._states = states
        self.null_condition_emb = null_condition_emb
        self.silence_latent = states.new_zeros(
            1, 1, 1
        )  # the timbre input; the states hold the timbre already

    def __call__(self, **_: Any) -> tuple[torch.Tensor, None]:
        return self._states, None


class _FromTheFirstTimestep(FlowMatchEulerDiscreteScheduler):
    """Starts at its first timestep. The library looks it up by value and, of two equal ones, takes the second."""

    def index_for_timestep(self, *_: Any, **__: Any) -> int:
        return 0


class GivenTensorsPipeline(AceStepPipeline):
    """AceStepPipeline that starts from context latents and encoder states."""

    @classmethod
    def of(
        cls,
        decoder: AceStepTransformer1DModel,
        encoder_hidden_states: torch.Tensor,
        context_latents: torch.Tensor,
        null_condition_emb: torch.Tensor,
    ) -> "GivenTensorsPipeline":
        """A pipeline of the decoder alone; its constructor is the library's, which inspects the signature."""
        scheduler = _FromTheFirstTimestep(num_train_timesteps=1, shift=1.0)
        pipeline = cls(None, None, None, decoder, None, scheduler)
        pipeline.condition_encoder = _GivenConditions(encoder_hidden_states, null_condition_emb)
        pipeline._source, pipeline._mask = context_latents.chunk(2, dim=-1)
        return pipeline

    def encode_prompt(self, *_: Any, **__: Any) -> tuple[None, None, None, None]:
        return None, None, None, None

    def prepare_src_latents(self, *_: Any, **__: Any) -> tuple[torch.Tensor, int]:
        return self._source, self._source.shape[1]

    def _build_chunk_mask(self, *_: Any, **__: Any) -> torch.Tensor:
        return self._mask


def without_trailing_zeros(timesteps: Sequence[float]) -> list[float]:
    """Custom timesteps as the loop takes them: every entry a step, the terminal 0 is not one."""
    values = [float(t) for t in timesteps]
    while values and values[-1] == 0:
        values.pop()
    return values


@torch.inference_mode()
def torch_generate_diffusion(
    decoder: AceStepTransformer1DModel,
    *,
    encoder_hidden_states: torch.Tensor,
    context_latents: torch.Tensor,
    noise: torch.Tensor,
    null_condition_emb: torch.Tensor,
    infer_steps: int,
    shift: float,
    guidance_scale: float = 1.0,
    cfg_interval_start: float = 0.0,
    cfg_interval_end: float = 1.0,
    timesteps: Sequence[float] | None = None,
    disable_tqdm: bool = False,
) -> SimpleNamespace:
    """Runs the loop; all tensors on the decoder's device and of its dtype.

    encoder_hidden_states [batch, encoder length, encoder width], context_latents [batch, frames, 128], noise
    [batch, frames, 64], null_condition_emb [1, 1, encoder width]. The guidance interval is counted in t, as
    upstream means it; diffusers counts it in 1 - t.
    Returns `latents` [batch, frames, 64] and the `timesteps` that the scheduler ran.
    """
    pipeline = GivenTensorsPipeline.of(decoder, encoder_hidden_states, context_latents, null_condition_emb)
    pipeline.set_progress_bar_config(desc="PyTorch DiT diffusion", disable=disable_tqdm)
    (latents,) = pipeline(
        prompt=[""] * noise.shape[0],
        lyrics=[""] * noise.shape[0],
        task_type="lego",
        num_inference_steps=infer_steps,
        shift=shift,
        guidance_scale=guidance_scale,
        cfg_interval_start=1.0 - cfg_interval_end,
        cfg_interval_end=1.0 - cfg_interval_start,
        timesteps=None if timesteps is None else without_trailing_zeros(timesteps),
        latents=noise,
        output_type="latent",
        return_dict=False,
    )
    return SimpleNamespace(latents=latents, timesteps=pipeline.scheduler.timesteps.tolist())
