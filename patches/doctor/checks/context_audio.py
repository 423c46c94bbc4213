"""The context audio as it reaches the decoder: its own latents, or silence in their place."""

from __future__ import annotations

from ...harness.imports import CannotProbe
from ...harness.models import CHANNELS, silence_latents, source_latents
from ...harness.request import RequestRecord
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

SECONDS = 6.0


def run(checkout: LoadedCheckout) -> Finding:
    """Two requests: over the whole length, and with a time range in which the stem is generated."""
    frames = checkout.application.frames(SECONDS)
    silenced = {
        "whole length": _silenced(checkout.lego(seconds=SECONDS), frames),
        "2 s to 4 s": _silenced(
            checkout.lego(seconds=SECONDS, repainting_start=2.0, repainting_end=4.0), frames
        ),
    }
    lost = any(silenced.values())
    counts = "; ".join(f"{name}: {count} of {frames} frames silenced" for name, count in silenced.items())
    return judged(
        lost,
        "the context's latents at the decoder",
        counts if lost else "every frame of it",
        "conditioning_masks.py",
    )


def _silenced(record: RequestRecord, frames: int) -> int:
    """How many frames of the context arrive as silence. CannotProbe where they arrive as something else."""
    record.require_decoder()
    if record.context is None:
        raise CannotProbe("the decoder is given no context latents")
    arrived = record.context[0, :frames, :CHANNELS]
    if arrived.shape != (frames, CHANNELS):
        raise CannotProbe(f"the decoder got context latents of the shape {tuple(record.context.shape)}")
    silent = (arrived == silence_latents(frames)).all(dim=1)
    kept = (arrived - source_latents(frames)).abs().amax(dim=1) < 1e-5
    if not (silent | kept).all():
        raise CannotProbe("the decoder got context latents that are neither the source's nor silence's")
    return int(silent.sum())
