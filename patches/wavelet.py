"""Whether a checkout switches its wavelet correction on by default, as its text tells.

Upstream did for every model from be74cd5 (2026-04-23) to b751bd2 (2026-08-16): base models are garbled by it, the
more so the more steps run.
"""

from __future__ import annotations

import ast

from .checkout import Checkout, inside
from .engine.source import read
from .errors import KitError
from .report import command

_FILE = "acestep/inference.py"


def note_on_wavelet_correction(checkout: Checkout) -> list[str]:
    """One sentence where the default is on, none where it is off, absent or cannot be read."""
    try:
        tree = read(_FILE, inside(checkout.root, checkout.path(_FILE))).tree
    except KitError:
        return []
    defaults = [
        ast.unparse(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) == "dcw_enabled"
        and node.value is not None
    ]
    if defaults[-1:] != ["True"]:
        return []
    return [
        f"{_FILE}: the wavelet correction is on by default, for base models too; more steps then sound worse until it "
        f"is off: dcw_enabled=False in GenerationParams, or {command('apply', checkout.root, '--series', 'dcw')}"
    ]
