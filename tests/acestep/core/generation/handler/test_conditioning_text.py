"""Prompt and lyrics to encoder states: the training text to the letter, whole or refused."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from parity_helper import assert_equal, assert_near

from acestep.core.generation.handler.conditioning_text import MAX_LYRIC_TOKENS, MAX_PROMPT_TOKENS
from acestep.errors import RequestError


def encode(handler: Any, batch: int = 1, **changes: Any) -> dict[str, torch.Tensor]:
    request: dict[str, Any] = {
        "instruction": handler.generate_instruction("lego", "bass"),
        "caption": "deep and slow",
        "lyrics": "la la la",
        "vocal_language": "en",
        "bpm": 90,
        "keyscale": "A minor",
        "timesignature": "4",
        "seconds": 30.7,
    }
    return handler._prepare_text_conditioning_inputs(batch, **{**request, **changes})


def seen_texts(handler: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    """What the tokenizer was given: the prompt, then the lyrics."""
    texts, tokenizer = [], handler.text_tokenizer

    def note(batch: list[str], **options: Any) -> Any:
        texts.extend(batch)
        return tokenizer(batch, **options)

    monkeypatch.setattr(handler, "text_tokenizer", note)
    encode(handler, **changes)
    return texts


def test_prompt_and_lyrics_to_the_letter(mlx_handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.pipelines.ace_step.pipeline_ace_step import SFT_GEN_PROMPT

    prompt, lyrics = seen_texts(mlx_handler, monkeypatch)
    metas = "- bpm: 90\n- timesignature: 4\n- keyscale: A minor\n- duration: 30 seconds\n"
    instruction = mlx_handler.generate_instruction("lego", "bass")
    assert prompt == SFT_GEN_PROMPT.format(instruction, "deep and slow", metas)
    assert lyrics == "# Languages\nen\n\n# Lyric\nla la la<|endoftext|>"


def test_what_is_not_known_is_said_so(mlx_handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt, _ = seen_texts(mlx_handler, monkeypatch, bpm=None, keyscale="", timesignature="")
    assert "- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n" in prompt


def test_states_and_masks_fit_together(mlx_handler: Any) -> None:
    states = encode(mlx_handler, batch=2)
    for kind in ("text", "lyric"):
        hidden, mask = states[f"{kind}_hidden_states"], states[f"{kind}_attention_mask"]
        assert hidden.shape == (*mask.shape, mlx_handler.config.text_hidden_dim)
        assert mask.dtype == torch.bool
        assert mask.all(), "one prompt for the whole batch: nothing to fill up"
        assert_near(hidden[1], hidden[0], largest=1e-6)


def test_lyrics_are_embedded_only(mlx_handler: Any) -> None:
    """The condition encoder reads them in context; the text encoder's layers would be one reading too many."""
    text = "# Languages\nen\n\n# Lyric\nla la la<|endoftext|>"
    tokens = mlx_handler.text_tokenizer(text, return_tensors="pt").input_ids
    embedded = mlx_handler.text_encoder.get_input_embeddings()(tokens)
    assert_equal(encode(mlx_handler)["lyric_hidden_states"], embedded)


@pytest.mark.parametrize(
    "changes",
    [{"caption": "high and fast"}, {"bpm": 91}, {"keyscale": "C"}, {"timesignature": "3"}, {"seconds": 31.0}],
    ids=lambda changes: next(iter(changes)),
)
def test_every_word_matters(mlx_handler: Any, changes: dict[str, Any]) -> None:
    a, b = (encode(mlx_handler, **c)["text_hidden_states"] for c in ({}, changes))
    assert a.shape != b.shape or not torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "kind", "limit"),
    [
        ("caption", "text", MAX_PROMPT_TOKENS),
        ("instruction", "text", MAX_PROMPT_TOKENS),
        ("keyscale", "text", MAX_PROMPT_TOKENS),
        ("lyrics", "lyric", MAX_LYRIC_TOKENS),
        ("vocal_language", "lyric", MAX_LYRIC_TOKENS),
    ],
)
def test_what_does_not_fit_is_refused_not_cut(mlx_handler: Any, name: str, kind: str, limit: int) -> None:
    """Each q is a token of its own to the tiny tokenizer."""

    def count(letters: int) -> int:
        return encode(mlx_handler, **{name: "q" * letters})[f"{kind}_attention_mask"].shape[1]

    as_many_as_fit = limit - count(1) + 1
    assert count(as_many_as_fit) == limit
    with pytest.raises(RequestError) as refused:
        count(as_many_as_fit + 1)
    assert str(refused.value) == (
        f"the {name} is too long: its prompt is over {limit} tokens; shorten the {name}"
    )


def test_threads_take_turns(mlx_handler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer keeps the length it is to cut at: two at once, and one is cut at the other's."""
    tokenizer, inside, together = mlx_handler.text_tokenizer, [], []

    def watched(*texts: Any, **options: Any) -> Any:
        inside.append(1)
        together.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return tokenizer(*texts, **options)

    monkeypatch.setattr(mlx_handler, "text_tokenizer", watched)
    with ThreadPoolExecutor(4) as pool:
        lengths = pool.map(
            lambda letters: encode(mlx_handler, lyrics="q" * letters)["lyric_attention_mask"].shape[1],
            [1, 900] * 4,
        )
    assert len(set(lengths)) == 2
    assert together == [1] * 16
