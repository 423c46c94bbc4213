"""The step count that a stem's own record names, against the steps that were run for it."""

from __future__ import annotations

from ..harness.imports import CannotProbe
from .application import lego_request, stopped_early
from .context import INSTRUCTION
from .line import BASE_PATCHES, Finding, Line, found
from .site import Site

LINE = Line("steps on record", "a12a25a (2026-02-11)", "82a5d84 (2026-02-25)", BASE_PATCHES)
STEPS = 50


def look(site: Site) -> Finding:
    seen = lego_request(site.application, instruction=INSTRUCTION, inference_steps=STEPS)
    if seen.context is None:
        raise CannotProbe(stopped_early(seen))
    if seen.claimed_steps is None:
        raise CannotProbe("what is returned names no step count")
    claimed, ran = seen.claimed_steps, len(seen.timesteps)
    return found(
        claimed != ran,
        f"{STEPS} steps, and a record of what was run",
        f"a record of {claimed}, {ran} evaluated",
        "inference.py, and what reaches the decoder",
    )
