"""The wavelet correction (DCW) in PyTorch where pytorch_wavelets cannot be imported."""

from __future__ import annotations

import sys

import torch

from ...harness.imports import CannotProbe
from ...harness.loops import zero_velocity
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

STEPS = 8
REQUESTED = "the wavelet correction, which is on by default, without pytorch_wavelets"


def run(checkout: LoadedCheckout) -> Finding:
    loop = checkout.torch_loop
    if "dcw_enabled" not in loop.parameters:
        return judged(False, REQUESTED, "no such correction here", loop.file)
    kept = sys.modules.get("pytorch_wavelets")
    sys.modules["pytorch_wavelets"] = None  # type: ignore[assignment]
    try:
        plain = loop.run(zero_velocity, infer_steps=STEPS).end
        try:
            corrected = loop.run(zero_velocity, infer_steps=STEPS, dcw_enabled=True).end
        except CannotProbe as reason:
            return judged(False, REQUESTED, f"refused: {shorten(reason)}", loop.file)
    finally:
        del sys.modules["pytorch_wavelets"]
        if kept is not None:
            sys.modules["pytorch_wavelets"] = kept
    is_skipped = torch.equal(plain, corrected)
    observed = "left out, which only the log says" if is_skipped else "applied all the same"
    return judged(is_skipped, REQUESTED, observed, loop.file)
