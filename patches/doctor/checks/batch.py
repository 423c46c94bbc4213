"""A batch of two seeds against two runs of one seed each."""

from __future__ import annotations

import torch

from ...harness.mlx_decoder import evaluate_all, load_mlx_decoder
from ...harness.request import prepare_request
from ..checkout import LoadedCheckout
from ..finding import Finding, judged
from .repeated_run import relative_distance

SEEDS, BOUND = (7, 8), 1e-5
REQUESTED = "seeds 7 and 8 in one batch: the latents that each has alone"


def run(checkout: LoadedCheckout) -> Finding:
    """Guided, so that rows of cond and uncond can be mixed up too."""
    together = _latents(checkout, SEEDS)
    where = f"{checkout.file_name('generate')}, conditioning_batch.py"
    if together.shape[0] != len(SEEDS):
        return judged(True, REQUESTED, f"{together.shape[0]} stems", where)
    distances = [
        relative_distance(row, _latents(checkout, (seed,))[0])
        for row, seed in zip(together, SEEDS, strict=True)
    ]
    observed = "relative L2 " + " and ".join(f"{distance:.1e}" for distance in distances)
    return judged(not max(distances) <= BOUND, REQUESTED, observed, where)


def _latents(checkout: LoadedCheckout, seeds: tuple[int, ...]) -> torch.Tensor:
    prepared = prepare_request(checkout.application, seeds=seeds, guidance_scale=7.0)
    load_mlx_decoder(checkout.root, checkout.files["generate"], prepared.handler)
    evaluate_all(prepared.handler)  # upstream runs a request in a thread of its own
    prepared.run()
    return prepared.record.require_latents()
