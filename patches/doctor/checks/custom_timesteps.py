"""Custom timesteps, as the MLX decoder sees them."""

from __future__ import annotations

from ..checkout import LoadedCheckout
from ..finding import Finding, judged
from ..schedule import describe_timesteps, differs

# More than turbo's limit of 20, and none of them in turbo's tables.
TIMESTEPS = [1.0 - 0.024 * i for i in range(40)]


def run(checkout: LoadedCheckout) -> Finding:
    """One request to a base model with 40 falling timesteps."""
    record = checkout.lego(timesteps=TIMESTEPS)
    record.require_decoder()
    where = f"{checkout.file_name('generate')}:get_timestep_schedule, and what reaches it"
    observed = describe_timesteps([record.timesteps], [TIMESTEPS])
    return judged(differs(record.timesteps, TIMESTEPS), f"{len(TIMESTEPS)} custom timesteps", observed, where)
