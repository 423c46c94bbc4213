"""The one task of this fork and the sentence that names it to the model."""

import difflib

from acestep.constants import TRACK_NAMES
from acestep.errors import RequestError


def check_task(task_type: str) -> None:
    """RequestError for every task but LEGO."""
    if task_type != "lego":
        raise RequestError(
            f"task_type is {task_type!r}; this fork generates LEGO stems only: use 'lego', or upstream's ACE-Step 1.5"
        )


def check_track(track_name: str) -> None:
    """RequestError for a track that is none of the twelve; it names the nearest."""
    if track_name not in TRACK_NAMES:
        near = difflib.get_close_matches(track_name.lower(), TRACK_NAMES, n=1, cutoff=0.0)[0]
        raise RequestError(
            f"track is {track_name!r}, expected one of {', '.join(sorted(TRACK_NAMES))}; the nearest is {near!r}"
        )


class TaskUtilsMixin:
    """Instruction texts."""

    def generate_instruction(self, task_type: str, track_name: str | None = None) -> str:
        """The instruction for a LEGO track, as in the training text; without a track, the one that names none."""
        from diffusers import AceStepPipeline

        check_task(task_type)
        if track_name is not None:
            check_track(track_name)
        instruction: str = AceStepPipeline._get_task_instruction(task_type="lego", track_name=track_name)
        return instruction
