"""Conditions, then the denoising loop, on the backend that was chosen and on no other."""

from typing import Any

import numpy as np

from acestep.errors import AceStepError, BackendError
from acestep.models.parts import ConditionModel

CONDITIONS = (
    "text_hidden_states",
    "text_attention_mask",
    "lyric_hidden_states",
    "lyric_attention_mask",
    "refer_audio_acoustic_hidden_states_packed",
    "refer_audio_order_mask",
    "src_latents",
)


class ServiceGenerateExecuteMixin:
    """Turns a prepared payload into latents."""

    use_mlx_dit: bool
    mlx_decoder: Any
    model: ConditionModel

    def _build_service_generate_kwargs(
        self,
        payload: dict[str, Any],
        seed_param: list[int],
        infer_steps: int,
        guidance_scale: float,
        infer_method: str,
        cfg_interval_start: float,
        cfg_interval_end: float,
        shift: float,
        timesteps: list[float] | None,
    ) -> dict[str, Any]:
        """What `model.generate_audio` takes; the MLX path reads the same dict."""
        kwargs: dict[str, Any] = {name: payload[name] for name in CONDITIONS}
        kwargs |= {
            "chunk_masks": payload["chunk_mask"],
            "seed": seed_param,
            "infer_steps": infer_steps,
            "infer_method": infer_method,
            "diffusion_guidance_scale": guidance_scale,
            "cfg_interval_start": cfg_interval_start,
            "cfg_interval_end": cfg_interval_end,
            "shift": shift,
        }
        if timesteps is not None:
            kwargs["timesteps"] = np.array(timesteps, dtype=np.float64)
        return kwargs

    def _execute_service_generate_diffusion(
        self,
        payload: dict[str, Any],
        generate_kwargs: dict[str, Any],
        seed_param: list[int],
        infer_method: str,
        shift: float,
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]:
        """Returns the loop's outputs, the encoder states, their mask and the context latents.

        A failure of the MLX path is a BackendError with the reason: PyTorch is a choice, not a rescue.
        """
        encoder_hidden_states, encoder_attention_mask, context_latents = self.model.prepare_condition(
            **{name: payload[name] for name in CONDITIONS}, chunk_masks=payload["chunk_mask"]
        )
        if self.use_mlx_dit and self.mlx_decoder is not None:
            try:
                outputs = self._mlx_run_diffusion(  # type: ignore[attr-defined]  # DiffusionMixin's
                    encoder_hidden_states=encoder_hidden_states,
                    encoder_attention_mask=encoder_attention_mask,
                    context_latents=context_latents,
                    src_latents=payload["src_latents"],
                    seed=seed_param,
                    infer_method=infer_method,
                    shift=shift,
                    timesteps=generate_kwargs.get("timesteps"),
                    # LEGO patch (execute)
                    infer_steps=generate_kwargs.get("infer_steps", 8),
                    guidance_scale=generate_kwargs["diffusion_guidance_scale"],
                    null_condition_emb=self.model.null_condition_emb,
                    cfg_interval_start=generate_kwargs["cfg_interval_start"],
                    cfg_interval_end=generate_kwargs["cfg_interval_end"],
                )
            except AceStepError:
                raise
            except Exception as error:
                raise BackendError(
                    f"the MLX path failed ({type(error).__name__}: {error}); nothing was generated, and PyTorch was "
                    f"not run in its place: choose it with use_mlx_dit=False if you want it"
                ) from error
        else:
            outputs = self.model.generate_audio(**generate_kwargs)
        return outputs, encoder_hidden_states, encoder_attention_mask, context_latents
