"""A failure of MLX: reported to the caller, or turned into a PyTorch run that reports success."""

from __future__ import annotations

from ...harness.imports import CannotProbe
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REASON = "the doctor made MLX fail"
REQUESTED, WHERE = "MLX, which fails", "service_generate_execute.py"


def run(checkout: LoadedCheckout) -> Finding:
    record = checkout.lego(failure=RuntimeError(REASON))
    if record.mlx_error is None or REASON not in str(record.mlx_error):
        raise CannotProbe(record.why_not_run())
    if record.pytorch_ran:
        outcome = "success was reported" if record.success else f"then: {shorten(record.error)}"
        return judged(True, REQUESTED, f"PyTorch ran in its place, {outcome}", WHERE)
    if record.success:
        return judged(True, REQUESTED, "success was reported", WHERE)
    if REASON not in record.error:
        return judged(True, REQUESTED, f"a failure without its reason: {shorten(record.error)}", WHERE)
    return judged(False, REQUESTED, "a failure with its reason", WHERE)
