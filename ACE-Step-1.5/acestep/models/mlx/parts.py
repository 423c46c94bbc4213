"""Every part of a checkpoint on MLX."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.memory import CONDITION_ENCODER, DECODER, TEXT_ENCODER, VAE, MemoryPlan
from acestep.models.checkpoint.precision import Precision
from acestep.models.checkpoint.silence import load_silence_latent
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.mlx.condition_convert import load_mlx_condition_encoder
from acestep.models.mlx.dit_convert import convert_and_load
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.loaded_parts import DecoderWhenNeeded, LoadedParts
from acestep.models.mlx.model import MLXAudioVAE, MLXConditionModel, MLXTextStates
from acestep.models.mlx.streams import reused_stream
from acestep.models.mlx.text_convert import load_mlx_text_encoder
from acestep.models.mlx.vae_convert import load_mlx_vae
from acestep.models.parts import Parts


def load_decoder(folder: Path, config: ModelConfig, precision: str) -> MLXFastDecoder:
    """The decoder, its weights loaded."""
    decoder = MLXDiTDecoder.from_config(config)
    convert_and_load(folder, decoder, precision)
    return MLXFastDecoder(decoder)


def load_parts(folder: Path, config: ModelConfig, precision: Precision, plan: MemoryPlan) -> Parts:
    """Loaded strictly; the matrices of decoder and encoders have the precision, all else is float32.

    Where the plan has a limit, each part is loaded once, so that a damaged one is found here and not in a request.
    """
    layout = find_layout(folder)
    # Released in this order: the decoder, which takes longest to load, last.
    loaders: dict[str, Callable[[], Any]] = {
        TEXT_ENCODER: partial(load_mlx_text_encoder, layout.text_encoder, config, precision.encoders),
        CONDITION_ENCODER: partial(load_mlx_condition_encoder, folder, config, precision.encoders),
        VAE: partial(load_mlx_vae, layout.vae, config),
        DECODER: partial(load_decoder, folder, config, precision.name),
    }
    parts = LoadedParts(loaders, plan.sizes, plan.limit)
    with reused_stream():
        for name in reversed(loaders):  # a request begins with the text encoder
            parts.get(name)
        rows = parts.get(TEXT_ENCODER).embed_tokens.weight.shape[0]
        load_of_decoder = partial(parts.get, DECODER)
        return Parts(
            model=MLXConditionModel(
                partial(parts.get, CONDITION_ENCODER), load_silence_latent(folder, config)
            ),
            vae=MLXAudioVAE(partial(parts.get, VAE)),
            text_encoder=MLXTextStates(partial(parts.get, TEXT_ENCODER)),
            tokenizer=load_tokenizer(layout.tokenizer, rows),
            mlx_decoder=load_of_decoder() if plan.limit is None else DecoderWhenNeeded(load_of_decoder),
        )
