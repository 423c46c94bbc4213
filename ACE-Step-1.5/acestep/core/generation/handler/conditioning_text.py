"""Caption, track and lyrics to the text encoder's states."""

from typing import Any

import numpy as np

from acestep.core.generation.handler.prompts import format_lyrics, format_prompt
from acestep.errors import RequestError
from acestep.models.parts import TextEncoder

MAX_PROMPT_TOKENS = 256
MAX_LYRIC_TOKENS = 2048


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

        They are one item's, which serves a batch. The lyrics' states are embeddings: the lyric encoder does the rest.
        RequestError where the prompt or the lyrics do not fit the encoder.
        """
        prompt = format_prompt(instruction, caption, bpm, keyscale, timesignature, seconds)
        of_prompt = {
            "caption": caption,
            "instruction": instruction,
            "keyscale": keyscale,
            "timesignature": timesignature,
        }
        of_lyrics = {"lyrics": lyrics, "vocal_language": vocal_language}
        text = self._tokens(of_prompt, prompt, MAX_PROMPT_TOKENS)
        lyric = self._tokens(of_lyrics, format_lyrics(lyrics, vocal_language), MAX_LYRIC_TOKENS)
        return {
            "text_hidden_states": self.text_encoder.encode(text),
            "text_attention_mask": np.ones((1, len(text)), dtype=bool),
            "lyric_hidden_states": self.text_encoder.embed(lyric),
            "lyric_attention_mask": np.ones((1, len(lyric)), dtype=bool),
        }

    def _tokens(self, parts: dict[str, str], text: str, limit: int) -> list[int]:
        """Of a text made of the parts; RequestError, which names the longest, where they are more than the limit."""
        tokens: list[int] = self.text_tokenizer(text)
        if len(tokens) > limit:
            name = max(parts, key=lambda name: len(parts[name]))
            raise RequestError(
                f"the {name} is too long: its prompt is {len(tokens)} tokens, at most {limit} fit; shorten the {name}"
            )
        return tokens
