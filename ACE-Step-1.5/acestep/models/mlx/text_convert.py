"""The MLX text encoder out of a checkpoint, strictly."""

from pathlib import Path

from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.text_config import read_text_encoder_config
from acestep.models.checkpoint.weights import TRANSFORMERS_STEM
from acestep.models.mlx.loading import load_strictly, matrix_in, read_model
from acestep.models.mlx.text_encoder import MLXTextEncoder

MODEL_PREFIX = "model."  # of every key, where the folder holds the language model


def load_mlx_text_encoder(folder: Path, config: ModelConfig, dtype: str = "float32") -> MLXTextEncoder:
    """The text encoder; keys with and without the prefix of a language model's file are read.

    dtype: of its matrices, the embeddings among them.
    """
    encoder = MLXTextEncoder(read_text_encoder_config(folder, config))
    weights = {
        key.removeprefix(MODEL_PREFIX): matrix_in(dtype, value)
        for key, value in read_model(folder, TRANSFORMERS_STEM).items()
    }
    load_strictly(encoder, weights, str(folder))
    return encoder
