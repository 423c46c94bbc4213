"""Whether captions and lyrics have few enough tokens, told by the checkpoint's tokenizer before anything is loaded."""

from collections.abc import Sequence
from pathlib import Path

from acestep.core.generation.handler.conditioning_text import lyric_tokens, prompt_tokens
from acestep.core.generation.handler.prompts import lego_instruction
from acestep.core.generation.handler.task_utils import track_key
from acestep.errors import RequestError
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.tokenizer import TOKENIZER_FILE, load_tokenizer
from smoke.request import Request

UNKNOWN_LANGUAGE = "unknown"


def check_texts(requests: Sequence[Request], checkpoint: Path, seconds: float) -> None:
    """RequestError for a prompt or lyrics that the text encoder would cut off. seconds: of the context.

    A checkpoint without this file is left to whoever loads it: a checkout may have other tokenizers.
    """
    folder = find_layout(checkpoint).tokenizer
    if not (folder / TOKENIZER_FILE).is_file():
        return
    tokenizer = load_tokenizer(folder)
    for request in requests:
        instruction = lego_instruction(track_key(request.track))
        try:
            prompt_tokens(tokenizer, instruction, request.caption, request.bpm, request.key, "", seconds)
            lyric_tokens(tokenizer, request.lyrics, UNKNOWN_LANGUAGE)
        except RequestError as error:
            layer = "" if request.layer is None else f"layer {request.layer} ({request.track}): "
            raise RequestError(f"{layer}{error}") from None
