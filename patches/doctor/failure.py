"""A failure of MLX: told to the caller, or turned into a PyTorch run that reports success."""

from __future__ import annotations

from ..harness.imports import CannotProbe
from .application import lego_request, short, stopped_early
from .context import INSTRUCTION
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("failure of MLX", "a12a25a (2026-02-11)", "", SERIES)
REASON = "the doctor made MLX fail"
ASKED, WHERE = "MLX, which fails", "service_generate_execute.py"


def look(site: Site) -> Finding:
    seen = lego_request(site.application, instruction=INSTRUCTION, failure=RuntimeError(REASON))
    if seen.swallowed is None or REASON not in str(seen.swallowed):
        raise CannotProbe(stopped_early(seen))
    if seen.fell_back:
        told = "success was reported" if seen.success else f"then: {short(seen.error)}"
        return found(True, ASKED, f"PyTorch ran in its place, {told}", WHERE)
    if seen.success:
        return found(True, ASKED, "success was reported", WHERE)
    if REASON not in seen.error:
        return found(True, ASKED, f"a failure without its reason: {short(seen.error)}", WHERE)
    return found(False, ASKED, "a failure with its reason", WHERE)
