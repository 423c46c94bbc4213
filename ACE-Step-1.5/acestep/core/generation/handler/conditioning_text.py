"""Caption, track and lyrics to the text encoder's states; prompts and encoding are diffusers'."""

import threading
from typing import Any

import torch

from acestep.errors import RequestError

MAX_PROMPT_TOKENS = 256
MAX_LYRIC_TOKENS = 2048
# A tokenizer keeps the limit of its last call: another thread's would cut this thread's text off.
_one_encoding = threading.Lock()


class ConditioningTextMixin:
    """Encodes the prompt of a LEGO request."""

    text_encoder: Any
    text_tokenizer: Any
    device: str

    def _prepare_text_conditioning_inputs(
        self,
        batch_size: int,
        instruction: str,
        caption: str,
        lyrics: str,
        vocal_language: str,
        bpm: int | None,
        keyscale: str,
        timesignature: str,
        seconds: float,
    ) -> dict[str, torch.Tensor]:
        """Text states [batch, length, text width], lyric states likewise, and a bool mask [batch, length] of each.

        RequestError where the prompt or the lyrics do not fit the encoder: it would cut the end off in silence.
        """
        from diffusers import AceStepPipeline

        pipeline = AceStepPipeline(None, self.text_encoder, self.text_tokenizer, None, None, None)
        with _one_encoding, torch.inference_mode():
            text, text_mask, lyric, lyric_mask = pipeline.encode_prompt(
                [caption] * batch_size,
                [lyrics] * batch_size,
                device=torch.device(self.device),
                vocal_language=vocal_language,
                audio_duration=seconds,
                instruction=instruction,
                bpm=bpm,
                keyscale=keyscale,
                timesignature=timesignature,
                max_text_length=MAX_PROMPT_TOKENS + 1,  # one more than fits, to see what would be cut off
                max_lyric_length=MAX_LYRIC_TOKENS + 1,
            )
        of_prompt = {
            "caption": caption,
            "instruction": instruction,
            "keyscale": keyscale,
            "timesignature": timesignature,
        }
        of_lyrics = {"lyrics": lyrics, "vocal_language": vocal_language}
        for texts, mask, limit in (
            (of_prompt, text_mask, MAX_PROMPT_TOKENS),
            (of_lyrics, lyric_mask, MAX_LYRIC_TOKENS),
        ):
            if mask.shape[1] > limit:
                name = max(texts, key=lambda name: len(texts[name]))
                raise RequestError(
                    f"the {name} is too long: its prompt is over {limit} tokens; shorten the {name}"
                )
        return {
            "text_hidden_states": text,
            "text_attention_mask": text_mask,
            "lyric_hidden_states": lyric,
            "lyric_attention_mask": lyric_mask,
        }
