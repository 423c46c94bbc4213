"""Three requests on one loaded model, the third equal to the first: whether something is kept from run to run.

A decoder cache that outlives its run gives a good first result, and later ones with the conditions of earlier ones.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import torch

from ...harness.imports import CannotProbe, describe
from ...harness.mlx_decoder import evaluate_all, load_mlx_decoder
from ...harness.models import CHANNELS, TOKENS, WIDTH
from ...harness.request import prepare_request
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED = "a request, one with other conditions, and the first again: the latents of its own each time"
CONDITIONS = (1.0, -0.5, 1.0)
BOUND = 1e-6


def run(checkout: LoadedCheckout) -> Finding:
    """The decoder is a tiny one of the checkout's own, so that what is cached are its own keys and values."""
    prepared = prepare_request(checkout.application)
    load_mlx_decoder(checkout.root, checkout.files["generate"], prepared.handler)
    evaluate_all(prepared.handler)  # upstream runs a request in a thread of its own
    if not _depends_on_conditions(prepared.handler.mlx_decoder):
        raise CannotProbe("a tiny decoder's output does not depend on its conditions")
    latents = []
    for encoder_value in CONDITIONS:
        prepared.handler.model.encoder_value = encoder_value
        prepared.record.latents = None
        prepared.run()
        latents.append(prepared.record.require_latents())
    first, other, again = latents
    where = f"{checkout.file_name('generate')}, dit_model.py"
    if relative_distance(other, first) <= BOUND:
        return judged(True, REQUESTED, "the second run has the conditions of the first", where)
    distance = relative_distance(again, first)
    observed = f"relative L2 {distance:.1e} between the first run and the third"
    return judged(not distance <= BOUND, REQUESTED, observed, where)


def _depends_on_conditions(decoder: Any) -> bool:
    """Whether two evaluations without a cache differ where their encoder states do."""
    frames = 4
    outputs = []
    for encoder_value in CONDITIONS[:2]:
        try:
            output, _ = decoder(
                hidden_states=mx.ones((1, frames, CHANNELS)),
                timestep=mx.full((1,), 0.5),
                timestep_r=mx.full((1,), 0.5),
                encoder_hidden_states=mx.full((1, TOKENS, WIDTH), encoder_value),
                context_latents=mx.ones((1, frames, 2 * CHANNELS)),
                cache=None,
                use_cache=False,
            )
        except Exception as error:
            raise CannotProbe(
                f"its decoder cannot be called as upstream's loop does: {describe(error)}"
            ) from error
        outputs.append(output)
    return not mx.array_equal(outputs[0], outputs[1]).item()


def relative_distance(latents: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative L2."""
    return float((latents.double() - reference.double()).norm() / reference.double().norm())
