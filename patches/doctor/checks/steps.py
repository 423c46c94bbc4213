"""The requested number of steps, as the MLX decoder sees them."""

from __future__ import annotations

from ..checkout import LoadedCheckout
from ..finding import Finding, judged
from ..schedule import base_schedule, describe_timesteps, differs

COUNTS, SHIFT = (8, 27, 50), 3.0


def run(checkout: LoadedCheckout) -> Finding:
    """Three requests to a base model; each evaluation's timestep is compared with PyTorch's schedule."""
    records = [checkout.lego(inference_steps=count, shift=SHIFT) for count in COUNTS]
    evaluated = []
    for record in records:
        record.require_decoder()
        evaluated.append(record.timesteps)
    expected = [base_schedule(count, SHIFT) for count in COUNTS]
    wrong = any(map(differs, evaluated, expected))
    where = f"{checkout.file_name('generate')}:get_timestep_schedule, and what reaches it"
    return judged(
        wrong, f"{', '.join(map(str, COUNTS))} steps", describe_timesteps(evaluated, expected), where
    )
