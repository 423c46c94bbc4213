"""`cover_noise_strength` on MLX: whether the run starts from the noised source, later in the schedule.

With 0.5, PyTorch starts at the timestep nearest to 0.5, from half noise and half source. The option acts on LEGO too,
where the caller sets it; its default of 0 changes nothing.
"""

from __future__ import annotations

import torch

from ...harness.models import CHANNELS, source_latents
from ...harness.request import RequestRecord, shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

OPTION, STRENGTH, STEPS, SHIFT = "cover_noise_strength", 0.5, 8, 1.0
REQUESTED = (
    f"cover_noise_strength {STRENGTH:g}, {STEPS} steps, shift 1: 4 steps from t = 0.5, from noise and source"
)


def run(checkout: LoadedCheckout) -> Finding:
    where = f"{checkout.file_name('generate')}, and what reaches it"
    if not checkout.has_param(OPTION):
        return judged(False, REQUESTED, "no such option here", where)
    plain = checkout.lego(inference_steps=STEPS, shift=SHIFT)
    blended = checkout.lego(inference_steps=STEPS, shift=SHIFT, **{OPTION: STRENGTH})
    if blended.refuses(OPTION):
        return judged(False, REQUESTED, f"refused: {shorten(blended.error)}", where)
    for record in (plain, blended):
        record.require_decoder()
    start = f"{len(blended.timesteps)} steps from t = {blended.timesteps[0]:g}"
    expected_steps = [0.5, 0.375, 0.25, 0.125]
    wrong_steps = len(blended.timesteps) != 4 or any(
        abs(a - b) > 1e-6 for a, b in zip(blended.timesteps, expected_steps, strict=True)
    )
    wrong_start = not _starts_from(blended, plain)
    observed = f"{start}, from {'other latents' if wrong_start else 'noise and source'}"
    return judged(wrong_steps or wrong_start, REQUESTED, observed, where)


def _starts_from(blended: RequestRecord, plain: RequestRecord) -> bool:
    """Whether the first hidden states are the plain run's noise and the source, half and half."""
    noise, start = plain.states[0][0, :, :CHANNELS], blended.states[0][0, :, :CHANNELS]
    expected = (1 - STRENGTH) * noise + STRENGTH * source_latents(noise.shape[0])
    return bool(torch.allclose(start, expected, rtol=0, atol=1e-5))
