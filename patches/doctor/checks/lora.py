"""A LoRA that is loaded and active: whether it changes what MLX generates.

Concerns LEGO wherever the caller loads one. The adapter and the library peft are fakes; loading is the checkout's code.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...harness.adapters import fake_peft, write_adapter
from ...harness.imports import CannotProbe
from ...harness.mlx_decoder import evaluate_all, load_mlx_decoder
from ...harness.request import PreparedRequest, prepare_request, shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED, WHERE = "a loaded LoRA", "mlx_dit_init.py, lora/lifecycle.py"


def run(checkout: LoadedCheckout) -> Finding:
    """The same request before and after `load_lora`, on a tiny decoder that the checkout converts to MLX."""
    prepared = prepare_request(checkout.application)
    handler = prepared.handler
    if not hasattr(handler, "load_lora"):
        return judged(False, REQUESTED, "no LoRA here", WHERE)
    load_mlx_decoder(checkout.root, checkout.files["generate"], handler)
    before = _latents(prepared)
    with fake_peft():
        message = str(handler.load_lora(str(write_adapter(Path.cwd() / "adapter"))))
    if not getattr(handler, "lora_loaded", False):
        if "mlx" in message.lower():
            return judged(False, REQUESTED, f"refused: {shorten(message)}", WHERE)
        raise CannotProbe(f"a LoRA cannot be loaded: {shorten(message)}")
    ignored = handler.use_mlx_dit and torch.equal(_latents(prepared), before)
    observed = "loaded with success, and the latents are the same" if ignored else "other latents"
    return judged(ignored, REQUESTED, observed, WHERE)


def _latents(prepared: PreparedRequest) -> torch.Tensor:
    evaluate_all(prepared.handler)
    prepared.run()
    return prepared.record.require_latents()
