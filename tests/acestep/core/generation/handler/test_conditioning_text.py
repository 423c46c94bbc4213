"""Prompt and lyrics to encoder states: the training text to the letter, whole or refused."""

from typing import Any

import numpy as np
import pytest
import torch

from acestep.core.generation.handler.conditioning_text import MAX_LYRIC_TOKENS, MAX_PROMPT_TOKENS
from acestep.errors import RequestError
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from tests.parity_helper import assert_equal, assert_near


def encode(handler: Any, **changes: Any) -> dict[str, np.ndarray]:
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
    return handler._prepare_text_conditioning_inputs(**{**request, **changes})


def seen_texts(handler: Any, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    """What the tokenizer was given: the prompt, then the lyrics."""
    texts, tokenizer = [], handler.text_tokenizer

    def note(text: str) -> list[int]:
        texts.append(text)
        return tokenizer(text)

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
    states = encode(mlx_handler)
    for kind in ("text", "lyric"):
        hidden, mask = states[f"{kind}_hidden_states"], states[f"{kind}_attention_mask"]
        assert hidden.shape == (*mask.shape, mlx_handler.config.text_hidden_dim)
        assert mask.dtype == bool
        assert len(hidden) == 1, "one prompt for the whole batch"
        assert mask.all(), "nothing is filled up"


def test_states_are_those_of_diffusers_pipeline(mlx_handler: Any, tiny_root: Any) -> None:
    """From the words to the states, through its own tokenizer, text encoder and prompts."""
    from diffusers import AceStepPipeline
    from transformers import AutoTokenizer, Qwen3Model

    folder = tiny_root() / "checkpoints" / "Qwen3-Embedding-0.6B"
    text_encoder = Qwen3Model.from_pretrained(folder).requires_grad_(False)
    pipeline = AceStepPipeline(None, text_encoder, AutoTokenizer.from_pretrained(folder), None, None, None)
    words = {"bpm": 90, "keyscale": "A minor", "timesignature": "4", "vocal_language": "en"}
    instruction = mlx_handler.generate_instruction("lego", "bass")
    text, _, lyric, _ = pipeline.encode_prompt(
        "deep and slow",
        "la la la",
        torch.device("cpu"),
        audio_duration=30.7,
        instruction=instruction,
        **words,
    )
    states = encode(mlx_handler)
    assert_near(states["text_hidden_states"], text, largest=1e-5, what="text")
    assert_equal(states["lyric_hidden_states"], lyric, "lyrics")


def test_lyrics_are_embedded_only(mlx_handler: Any) -> None:
    """The condition encoder reads them in context; the text encoder's layers would be one reading too many."""
    text = "# Languages\nen\n\n# Lyric\nla la la<|endoftext|>"
    embedding = np.array(mlx_handler.text_encoder.encoder.embed_tokens.weight)
    assert_equal(encode(mlx_handler)["lyric_hidden_states"][0], embedding[mlx_handler.text_tokenizer(text)])


@pytest.mark.parametrize(
    "changes",
    [{"caption": "high and fast"}, {"bpm": 91}, {"keyscale": "C"}, {"timesignature": "3"}, {"seconds": 31.0}],
    ids=lambda changes: next(iter(changes)),
)
def test_every_word_matters(mlx_handler: Any, changes: dict[str, Any]) -> None:
    a, b = (encode(mlx_handler, **c)["text_hidden_states"] for c in ({}, changes))
    assert a.shape != b.shape or not np.array_equal(a, b)


@pytest.mark.parametrize(
    ("field", "named", "kind", "limit"),
    [
        ("caption", "the caption is too long: the prompt has", "text", MAX_PROMPT_TOKENS),
        ("instruction", "the instruction is too long: the prompt has", "text", MAX_PROMPT_TOKENS),
        ("keyscale", "the key is too long: the prompt has", "text", MAX_PROMPT_TOKENS),
        ("timesignature", "the time signature is too long: the prompt has", "text", MAX_PROMPT_TOKENS),
        ("lyrics", "the lyrics are too long: lyrics and language have", "lyric", MAX_LYRIC_TOKENS),
        (
            "vocal_language",
            "the vocal language is too long: lyrics and language have",
            "lyric",
            MAX_LYRIC_TOKENS,
        ),
    ],
)
def test_what_does_not_fit_is_refused_not_cut(
    mlx_handler: Any, field: str, named: str, kind: str, limit: int
) -> None:
    """Each q is a token of its own to the tiny tokenizer."""

    def count(letters: int) -> int:
        return encode(mlx_handler, **{field: "q" * letters})[f"{kind}_attention_mask"].shape[1]

    as_many_as_fit = limit - count(1) + 1
    assert count(as_many_as_fit) == limit
    with pytest.raises(RequestError) as refused:
        count(as_many_as_fit + 1)
    shorten = named.removeprefix("the ").partition(" is ")[0].partition(" are ")[0]
    assert str(refused.value) == (
        f"{named} {limit + 1} tokens in all, at most {limit} are possible; shorten the {shorten}"
    )


def test_the_field_with_the_most_tokens_is_named(mlx_handler: Any) -> None:
    """Not the one with the most characters: the words of the caption are one token each."""
    with pytest.raises(RequestError, match=r"^the key is too long"):
        encode(mlx_handler, caption="warm lead vocals over a soft groove " * 12, keyscale="q" * 180)


def test_texts_are_refused_before_the_context_is_encoded(
    mlx_handler: Any, context_wav: Any, monkeypatch: Any
) -> None:
    """Encoding takes minutes at real size."""
    monkeypatch.setattr(
        type(mlx_handler.vae), "sample_latents", lambda *_: pytest.fail("the context was encoded")
    )
    result = generate_music(
        mlx_handler,
        None,
        GenerationParams(src_audio=context_wav, caption="q" * 300),
        GenerationConfig(),
    )
    assert "the caption is too long" in str(result.error)
