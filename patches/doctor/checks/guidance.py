"""Guidance on MLX: whether uncond is evaluated at all."""

from __future__ import annotations

from ..checkout import LoadedCheckout
from ..finding import Finding, judged

SCALE, STEPS = 7.0, 6


def run(checkout: LoadedCheckout) -> Finding:
    """A guided request evaluates twice as many rows: two in one call of the decoder, or one in each of two calls."""
    record = checkout.lego(inference_steps=STEPS, guidance_scale=SCALE)
    record.require_decoder()
    guided = max(record.batches) == 2 or len(record.timesteps) == 2 * len(set(record.timesteps))
    observed = "both branches are evaluated" if guided else "uncond is never evaluated"
    where = f"{checkout.file_name('generate')}, and what reaches it"
    return judged(not guided, f"guidance {SCALE:g}", observed, where)
