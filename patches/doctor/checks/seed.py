"""A seed given in GenerationParams: whether it is used."""

from __future__ import annotations

from typing import Any

import torch

from ...harness.request import RequestRecord
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

SEED = 42


def run(checkout: LoadedCheckout) -> Finding:
    """The same request twice, with use_random_seed off and no list of seeds beside it."""
    records = [checkout.lego(seed=SEED, seeds=None) for _ in range(2)]
    for record in records:
        record.require_decoder()
    first, second = (record.states[0] for record in records)
    same = bool(torch.equal(first, second))
    seeds = [_seed(record) for record in records]
    observed = f"{SEED}, twice the same noise" if same else f"{seeds[0]} and {seeds[1]}, drawn at random"
    return judged(not same, f"seed {SEED}, twice", observed, "inference.py")


def _seed(record: RequestRecord) -> Any:
    seed = record.kwargs.get("seed")
    return seed[0] if isinstance(seed, list) and seed else seed
