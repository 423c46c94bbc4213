"""The lines of the doctor's table, in their order."""

from __future__ import annotations

from collections.abc import Callable

from . import (
    codes,
    context,
    failure,
    guidance,
    instruction,
    kind,
    own_seed,
    record,
    short_context,
    steps,
    threads,
    torch_lines,
)
from .line import Finding, Line
from .site import Site

LINES: tuple[tuple[Line, Callable[[Site], Finding]], ...] = (
    (steps.LINE, steps.look),
    (record.LINE, record.look),
    (steps.CUSTOM_LINE, steps.look_custom),
    (kind.LINE, kind.look),
    (guidance.LINE, guidance.look),
    (guidance.APG_LINE, guidance.look_momentum),
    (context.LINE, context.look),
    (instruction.LINE, instruction.look),
    (codes.LINE, codes.look),
    (own_seed.LINE, own_seed.look),
    (failure.LINE, failure.look),
    (threads.LINE, threads.look),
    (short_context.LINE, short_context.look),
    (torch_lines.SDE_LINE, torch_lines.look_sde),
    (torch_lines.TIMESTEPS_LINE, torch_lines.look_timesteps),
    (torch_lines.DCW_LINE, torch_lines.look_dcw),
)
