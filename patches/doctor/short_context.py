"""A context shorter than 5.12 s, or a range in a longer one: what the loop puts back of the source as it runs.

Such contexts are filled up to 128 frames. What lies outside of the range to be generated, the filling included,
may be put back during the first steps; on one backend and not on the other, the stems differ.
"""

from __future__ import annotations

import torch

from ..harness.imports import CannotProbe
from .application import CHANNELS, Seen, lego_request, stopped_early
from .context import INSTRUCTION
from .line import Finding, Line, found
from .pytorch import Loop, still
from .site import Site

LINE = Line(
    "short contexts and ranges",
    "e69fb77 (2026-03-11)",
    "",
    "not closable in a few lines: give a context of at least 5.12 s and no range, where PyTorch is to be compared",
)
STEPS = 4


def look(site: Site) -> Finding:
    """With a decoder that moves nothing, whatever changes between the steps was put there by the loop."""
    loop = Loop(site)
    asked = {
        "3 s": {"seconds": 3.0},
        "2 s to 4 s of 6 s": {"seconds": 6.0, "repainting_start": 2.0, "repainting_end": 4.0},
    }
    told, differs = [], False
    for name, request in asked.items():
        seen = lego_request(site.application, instruction=INSTRUCTION, inference_steps=STEPS, **request)
        mlx, pytorch = _put_back(seen), _put_back_by_pytorch(loop, seen)
        differs |= mlx != pytorch
        told.append(f"{name}: MLX {mlx}, PyTorch {pytorch}")
    got = f"frames of the source put back while it runs, {'; '.join(told)}"
    where = f"dit_generate.py and {loop.file}"
    return found(differs, "the same of both backends, for short contexts and ranges", got, where)


def _put_back(seen: Seen) -> int:
    if len(seen.states) < 2:
        raise CannotProbe(stopped_early(seen))
    return _changed(seen.states[0], seen.states[-1])


def _put_back_by_pytorch(loop: Loop, seen: Seen) -> int:
    request = {
        name: value for name, value in seen.request.items() if name.startswith(("repaint", "clean_src"))
    }
    frames = seen.states[0].shape[1]
    ran = loop.run(still, frames=frames, infer_steps=STEPS, **request)
    return _changed(ran.states[0], ran.states[-1])


def _changed(first: torch.Tensor, last: torch.Tensor) -> int:
    """How many frames differ."""
    return int(((first - last).abs()[0, :, :CHANNELS].amax(dim=1) > 1e-5).sum())
