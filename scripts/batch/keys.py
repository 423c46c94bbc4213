"""Content keys: two songs with the same key have the same result, whatever their files are called."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from acestep.core.generation.handler.io_audio import check_file
from acestep.errors import AudioError
from acestep.models.checkpoint.layout import find_layout
from batch.manifest import Song
from smoke.inputs import add_files, file_hash

LENGTH = 24  # hexadecimal digits
PATHS = ("context", "checkpoint")


def key_of(song: Song, model: str) -> str:
    """Of the context's bytes, what is asked for, and the model; AudioError where the context cannot be read.

    model: what `model_key` returns.
    """
    context = song.requests[0].context
    try:
        check_file(context)
        content = file_hash(context)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"context audio {context} cannot be read ({reason})") from None
    asked = [
        {name: value for name, value in asdict(request).items() if name not in PATHS}
        for request in song.requests
    ]
    return hashlib.sha256(json.dumps([content, asked, model], sort_keys=True).encode()).hexdigest()[:LENGTH]


def model_key(fork: Path, checkpoint: Path) -> str:
    """Of the bytes of the fork's sources and of every file of the checkpoint, about a second for each GB."""
    layout = find_layout(checkpoint)
    folders = dict.fromkeys(
        [layout.decoder, layout.condition_encoder, layout.vae, layout.text_encoder, layout.tokenizer]
    )
    digest = hashlib.sha256()
    for root, files in [
        (fork, (fork / "acestep").rglob("*.py")),
        *((folder, folder.glob("*")) for folder in folders),
    ]:
        add_files(digest, root, files)
    return digest.hexdigest()
