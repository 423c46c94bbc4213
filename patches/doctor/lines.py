"""The lines of the doctor's table, in their order."""

from __future__ import annotations

from collections.abc import Callable

from patches.doctor import context, guidance, steps
from patches.doctor.line import Finding, Line
from patches.doctor.site import Site

LINES: tuple[tuple[Line, Callable[[Site], Finding]], ...] = (
    (steps.LINE, steps.look),
    (steps.CUSTOM_LINE, steps.look_custom),
    (guidance.LINE, guidance.look),
    (guidance.APG_LINE, guidance.look_momentum),
    (context.LINE, context.look),
)
