"""The context audio on its way to the decoder: its latents, or those of silence in their place."""

from __future__ import annotations

from ..harness.imports import CannotProbe
from .application import Seen, lego_request, silence, source, stopped_early
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("context audio", "a12a25a (2026-02-11)", "7f6e615 (2026-03-10)", SERIES)
SECONDS, FRAMES = 6.0, 150
INSTRUCTION = "Generate the VOCALS track based on the audio context:"


def look(site: Site) -> Finding:
    """Two requests: over the whole length, and with a range in which the stem is generated."""
    whole = lego_request(site.application, instruction=INSTRUCTION, seconds=SECONDS)
    part = lego_request(
        site.application, instruction=INSTRUCTION, seconds=SECONDS, repainting_start=2.0, repainting_end=4.0
    )
    lost = {name: _silenced(seen) for name, seen in (("whole length", whole), ("2 s to 4 s", part))}
    told = "; ".join(f"{name}: {frames} of {FRAMES} frames silenced" for name, frames in lost.items())
    got = told if any(lost.values()) else "every frame of it"
    return found(any(lost.values()), "the context's latents at the decoder", got, "conditioning_masks.py")


def _silenced(seen: Seen) -> int:
    """How many of the context's frames arrive as silence. CannotProbe where they arrive as something else."""
    if seen.context is None:
        raise CannotProbe(stopped_early(seen))
    arrived = seen.context[0, :FRAMES, : source(1).shape[1]]
    if arrived.shape != source(FRAMES).shape:
        raise CannotProbe(f"the decoder got context latents of the shape {tuple(seen.context.shape)}")
    gone = (arrived == silence(FRAMES)).all(dim=1)
    kept = (arrived - source(FRAMES)).abs().amax(dim=1) < 1e-5
    if not (gone | kept).all():
        raise CannotProbe("the decoder got context latents that are neither the source's nor silence's")
    return int(gone.sum())
