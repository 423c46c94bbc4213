"""The step count in a stem's own record, against the number of steps that ran for it."""

from __future__ import annotations

from ...harness.imports import CannotProbe
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

STEPS = 50


def run(checkout: LoadedCheckout) -> Finding:
    record = checkout.lego(inference_steps=STEPS)
    record.require_decoder()
    if record.recorded_steps is None:
        raise CannotProbe("the result names no step count")
    evaluated = len(record.timesteps)
    return judged(
        record.recorded_steps != evaluated,
        f"{STEPS} steps, and a record of what ran",
        f"a record of {record.recorded_steps}, {evaluated} evaluated",
        "inference.py, and what reaches the decoder",
    )
