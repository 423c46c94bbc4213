"""`use_adg` on MLX: whether angle-based guidance (ADG) replaces APG, as it does in PyTorch.

Concerns LEGO wherever the caller sets it on a guided request; its default is off.
"""

from __future__ import annotations

import torch

from ...harness.mlx_decoder import evaluate_all, load_mlx_decoder
from ...harness.request import prepare_request, shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED, WHERE = "guidance 7 with use_adg", "service_generate_execute.py, and what it calls"


def run(checkout: LoadedCheckout) -> Finding:
    """The same guided request with the option and without it, on a tiny decoder."""
    if not checkout.has_param("use_adg"):
        return judged(False, REQUESTED, "no such option here", WHERE)
    latents = []
    for use_adg in (False, True):
        prepared = prepare_request(checkout.application, guidance_scale=7.0, use_adg=use_adg)
        load_mlx_decoder(checkout.root, checkout.files["generate"], prepared.handler)
        evaluate_all(prepared.handler)
        prepared.run()
        record = prepared.record
        if use_adg and record.refuses("use_adg"):
            return judged(False, REQUESTED, f"refused: {shorten(record.error)}", WHERE)
        latents.append(record.require_latents())
    ignored = torch.equal(*latents)
    return judged(
        ignored, REQUESTED, "the latents without it" if ignored else "other latents than without it", WHERE
    )
