"""Caption, track and lyrics to the text encoder's states."""

from collections.abc import Callable
from typing import Any

import numpy as np

from acestep.core.generation.handler.prompts import format_lyrics, format_prompt
from acestep.errors import RequestError
from acestep.models.parts import TextEncoder

MAX_PROMPT_TOKENS = 256
MAX_LYRIC_TOKENS = 2048

Tokenizer = Callable[[str], list[int]]


def prompt_tokens(
    tokenizer: Tokenizer,
    instruction: str,
    caption: str,
    bpm: int | None,
    keyscale: str,
    timesignature: str,
    seconds: float,
) -> list[int]:
    """The tokens of the prompt; RequestError where the text encoder takes fewer. seconds: of the context."""
    fields = {
        "caption": caption,
        "instruction": instruction,
        "key": keyscale,
        "time signature": timesignature,
    }
    prompt = format_prompt(instruction, caption, bpm, keyscale, timesignature, seconds)
    return _tokens(tokenizer, "the prompt has", prompt, fields, MAX_PROMPT_TOKENS)


def lyric_tokens(tokenizer: Tokenizer, lyrics: str, vocal_language: str) -> list[int]:
    """The tokens of the lyrics; RequestError where the lyric encoder takes fewer."""
    fields = {"lyrics": lyrics, "vocal language": vocal_language}
    text = format_lyrics(lyrics, vocal_language)
    return _tokens(tokenizer, "lyrics and language have", text, fields, MAX_LYRIC_TOKENS)


def _tokens(tokenizer: Tokenizer, what: str, text: str, fields: dict[str, str], limit: int) -> list[int]:
    """The tokens of a text; where they are more than `limit`, the field that has most of them is named."""
    tokens = tokenizer(text)
    if len(tokens) > limit:
        name = max(fields, key=lambda name: len(tokenizer(fields[name])))
        verb = "are" if name == "lyrics" else "is"
        raise RequestError(
            f"the {name} {verb} too long: {what} {len(tokens)} tokens in all, at most {limit} are possible; "
            f"shorten the {name}"
        )
    return tokens


class ConditioningTextMixin:
    """Encodes the prompt of a LEGO request."""

    text_encoder: TextEncoder
    text_tokenizer: Any

    def _prepare_text_conditioning_inputs(
        self,
        instruction: str,
        caption: str,
        lyrics: str,
        vocal_language: str,
        bpm: int | None,
        keyscale: str,
        timesignature: str,
        seconds: float,
    ) -> dict[str, np.ndarray]:
        """Text states [1, length, text width], lyric states likewise, and a bool mask [1, length] of each.

        They are one item's and are repeated for a batch. The lyrics' states are embeddings: the lyric encoder's input.
        RequestError where the prompt or the lyrics have too many tokens.
        """
        text = prompt_tokens(self.text_tokenizer, instruction, caption, bpm, keyscale, timesignature, seconds)
        lyric = lyric_tokens(self.text_tokenizer, lyrics, vocal_language)
        return {
            "text_hidden_states": self.text_encoder.encode(text),
            "text_attention_mask": np.ones((1, len(text)), dtype=bool),
            "lyric_hidden_states": self.text_encoder.embed(lyric),
            "lyric_attention_mask": np.ones((1, len(lyric)), dtype=bool),
        }
