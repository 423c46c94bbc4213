"""The model as the handler calls it: conditions in, latents out, by diffusers' modules."""

import time
from typing import Any

import torch
from diffusers import AceStepTransformer1DModel
from diffusers.pipelines.ace_step.modeling_ace_step import AceStepConditionEncoder
from diffusers.utils.torch_utils import randn_tensor

from acestep.errors import BackendError
from acestep.models.config import ModelConfig
from acestep.models.torch_loop import torch_generate_diffusion


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
    def null_condition_emb(self) -> torch.Tensor:
        """What the null branch of the guidance is shown, [1, 1, encoder width]."""
        return self.encoder.null_condition_emb

    @property
    def silence_latent(self) -> torch.Tensor:
        """The latents of silence, [1, 750 or more, 64]."""
        return self.encoder.silence_latent

    @torch.inference_mode()
    def prepare_condition(
        self,
        *,
        text_hidden_states: torch.Tensor,
        text_attention_mask: torch.Tensor,
        lyric_hidden_states: torch.Tensor,
        lyric_attention_mask: torch.Tensor,
        refer_audio_acoustic_hidden_states_packed: torch.Tensor,
        refer_audio_order_mask: torch.Tensor,
        src_latents: torch.Tensor,
        chunk_masks: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Encoder states [batch, encoder length, encoder width], their mask, context latents [batch, frames, 128]."""
        states, mask = self.encoder(
            text_hidden_states=text_hidden_states,
            text_attention_mask=text_attention_mask,
            lyric_hidden_states=lyric_hidden_states,
            lyric_attention_mask=lyric_attention_mask,
            refer_audio_acoustic_hidden_states_packed=refer_audio_acoustic_hidden_states_packed,
            refer_audio_order_mask=refer_audio_order_mask,
        )
        return states, mask, torch.cat([src_latents, chunk_masks.to(src_latents.dtype)], dim=-1)

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
        timesteps: torch.Tensor | None = None,
        disable_tqdm: bool = False,
        **conditions: torch.Tensor,
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
        states, _, context_latents = self.prepare_condition(**conditions)
        encoded = time.perf_counter()
        shape = (1, *conditions["src_latents"].shape[1:])
        noise = torch.cat(
            [randn_tensor(shape, torch.Generator().manual_seed(s), device=states.device) for s in seed]
        ).to(states.dtype)
        result = torch_generate_diffusion(
            self.decoder,
            encoder_hidden_states=states,
            context_latents=context_latents,
            noise=noise,
            null_condition_emb=self.null_condition_emb,
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
            "target_latents": result.latents,
            "noise": noise,
            "timesteps": result.timesteps,
            "time_costs": {
                "encoder_time_cost": encoded - start,
                "diffusion_time_cost": end - encoded,
                "diffusion_per_step_time_cost": (end - encoded) / len(result.timesteps),
                "total_time_cost": end - start,
            },
        }
