"""The one task of this fork and the sentence that names it to the model."""

import difflib
from typing import Any

from acestep.constants import TRACK_NAMES
from acestep.core.generation.handler.prompts import lego_instruction
from acestep.core.generation.handler.request_values import show
from acestep.errors import RequestError


def check_task(task_type: Any) -> None:
    """RequestError for every task but LEGO."""
    if not isinstance(task_type, str) or task_type != "lego":
        raise RequestError(
            f"task_type is {show(task_type)}; this fork generates LEGO stems only: "
            f"use 'lego', or upstream's ACE-Step 1.5"
        )


def track_key(track_name: str) -> str:
    """A track as the model knows it, whatever its case: 'Backing Vocals' is 'backing_vocals'."""
    return "_".join(track_name.lower().replace("-", " ").replace("_", " ").split())


def check_track(track_name: Any) -> None:
    """RequestError for a track that is none of the twelve; it names the nearest."""
    if not isinstance(track_name, str):
        raise RequestError(f"track is {show(track_name)}, expected one of {', '.join(sorted(TRACK_NAMES))}")
    if track_key(track_name) not in TRACK_NAMES:
        near = difflib.get_close_matches(track_key(track_name), TRACK_NAMES, n=1, cutoff=0.0)[0]
        raise RequestError(
            f"track is {show(track_name)}, expected one of {', '.join(sorted(TRACK_NAMES))}; the nearest is {near!r}"
        )


class TaskUtilsMixin:
    """Instruction texts."""

    def generate_instruction(
        self, task_type: str, track_name: str | None = None, complete_track_classes: list[str] | None = None
    ) -> str:
        """The instruction for a LEGO track, as in the training text; without a track, the one that names none.

        complete_track_classes: of upstream's 'complete' task, without effect on LEGO.
        """
        check_task(task_type)
        if track_name is not None:
            check_track(track_name)
            track_name = track_key(track_name)
        return lego_instruction(track_name)
