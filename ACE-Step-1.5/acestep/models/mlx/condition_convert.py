"""The MLX condition encoder out of a checkpoint, in either layout, strictly."""

from pathlib import Path

import mlx.core as mx

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.silence import SILENCE
from acestep.models.checkpoint.weights import ENCODER_PREFIX, NULL_CONDITION
from acestep.models.mlx.condition_encoder import MLXConditionEncoder
from acestep.models.mlx.loading import load_strictly, read_checkpoint


def load_mlx_condition_encoder(folder: Path, config: ModelConfig) -> MLXConditionEncoder:
    """Text projector, lyric and timbre encoder with the null condition, float32."""
    encoder = MLXConditionEncoder(config)
    arrays = read_checkpoint(folder, (ENCODER_PREFIX, NULL_CONDITION))
    named = {key.removeprefix(ENCODER_PREFIX): value.astype(mx.float32) for key, value in arrays.items()}
    named.pop(SILENCE, None)
    load_strictly(encoder, named, str(find_layout(folder).condition_encoder))
    return encoder
