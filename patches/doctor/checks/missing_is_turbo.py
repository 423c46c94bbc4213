"""A config without `is_turbo`: a base model by upstream's own meaning, or a refusal that names the key."""

from __future__ import annotations

from ...harness.imports import CannotProbe
from ...harness.models import model_config
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

STEPS = 50
REQUESTED, WHERE = f"{STEPS} steps, of a model whose config has no is_turbo", "dit_generate.py"


def run(checkout: LoadedCheckout) -> Finding:
    record = checkout.lego(inference_steps=STEPS, config=model_config(is_turbo=None))
    evaluated = len(record.timesteps)
    if evaluated:
        return judged(evaluated != STEPS, REQUESTED, f"{evaluated} evaluated", WHERE)
    if record.pytorch_ran:
        reason = shorten(repr(record.mlx_error))
        return judged(True, REQUESTED, f"PyTorch ran in MLX's place: {reason}", WHERE)
    if not record.success and "is_turbo" in record.error:
        return judged(False, REQUESTED, f"refused: {shorten(record.error)}", WHERE)
    raise CannotProbe(record.why_not_run())
