"""The model as the handler calls it: conditions in, latents out, by diffusers' modules; arrays are numpy's."""

import time
from typing import Any

import numpy as np
import torch
from diffusers import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.utils.torch_utils import randn_tensor

from acestep.errors import BackendError
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.parts import context_latents
from acestep.models.pytorch.loop import torch_generate_diffusion


class AceStepConditionGenerationModel:
    """Condition encoder and, on the torch backend, the decoder."""

    def __init__(
        self,
        config: ModelConfig,
        condition_encoder: AceStepConditionEncoder,
        decoder: AceStepTransformer1DModel | None = None,
    ) -> None:
        self.config = config
        self.encoder = condition_encoder
        self.decoder = decoder

    @property
    def null_condition_emb(self) -> np.ndarray:
        """The condition of uncond, [1, 1, encoder width]."""
        return self.encoder.null_condition_emb.cpu().numpy()

    @property
    def silence_latent(self) -> np.ndarray:
        """The latents of silence, [1, 750 or more, 64]."""
        return self.encoder.silence_latent.cpu().numpy()

    @torch.inference_mode()
    def prepare_condition(
        self, *, src_latents: np.ndarray, chunk_masks: np.ndarray, **conditions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encoder states [batch, encoder length, encoder width], their mask, context latents [batch, frames, 128].

        conditions: the arguments of diffusers' AceStepConditionEncoder.
        """
        device = self.encoder.null_condition_emb.device
        states, mask = self.encoder(
            **{name: torch.from_numpy(value).to(device) for name, value in conditions.items()}
        )
        return context_latents(states.cpu().numpy(), mask.cpu().numpy(), src_latents, chunk_masks)

    def generate_audio(
        self,
        *,
        seed: list[int],
        infer_steps: int,
        diffusion_guidance_scale: float,
        cfg_interval_start: float,
        cfg_interval_end: float,
        shift: float,
        infer_method: str = "ode",
        timesteps: np.ndarray | None = None,
        disable_tqdm: bool = False,
        **conditions: np.ndarray,
    ) -> dict[str, Any]:
        """The whole run in PyTorch; `conditions` are the arguments of `prepare_condition`.

        Returns target_latents and noise [batch, frames, 64], the timesteps that ran, and time_costs in seconds.
        """
        if self.decoder is None:
            raise BackendError(
                "the PyTorch decoder is not loaded; initialize the service with use_mlx_dit=False"
            )
        if infer_method != "ode":
            raise BackendError(f"infer_method is {infer_method!r}, the torch backend runs 'ode' only")
        start = time.perf_counter()
        states, _, context = self.prepare_condition(**conditions)
        encoded = time.perf_counter()
        device = self.encoder.null_condition_emb.device
        shape = (1, *conditions["src_latents"].shape[1:])
        noise = torch.cat([randn_tensor(shape, torch.Generator().manual_seed(s)) for s in seed])
        result = torch_generate_diffusion(
            self.decoder,
            encoder_hidden_states=torch.as_tensor(states, device=device),
            context_latents=torch.as_tensor(context, device=device),
            noise=noise.to(device),
            null_condition_emb=self.encoder.null_condition_emb,
            infer_steps=infer_steps,
            shift=shift,
            guidance_scale=diffusion_guidance_scale,
            cfg_interval_start=cfg_interval_start,
            cfg_interval_end=cfg_interval_end,
            timesteps=None if timesteps is None else timesteps.tolist(),
            disable_tqdm=disable_tqdm,
        )
        end = time.perf_counter()
        return {
            "target_latents": result.latents.cpu().numpy(),
            "noise": noise.numpy(),
            "timesteps": result.timesteps,
            "time_costs": {
                "encoder_time_cost": encoded - start,
                "diffusion_time_cost": end - encoded,
                "diffusion_per_step_time_cost": (end - encoded) / len(result.timesteps),
                "total_time_cost": end - start,
            },
        }
