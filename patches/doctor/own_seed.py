"""A seed that is given in the parameters: whether it is used."""

from __future__ import annotations

from typing import Any

import torch

from ..harness.imports import CannotProbe
from .application import Seen, lego_request, stopped_early
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("seed", "", "", SERIES)
SEED = 42


def look(site: Site) -> Finding:
    """Twice the same request with seed 42, no list of seeds beside it and none to be drawn."""
    runs = [lego_request(site.application, seed=SEED) for _ in range(2)]
    seeds = [_seed(seen) for seen in runs]
    first, second = (seen.states[0] for seen in runs)
    same = bool(torch.equal(first, second))
    got = f"{SEED}, twice the same noise" if same else f"{seeds[0]} and {seeds[1]}, drawn at random"
    return found(not same, f"seed {SEED}, twice", got, "inference.py")


def _seed(seen: Seen) -> Any:
    if not seen.states:
        raise CannotProbe(stopped_early(seen))
    seed = seen.request.get("seed")
    return seed[0] if isinstance(seed, list) and seed else seed
