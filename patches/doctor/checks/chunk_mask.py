"""The chunk mask as it reaches the decoder: 1 where the stem is to be generated, 0 elsewhere.

The mask is the second half of the context latents. diffusers and acestep.cpp use these values. Upstream documents a
mode "auto", its default, in which the mask is 2 everywhere; a mask of type bool makes that 1 everywhere,
and a time range is lost.
"""

from __future__ import annotations

import torch

from ...harness.imports import CannotProbe
from ...harness.models import CHANNELS
from ...harness.request import RequestRecord
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED = "a chunk mask of 1 over the whole length; with a range of 2 s to 4 s, 1 inside and 0 outside"


def run(checkout: LoadedCheckout) -> Finding:
    """Two requests of 6 s with every default of the checkout."""
    frames, first, last = (checkout.application.frames(seconds) for seconds in (6.0, 2.0, 4.0))
    whole = _mask(checkout.lego(seconds=6.0), frames)
    ranged = _mask(checkout.lego(seconds=6.0, repainting_start=2.0, repainting_end=4.0), frames)
    outside = torch.cat([ranged[:first], ranged[last:]])
    values = {
        "whole length": (whole, 1.0),
        "inside the range": (ranged[first:last], 1.0),
        "outside": (outside, 0.0),
    }
    wrong = any((mask != expected).any() for mask, expected in values.values())
    observed = ", ".join(f"{name} {_describe(mask)}" for name, (mask, _) in values.items())
    return judged(wrong, REQUESTED, observed, "conditioning_masks.py:_build_chunk_masks_and_src_latents")


def _mask(record: RequestRecord, frames: int) -> torch.Tensor:
    """The mask of the context's frames, [frames, 64]."""
    record.require_decoder()
    if record.context is None or record.context.shape[-1] != 2 * CHANNELS:
        raise CannotProbe("the decoder is given no context latents of 128 channels")
    return record.context[0, :frames, CHANNELS:]


def _describe(mask: torch.Tensor) -> str:
    return " and ".join(f"{value:g}" for value in sorted(set(mask.flatten().tolist())))
