"""From the conditions to the MLX loop and back."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from acestep.models.mlx.dit_generate import mlx_generate_diffusion


def to_numpy(values: Any) -> np.ndarray:
    """An array, or a PyTorch tensor of any device and dtype, as a float32 array."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu()
    return np.asarray(values, dtype=np.float32)


class DiffusionMixin:
    """Runs the MLX loop for a host that has `mlx_decoder` and `config`."""

    mlx_decoder: Any
    config: Any

    def _mlx_run_diffusion(
        self,
        encoder_hidden_states: Any,
        encoder_attention_mask: Any,
        context_latents: Any,
        src_latents: Any,
        seed: int | list[int] | None,
        infer_method: str = "ode",
        shift: float = 3.0,
        timesteps: Sequence[float] | np.ndarray | None = None,
        guidance_scale: float = 1.0,
        null_condition_emb: Any = None,
        cfg_interval_start: float = 0.0,
        cfg_interval_end: float = 1.0,
        disable_tqdm: bool = False,
        # LEGO patch (diffusion) 1 of 3
        infer_steps: int = 8,
    ) -> dict[str, Any]:
        """Arrays as `prepare_condition` gives them; the attention mask is not used, on neither backend.

        Returns target_latents and noise as float32 arrays [batch, frames, 64], the timesteps that ran, and
        time_costs in seconds. ValueError where the batch sizes differ.
        """
        # LEGO patch (diffusion) 2 of 3: the model kind chooses the timestep schedule.
        config = getattr(self, "config", None)
        is_turbo = config is None or getattr(config, "is_turbo", False)
        tensors = {"encoder_hidden_states": encoder_hidden_states, "context_latents": context_latents}
        for name, tensor in tensors.items():
            if tensor.shape[0] != src_latents.shape[0]:
                raise ValueError(
                    f"{name} holds a batch of {tensor.shape[0]}, src_latents one of {src_latents.shape[0]}; "
                    f"give all of them the same batch size"
                )
        return mlx_generate_diffusion(
            mlx_decoder=self.mlx_decoder,
            encoder_hidden_states_np=to_numpy(encoder_hidden_states),
            context_latents_np=to_numpy(context_latents),
            src_latents_shape=tuple(src_latents.shape),
            seed=seed,
            infer_method=infer_method,
            shift=shift,
            timesteps=None if timesteps is None else np.asarray(timesteps).tolist(),
            guidance_scale=guidance_scale,
            null_condition_emb_np=None if null_condition_emb is None else to_numpy(null_condition_emb),
            cfg_interval_start=cfg_interval_start,
            cfg_interval_end=cfg_interval_end,
            disable_tqdm=disable_tqdm,
            # LEGO patch (diffusion) 3 of 3
            infer_steps=infer_steps,
            is_turbo=is_turbo,
        )
