"""Every part of a checkpoint on MLX."""

from pathlib import Path

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import Precision
from acestep.models.checkpoint.silence import load_silence_latent
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.mlx.condition_convert import load_mlx_condition_encoder
from acestep.models.mlx.dit_convert import convert_and_load
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.model import MLXAudioVAE, MLXConditionModel, MLXTextStates
from acestep.models.mlx.streams import reused_stream
from acestep.models.mlx.text_convert import load_mlx_text_encoder
from acestep.models.mlx.vae_convert import load_mlx_vae
from acestep.models.parts import Parts


def load_parts(folder: Path, config: ModelConfig, precision: Precision) -> Parts:
    """Loaded strictly; the matrices of decoder and encoders have the precision, all else is float32."""
    layout = find_layout(folder)
    with reused_stream():
        text_encoder = load_mlx_text_encoder(layout.text_encoder, config, precision.encoders)
        tokenizer = load_tokenizer(layout.tokenizer, text_encoder.embed_tokens.weight.shape[0])
        vae = load_mlx_vae(layout.vae, config)
        conditions = load_mlx_condition_encoder(folder, config, precision.encoders)
        decoder = MLXDiTDecoder.from_config(config)
        convert_and_load(folder, decoder, precision.name)
        return Parts(
            model=MLXConditionModel(conditions, load_silence_latent(folder, config)),
            vae=MLXAudioVAE(vae),
            text_encoder=MLXTextStates(text_encoder),
            tokenizer=tokenizer,
            mlx_decoder=MLXFastDecoder(decoder),
        )
