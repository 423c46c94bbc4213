"""The MLX decoder, loaded in one thread and used in another, as a web interface or an API server uses it."""

from __future__ import annotations

import mlx.core as mx

from ...harness.imports import CannotProbe
from ...harness.mlx_decoder import load_mlx_decoder
from ...harness.recorders import call_in_thread
from ...harness.request import prepare_request, shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED, WHERE = "the same in a worker thread", "dit_model.py"


def run(checkout: LoadedCheckout) -> Finding:
    """A tiny decoder is loaded here; the request runs in a thread of its own."""
    prepared = prepare_request(checkout.application)
    checkout.module("generate")
    load_mlx_decoder(checkout.root, checkout.files["generate"], prepared.handler)
    call_in_thread(prepared.run)
    record, version = prepared.record, getattr(mx, "__version__", "?")
    if record.latents is not None:
        return judged(False, REQUESTED, f"MLX ran, with mlx {version}", WHERE)
    if record.mlx_error is None or "Stream" not in str(record.mlx_error):
        raise CannotProbe(record.why_not_run())
    outcome = "PyTorch ran in its place" if record.pytorch_ran else "it failed"
    return judged(True, REQUESTED, f"{outcome}: {shorten(record.mlx_error)} (mlx {version})", WHERE)
