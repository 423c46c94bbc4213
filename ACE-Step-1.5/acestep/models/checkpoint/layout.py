"""Where the parts of a checkpoint are, in either of the two layouts that ACE-Step 1.5 is published in.

upstream's: the folder given holds the DiT and the condition encoder, what else is needed lies beside it
  checkpoints/acestep-v15-base/      config.json, model.safetensors (or shards), silence_latent.pt
  checkpoints/vae/                   AutoencoderOobleck
  checkpoints/Qwen3-Embedding-0.6B/  the text encoder and its tokenizer
diffusers', as AceStepPipeline.save_pretrained writes it: all below the folder given
  model_index.json, transformer/, condition_encoder/, vae/, text_encoder/, tokenizer/
"""

import os
from dataclasses import dataclass
from pathlib import Path

from acestep.errors import CheckpointError

VAE_FOLDER = "vae"
TEXT_ENCODER_FOLDER = "Qwen3-Embedding-0.6B"
MODEL_INDEX = "model_index.json"


@dataclass(frozen=True)
class Layout:
    """The folder of each part; decoder and condition encoder share one in upstream's layout."""

    decoder: Path
    condition_encoder: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path

    @property
    def is_diffusers(self) -> bool:
        """Else it is upstream's."""
        return self.decoder != self.condition_encoder


def find_layout(folder: Path) -> Layout:
    """The layout of a checkpoint folder, by the files in it; whether it is complete is not checked."""
    if not os.path.isdir(folder):  # unlike Path.is_dir it raises nothing for a name that is too long
        raise CheckpointError(
            f"checkpoint folder {folder} does not exist; give one that holds config.json (upstream's layout) or "
            f"{MODEL_INDEX} (diffusers')"
        )
    if not is_utf8(folder):
        raise CheckpointError(
            f"checkpoint folder {folder} has bytes in its path that are not UTF-8, which the libraries that read "
            f"weights cannot open; rename it"
        )
    if (folder / MODEL_INDEX).exists() or (folder / "transformer").is_dir():
        return Layout(
            decoder=folder / "transformer",
            condition_encoder=folder / "condition_encoder",
            vae=folder / "vae",
            text_encoder=folder / "text_encoder",
            tokenizer=folder / "tokenizer",
        )
    beside = _parent(folder)
    text_encoder = beside / TEXT_ENCODER_FOLDER
    return Layout(folder, folder, beside / VAE_FOLDER, text_encoder, text_encoder)


def _parent(folder: Path) -> Path:
    """Where the parts beside a DiT folder are: next to it, or, where it is a link, next to what it leads to."""
    parents = [Path(os.path.abspath(folder)).parent, folder.resolve().parent]
    return next((parent for parent in parents if (parent / VAE_FOLDER).is_dir()), folder.parent)


def is_utf8(path: Path) -> bool:
    """Whether a path, made absolute, is valid UTF-8; mlx, tokenizers and transformers open no other."""
    try:
        os.path.abspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
