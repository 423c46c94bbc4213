"""Both loops on the tensors of a test, and a decoder in any precision to run them on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from acestep.models.checkpoint.config import read_config
from acestep.models.mlx.dit_convert import convert_and_load
from acestep.models.mlx.dit_generate import mlx_generate_diffusion
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.pytorch.loop import torch_generate_diffusion
from tests.fork_helper import Conditions, random_conditions


def by_mlx(decoder: Any, c: Conditions, **options: Any) -> dict[str, Any]:
    """The loop on MLX; it draws noise of its own."""
    return mlx_generate_diffusion(
        mlx_decoder=decoder,
        encoder_hidden_states_np=c.states.numpy(),
        context_latents_np=c.context.numpy(),
        src_latents_shape=tuple(c.noise.shape),
        null_condition_emb_np=c.null.numpy(),
        disable_tqdm=True,
        **options,
    )


def by_torch(decoder: Any, c: Conditions, **options: Any) -> SimpleNamespace:
    """diffusers' loop."""
    return torch_generate_diffusion(
        decoder,
        encoder_hidden_states=c.states,
        context_latents=c.context,
        noise=c.noise,
        null_condition_emb=c.null,
        disable_tqdm=True,
        **options,
    )


def load_mlx_decoder(folder: Path, precision: str) -> MLXDiTDecoder:
    """The reference decoder of a DiT folder."""
    decoder = MLXDiTDecoder.from_config(read_config(folder))
    convert_and_load(folder, decoder, precision)
    return decoder


def latents(decoder: Any, guidance: float = 1.0) -> Any:
    """Final latents [2, 75, channels] of 8 steps on MLX, the same noise and conditions each time."""
    c = random_conditions(decoder.config, 2, 75)
    return by_mlx(decoder, c, seed=1, guidance_scale=guidance, infer_steps=8, is_turbo=False)[
        "target_latents"
    ]
