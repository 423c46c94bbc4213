"""One LEGO request: conditions gathered, then run."""

from typing import Any

import numpy as np

from acestep.constants import SAMPLE_RATE
from acestep.core.generation.handler.conditioning_target import check_range
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.parts import ConditionModel


class ServiceGenerateMixin:
    """Puts the mixins' steps in order; the step count goes through here untouched."""

    model: ConditionModel
    config: ModelConfig

    def service_generate(
        self: Any,
        *,
        audio: np.ndarray,
        instruction: str,
        caption: str,
        lyrics: str,
        vocal_language: str,
        bpm: int | None,
        keyscale: str,
        timesignature: str,
        infer_steps: int,
        guidance_scale: float,
        seeds: list[int],
        repainting_start: float,
        repainting_end: float,
        cfg_interval_start: float,
        cfg_interval_end: float,
        shift: float,
        infer_method: str,
        timesteps: list[float] | None,
    ) -> dict[str, Any]:
        """audio: the context, float32 [2, samples] at 48 kHz; one item of the batch for each seed.

        Returns the loop's outputs and what went into it: target_latents, noise, timesteps, time_costs,
        encoder_hidden_states, encoder_attention_mask, context_latents, null_condition_emb.
        """
        seconds = audio.shape[-1] / SAMPLE_RATE
        check_range(repainting_start, repainting_end, seconds)
        payload = self._prepare_text_conditioning_inputs(
            instruction, caption, lyrics, vocal_language, bpm, keyscale, timesignature, seconds
        )
        source = self._encode_audio_to_latents(audio, seeds)
        mask = self._build_chunk_mask(*source.shape[1:], repainting_start, repainting_end)
        silence = self.model.silence_latent[:, : self.config.timbre_fix_frame]
        payload |= {
            "src_latents": source,
            "chunk_mask": np.repeat(mask[None], len(seeds), axis=0),
            # LEGO is given no reference audio: the timbre encoder is given silence.
            "refer_audio_acoustic_hidden_states_packed": silence,
            "refer_audio_order_mask": np.zeros(1, dtype=np.int64),
        }
        generate_kwargs = self._build_service_generate_kwargs(
            payload=payload,
            seed_param=seeds,
            infer_steps=infer_steps,
            guidance_scale=guidance_scale,
            infer_method=infer_method,
            cfg_interval_start=cfg_interval_start,
            cfg_interval_end=cfg_interval_end,
            shift=shift,
            timesteps=timesteps,
        )
        outputs, states, mask, context_latents = self._execute_service_generate_diffusion(
            payload=payload,
            generate_kwargs=generate_kwargs,
            seed_param=seeds,
            infer_method=infer_method,
            shift=shift,
        )
        return {
            **outputs,
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "context_latents": context_latents,
            "null_condition_emb": self.model.null_condition_emb,
        }
