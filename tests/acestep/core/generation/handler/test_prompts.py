"""The prompts are diffusers' to the letter: a model trained on one text is given no other."""

from typing import Any

import pytest

from acestep.constants import TRACK_NAMES
from acestep.core.generation.handler.prompts import format_lyrics, format_prompt, lego_instruction

REQUEST: dict[str, Any] = {
    "instruction": "Generate the track:",
    "caption": "slow, {warm} pads",
    "bpm": 120,
    "keyscale": "C major",
    "timesignature": "4",
    "seconds": 31.7,
}


@pytest.mark.parametrize("track", [None, *TRACK_NAMES])
def test_instruction_is_diffusers(track: str | None) -> None:
    from diffusers import AceStepPipeline

    assert lego_instruction(track) == AceStepPipeline._get_task_instruction("lego", track_name=track)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bpm": None},
        {"keyscale": " ", "timesignature": ""},
        {"instruction": "no colon"},
        {"caption": ""},
        {"seconds": 1.0},
    ],
    ids=str,
)
def test_prompt_is_diffusers(changes: dict[str, Any]) -> None:
    from diffusers import AceStepPipeline

    request = REQUEST | changes
    pipeline = AceStepPipeline(None, None, None, None, None, None)
    theirs = {"prompt": request["caption"], "audio_duration": request["seconds"]} | {
        key: request[key] for key in ("instruction", "bpm", "keyscale", "timesignature")
    }
    prompt, lyrics = pipeline._format_prompt(lyrics="[Verse]\nla {la}", vocal_language="en", **theirs)
    assert format_prompt(**request) == prompt
    assert format_lyrics("[Verse]\nla {la}", "en") == lyrics
