"""Where the requested steps are cut: one failing case is run again under `sys.settrace`.

Only frames of the checkout are traced. A frame carries the request once one of its values is as large as what was
requested: a whole number, the length of a list, the entry "infer_steps" of a dict. The cut is the first place where a
frame that carries it gets the number of evaluations instead; where no value tells, the loop around the decoder does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from .decoder_loop import DecoderLoop, enclosing_loop, place_of

RUN, GENERATE, SCHEDULE = "_mlx_run_diffusion", "mlx_generate_diffusion", "get_timestep_schedule"
BORDERS = (RUN, GENERATE, SCHEDULE)
ENTRIES = ("infer_steps", "timesteps")  # of the dicts of keyword arguments


@dataclass
class _Frame:
    """What is known of one running frame: the sizes of its values, the line executed last, the lines executed."""

    sizes: dict[str, int] = field(default_factory=dict)
    carries: bool = False
    line: int = 0
    lines: list[int] = field(default_factory=list)


class StepTrace:
    """Traces one run. Afterwards `cut` says in words where the steps were cut, and `seen` what was seen on the way."""

    def __init__(self, root: Path, name: str, requested: int, evaluated: int) -> None:
        """name: "infer_steps" or "timesteps", whichever the case sets. evaluated: the count when it ran first."""
        self._root, self._name = str(root.resolve()), name
        self._requested, self._evaluated = requested, evaluated
        self._frames: dict[FrameType, _Frame] = {}
        self._arrived: dict[str, str] = {}
        self._loop: DecoderLoop | None = None
        self._cut: str | None = None
        self._calls = 0

    def run(self, function: Callable[[], object]) -> None:
        """Call `function` in this thread, traced."""
        before = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            function()
        finally:
            sys.settrace(before)

    @property
    def cut(self) -> str | None:
        if self._loop is None or self._calls == self._requested:
            return self._cut
        if self._cut is None or (self._all_arrived and self._loop.was_left):
            return self._loop.describe(self._calls, self._root)
        return self._cut

    @property
    def _all_arrived(self) -> bool:
        """Whether the request arrived at all borders and the schedule is as long."""
        return all(
            self._arrived.get(border) == str(self._requested) for border in (RUN, GENERATE, "returned")
        )

    @property
    def seen(self) -> str:
        """`infer_steps`, or the number of custom timesteps, as it arrived at each of the three borders."""
        borders = [f"{name}: {self._arrived.get(name, 'not called')}" for name in BORDERS]
        returned = self._arrived.get("returned", "nothing")
        return (
            f"{self._name} requested: {self._requested}; as it arrived at {'; at '.join(borders)}; "
            f"values that it returned: {returned}; decoder evaluations: {self._calls}"
        )

    def decoder_called(self) -> None:
        """To be called by the fake decoder: finds the loop that its evaluations come from."""
        self._calls += 1
        if self._loop is not None:
            return
        frames, frame = [], sys._getframe(1)
        while (back := frame.f_back) is not None:
            frame = back
            if frame in self._frames:
                frames.append(frame)
        for frame in reversed(frames):
            loop = enclosing_loop(frame.f_code, frame.f_lineno)
            if loop is not None:
                self._loop = DecoderLoop(frame.f_code, loop, self._frames[frame].lines, frames[0])
                return

    def _on_call(self, frame: FrameType, event: str, _: object) -> Any:
        if not self._is_of_checkout(frame.f_code):
            return None
        caller = frame.f_back
        while caller is not None and caller not in self._frames:
            caller = caller.f_back
        state = self._frames[frame] = _Frame(line=frame.f_lineno)
        self._look(frame, state)
        if caller is not None:
            self._arrive(frame, caller, state)
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, value: object) -> Any:
        state = self._frames.get(frame)
        if state is None or event not in ("line", "return"):
            return self._on_event
        self._look(frame, state)
        if event == "line":
            state.line = frame.f_lineno
            state.lines.append(frame.f_lineno)
        elif value is not None:
            self._return(frame, state, value)
        return self._on_event

    def _look(self, frame: FrameType, state: _Frame) -> None:
        """Compare the frame's values with those of before the line that was executed last."""
        sizes = _sizes(frame.f_locals)
        for name, size in sizes.items():
            before = state.sizes.get(name)
            was_request = before == self._requested
            is_new = (
                before is None
                and state.carries
                and ("steps" in name or not _is_int(frame.f_locals.get(name)))
            )
            if size == self._evaluated and (was_request or is_new):
                self._found(f"{name} becomes {self._evaluated}{_unit(frame, name)}", frame.f_code, state.line)
        state.sizes = sizes
        state.carries = state.carries or self._requested in sizes.values()

    def _arrive(self, frame: FrameType, caller: FrameType, state: _Frame) -> None:
        """What a call passes on; at the three borders it has to be the request."""
        name, carried = frame.f_code.co_name, self._carried(caller)
        found = [size for key, size in state.sizes.items() if key == self._name or f'["{self._name}"]' in key]
        if name in BORDERS:
            arrived = str(found[0]) if found else "none"
            self._arrived.setdefault(name, arrived)
            if carried and self._requested not in found:
                what = f"arrives as {arrived}" if found else "does not arrive"
                self._found(f"{self._name} {what} at {name}, called", caller.f_code, caller.f_lineno)
        elif carried and self._evaluated in found and self._requested not in found:
            self._found(
                f"{self._name} arrives as {self._evaluated} at {name}, called", caller.f_code, caller.f_lineno
            )

    def _return(self, frame: FrameType, state: _Frame, value: object) -> None:
        name = frame.f_code.co_name
        sizes = _sizes({"": value, "returned": value})
        size = sizes.get("returned", sizes.get(f'["{self._name}"]'))
        if name == SCHEDULE:
            self._arrived["returned"] = "none" if size is None else str(size)
        if size == self._evaluated and (state.carries or name == SCHEDULE):
            self._found(f"{name} returns {size}", frame.f_code, state.line)

    def _carried(self, frame: FrameType | None) -> bool:
        """Whether this frame or one that it was called from carries the request."""
        while frame is not None:
            if frame in self._frames and self._frames[frame].carries:
                return True
            frame = frame.f_back
        return False

    def _found(self, what: str, code: CodeType, line: int) -> None:
        if self._cut is None:
            self._cut = f"{what} at {place_of(code, line, self._root)}"

    def _is_of_checkout(self, code: CodeType) -> bool:
        return code.co_filename.startswith(self._root)


def _sizes(values: Mapping[str, Any]) -> dict[str, int]:
    """Whole numbers, lengths of lists of numbers and of one-dimensional arrays, and what matters of dicts."""
    found = {}
    for name, value in values.items():
        size = _size(value)
        if size is not None:
            found[name] = size
        elif type(value) is dict:
            for entry in ENTRIES:
                size = _size(value.get(entry))
                if size is not None:
                    found[f'{name}["{entry}"]'] = size
    return found


def _size(value: Any) -> int | None:
    if _is_int(value):
        return int(value)
    if isinstance(value, list | tuple | range):
        return len(value) if not value or (_is_number(value[0]) and _is_number(value[-1])) else None
    if getattr(type(value), "__module__", "") in ("torch", "numpy"):
        return len(value) if getattr(value, "ndim", 1) == 1 and hasattr(value, "__len__") else None
    return None


def _is_number(value: Any) -> bool:
    """A number or an array of one value; what else a list or tuple holds is no timestep."""
    return isinstance(value, int | float) or getattr(value, "ndim", None) == 0


def _is_int(value: Any) -> bool:
    return type(value) is int


def _unit(frame: FrameType, name: str) -> str:
    return "" if _is_int(frame.f_locals.get(name)) or "[" in name else " values long"
