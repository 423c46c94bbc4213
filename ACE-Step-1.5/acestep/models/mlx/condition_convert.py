"""The MLX condition encoder out of a checkpoint, in either layout, strictly."""

from pathlib import Path

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.silence import SILENCE
from acestep.models.checkpoint.weights import ENCODER_PREFIX, NULL_CONDITION
from acestep.models.mlx.condition_encoder import MLXConditionEncoder
from acestep.models.mlx.loading import load_strictly, matrix_in, read_checkpoint


def load_mlx_condition_encoder(
    folder: Path, config: ModelConfig, dtype: str = "float32"
) -> MLXConditionEncoder:
    """Text projector, lyric and timbre encoder with the null condition; the matrices are of the dtype."""
    encoder = MLXConditionEncoder(config)
    named = {
        key.removeprefix(ENCODER_PREFIX): matrix_in(dtype, value)
        for key, value in read_checkpoint(folder, (ENCODER_PREFIX, NULL_CONDITION)).items()
    }
    named.pop(SILENCE, None)
    load_strictly(encoder, named, str(find_layout(folder).condition_encoder))
    return encoder
