"""Tracks, and the sentence that names one to the model."""

from typing import Any

import pytest

from acestep.constants import TRACK_NAMES
from acestep.core.generation.handler.task_utils import TaskUtilsMixin, check_track
from acestep.errors import RequestError


def instruction(*args: Any, **kwargs: Any) -> str:
    return TaskUtilsMixin().generate_instruction(*args, **kwargs)


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(RequestError) as refused:
        instruction(*args, **kwargs)
    return str(refused.value)


@pytest.mark.parametrize("track", TRACK_NAMES)
def test_instruction_is_the_training_text(track: str) -> None:
    from diffusers.pipelines.ace_step.pipeline_ace_step import TASK_INSTRUCTIONS

    text = instruction("lego", track_name=track)
    assert text == TASK_INSTRUCTIONS["lego"].format(TRACK_NAME=track.upper())
    assert track.upper() in text


def test_twelve_tracks() -> None:
    assert len(set(TRACK_NAMES)) == 12


def test_without_a_track_the_text_names_none() -> None:
    from diffusers.pipelines.ace_step.pipeline_ace_step import TASK_INSTRUCTIONS

    assert instruction("lego") == TASK_INSTRUCTIONS["lego_default"]


@pytest.mark.parametrize("task", ["text2music", "cover", "repaint", "extract", "complete", "LEGO", ""])
def test_other_tasks_are_refused_by_name(task: str) -> None:
    assert refusal(task) == (
        f"task_type is {task!r}; this fork generates LEGO stems only: use 'lego', or upstream's ACE-Step 1.5"
    )


@pytest.mark.parametrize(
    ("track", "nearest"),
    [
        ("vocal", "vocals"),
        ("drum", "drums"),
        ("guitars", "guitar"),
        ("backing", "backing_vocals"),
        ("keys", "keyboard"),
    ],
)
def test_unknown_track_is_refused_with_the_nearest(track: str, nearest: str) -> None:
    assert refusal("lego", track_name=track) == (
        f"track is {track!r}, expected one of backing_vocals, bass, brass, drums, fx, guitar, keyboard, "
        f"percussion, strings, synth, vocals, woodwinds; the nearest is {nearest!r}"
    )


@pytest.mark.parametrize(
    ("track", "meant"),
    [("Vocals", "vocals"), ("GUITAR", "guitar"), ("backing vocals", "backing_vocals"), (" FX ", "fx")],
)
def test_case_and_spaces_do_not_matter(track: str, meant: str) -> None:
    assert instruction("lego", track_name=track) == instruction("lego", track_name=meant)


@pytest.mark.parametrize("track", ["", "xyz", "12"])
def test_track_like_no_other_is_refused_too(track: str) -> None:
    with pytest.raises(RequestError, match=f"track is '{track}', expected one of "):
        check_track(track)
