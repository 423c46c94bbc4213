"""Contexts shorter than 128 frames (5.12 s), and time ranges: what the loop puts back of the source between the steps.

Such contexts are padded. Frames outside the range to be generated, the padding among them, may be put
back in the first steps; where one backend does so and the other does not, the stems differ.
"""

from __future__ import annotations

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import zero_velocity
from ...harness.models import CHANNELS, SAMPLES_PER_FRAME
from ...harness.request import RequestRecord
from ...harness.torch_loop import TorchLoop
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

STEPS, SHORT = 4, 75  # frames


def run(checkout: LoadedCheckout) -> Finding:
    """The decoder predicts no motion, so that whatever changes between the steps was put there by the loop."""
    loop = checkout.torch_loop
    seconds = SHORT * SAMPLES_PER_FRAME / checkout.application.sample_rate
    requests = {
        f"{seconds:g} s": {"seconds": seconds},
        "2 s to 4 s of 6 s": {"seconds": 6.0, "repainting_start": 2.0, "repainting_end": 4.0},
    }
    counts, differ = [], False
    for name, request in requests.items():
        record = checkout.lego(inference_steps=STEPS, **request)
        mlx, pytorch = _put_back(record), _put_back_by_pytorch(loop, record)
        differ |= mlx != pytorch
        counts.append(f"{name}: MLX {mlx}, PyTorch {pytorch}")
    return judged(
        differ,
        "the same of both backends, for short contexts and ranges",
        f"frames of the source put back between the steps, {'; '.join(counts)}",
        f"dit_generate.py and {loop.file}",
    )


def _put_back(record: RequestRecord) -> int:
    if len(record.states) < 2:
        raise CannotProbe(record.why_not_run())
    return _changed_frames(record.states[0], record.states[-1])


def _put_back_by_pytorch(loop: TorchLoop, record: RequestRecord) -> int:
    kwargs = {
        name: value for name, value in record.kwargs.items() if name.startswith(("repaint", "clean_src"))
    }
    result = loop.run(zero_velocity, frames=record.states[0].shape[1], infer_steps=STEPS, **kwargs)
    return _changed_frames(result.states[0], result.states[-1])


def _changed_frames(first: torch.Tensor, last: torch.Tensor) -> int:
    return int(((first - last).abs()[0, :, :CHANNELS].amax(dim=1) > 1e-5).sum())
