"""Reads what version 0.1 of this kit wrote into the three files: it had no marks but one comment in `generate`.

Nothing is written in this form any more; files that hold it count as patched and can be reverted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..engine.edits import Splice, apply_splices, break_before, end_of_line, indent_before, newline_at
from ..engine.find import at_start_of, calls_of, the_function
from ..engine.lists import Item, ItemList, arguments_of, parameters_of
from ..engine.source import Source
from ..engine.states import CannotEdit
from ..errors import CannotRevert, UnreadableSource
from .execute import request_dicts
from .names import GENERATE, KIND_ARGUMENT, KIND_PARAMETER, RUN, SCHEDULE, STEPS_ARGUMENT, STEPS_PARAMETER

COMMENT = (
    "# A base model takes one decoder evaluation a step, as many as asked for; turbo keeps what follows."
)
KEPT = "# Here before the patch and kept when it goes: "
KIND = 'is_turbo=getattr(self, "config", None) is None or getattr(self.config, "is_turbo", False)'
BLOCK = (
    "if not is_turbo and timesteps is not None:",
    "    falling = [float(t) for t in timesteps]",
    "    while falling and falling[-1] == 0:",
    "        falling.pop()",
    "    if not falling or not all(a >= b for a, b in zip([1.0] + falling, falling + [0.0])):",
    '        raise ValueError(f"timesteps must fall from at most 1 to above 0, got {timesteps!r}")',
    "    return falling",
    "if not is_turbo and infer_steps is not None:",
    '    if not hasattr(infer_steps, "__index__") or infer_steps < 1:',
    '        raise ValueError(f"infer_steps must be a whole number of at least 1, got {infer_steps!r}")',
    "    import torch  # its linspace is the reference; the decoder multiplies a last digit here by 1000",
    "",
    "    line = torch.linspace(1, 0, infer_steps + 1, dtype=torch.float32)[:-1]",
    "    return (shift * line / (1 + (shift - 1) * line)).tolist()",
)
_TRACES = (COMMENT, KIND, BLOCK[5], BLOCK[9], BLOCK[12])


def originals(files: Mapping[str, Source]) -> dict[str, Source]:
    """The files that version 0.1 edited, by target, as they were before. Raises CannotRevert."""
    if not any(trace in source.text for source in files.values() for trace in _TRACES):
        return {}
    before: dict[str, Source] = {}
    try:
        kept = _kept(files)
        for target, source in files.items():
            before[target], taken = _undone(source, target, kept)
            if _redone(before[target], target, taken, kept) != source.text:
                raise CannotEdit("the text was edited")
    except (CannotEdit, UnreadableSource, KeyError, ValueError) as reason:
        raise CannotRevert(
            "the text of version 0.1 of this kit was edited after `apply`, so the bytes before it cannot be proved"
        ) from reason
    return {target: source for target, source in before.items() if source.data != files[target].data}


def _kept(files: Mapping[str, Source]) -> frozenset[str]:
    """What the comment says was there before the patch."""
    text = files["generate"].text
    at = text.find(KEPT)
    return (
        frozenset() if at < 0 else frozenset(text[at + len(KEPT) :].splitlines()[0].rstrip(".").split(", "))
    )


def _undone(source: Source, target: str, kept: frozenset[str]) -> tuple[Source, frozenset[str]]:
    """The file before, and what was taken out of it."""
    cuts: list[Splice] = []
    taken: set[str] = set()
    for items, _, additions in _lists(source, target):
        # In diffusion the steps were also forwarded from a parameter that was there before.
        there = taken | kept if target == "diffusion" else taken
        out = [a for a in additions if a.label not in kept and a.needs <= there and _holds(items, a)]
        taken |= {a.label for a in out}
        cuts += _cut_items(source.text, items, [a.name for a in out])
    if target == "generate":
        block, at = _block(source, kept)
        if not source.text.startswith(block, at):
            raise CannotEdit("the block was edited")
        cuts.append(Splice(at, at + len(block), ""))
    return source.with_text(apply_splices(source.text, cuts)), frozenset(taken)


def _redone(source: Source, target: str, taken: frozenset[str], kept: frozenset[str]) -> str:
    """The text that version 0.1 made of `source` when it put in what was `taken` out."""
    splices: list[Splice] = []
    for items, after, additions in _lists(source, target):
        new = [a.text for a in additions if a.label in taken]
        splices += _add_items(source.text, items, after, new) if new else []
    if target == "generate":
        block, at = _block(source, kept)
        splices.append(Splice(at, at, block))
    return apply_splices(source.text, splices)


@dataclass(frozen=True)
class _Addition:
    """One inserted item; `label` is its name in the comment, `needs` what was always inserted together with it."""

    name: str
    text: str
    label: str
    needs: frozenset[str] = frozenset()


def _lists(source: Source, target: str) -> list[tuple[ItemList, Item | None, list[_Addition]]]:
    """Every list that was edited, the item that new ones were put behind, and what may have been put in."""
    if target == "execute":
        (call,) = calls_of(source, RUN)
        arguments = arguments_of(source, call)
        texts = [item.text for item in arguments.items if item.text.endswith('.get("infer_steps", 8)')]
        after = arguments.named("timesteps") or arguments.last
        names = request_dicts(source, call)
        text = texts[0] if texts else f'infer_steps={"".join(names)}.get("infer_steps", 8)'
        return [(arguments, after, [_Addition("infer_steps", text, f"infer_steps passed to {RUN}")])]
    if target == "diffusion":
        function = the_function(source, RUN)
        (call,) = calls_of(source, GENERATE, function)
        parameters, arguments = parameters_of(source, function), arguments_of(source, call)
        parameter = f"parameter infer_steps of {RUN}"
        forward = _Addition(
            "infer_steps", STEPS_ARGUMENT, f"infer_steps passed to {GENERATE}", frozenset({parameter})
        )
        kind = _Addition("is_turbo", KIND, f"is_turbo passed to {GENERATE}")
        return [
            (parameters, parameters.last, [_Addition("infer_steps", STEPS_PARAMETER, parameter)]),
            (arguments, arguments.last, [forward, kind]),
        ]
    return _lists_of_generate(source)


def _lists_of_generate(source: Source) -> list[tuple[ItemList, Item | None, list[_Addition]]]:
    schedule, generate = the_function(source, SCHEDULE), the_function(source, GENERATE)
    made = []
    for function in (schedule, generate):
        parameters = parameters_of(source, function)
        additions = [
            _Addition(name, text, f"parameter {name} of {function.name}")
            for name, text in (("infer_steps", STEPS_PARAMETER), ("is_turbo", KIND_PARAMETER))
        ]
        made.append((parameters, parameters.last, additions))
    for call in calls_of(source, SCHEDULE, generate):
        arguments = arguments_of(source, call)
        needs = frozenset({f"parameter infer_steps of {SCHEDULE}"})
        steps = _Addition("infer_steps", STEPS_ARGUMENT, f"infer_steps passed to {SCHEDULE}", needs)
        kind = _Addition("is_turbo", KIND_ARGUMENT, f"is_turbo passed to {SCHEDULE}")
        made.append((arguments, arguments.last, [steps, kind]))
    return made


def _holds(items: ItemList, addition: _Addition) -> bool:
    item = items.named(addition.name)
    return item is not None and item.text == addition.text


def _block(source: Source, kept: frozenset[str]) -> tuple[str, int]:
    """The block's text and the offset where it begins."""
    place = at_start_of(source, the_function(source, SCHEDULE), ())
    newline = newline_at(source.text, place.at)
    note = [f"{KEPT}{', '.join(sorted(kept))}."] if kept else []
    lines = []
    for line in (COMMENT, *note, *BLOCK):
        bare = line.lstrip()
        indent = place.indent + place.unit * ((len(line) - len(bare)) // 4) if bare else ""
        lines.append(newline + indent + bare)
    return "".join(lines), place.at


def _add_items(text: str, target: ItemList, after: Item | None, new: Sequence[str]) -> list[Splice]:
    """Behind `after`, formatted as `after` is: on lines of their own, or on the same line."""
    if after is None:
        return [Splice(target.close, target.close, ", ".join(new))]
    indent = indent_before(text, after.start)
    stop = after.end if after.comma is None else after.comma
    line_end = end_of_line(text, stop)
    if indent is None or (line_end is None and stop != target.close and text[stop : target.close].strip()):
        if after.comma is None:
            return [Splice(stop, stop, "".join(f", {item}" for item in new))]
        return [Splice(stop, stop, "".join(f" {item}," for item in new))]
    newline = newline_at(text, after.start - len(indent) - 1)
    at = stop if line_end is None else line_end
    lines = [f"{newline}{indent}{item}" for item in new]
    if after.comma is not None:
        return [Splice(at, at, "".join(f"{line}," for line in lines))]
    return [Splice(stop, stop, ","), Splice(at, at, ",".join(lines))]


def _cut_items(text: str, target: ItemList, names: Sequence[str]) -> list[Splice]:
    """Cuts the named items out, the way `_add_items` puts them in behind their neighbour."""
    splices: list[Splice] = []
    items, at = target.items, 0
    while at < len(items):
        run = at
        while run < len(items) and items[run].name in names:
            run += 1
        if run > at:
            splices += _cut_run(text, items[at - 1] if at else None, items[at:run])
        at = run + 1
    return splices


def _cut_run(text: str, before: Item | None, run: Sequence[Item]) -> list[Splice]:
    first, last = run[0], run[-1]
    if before is None:
        return [Splice(first.start, last.comma or last.end, "")]
    if indent_before(text, first.start) is None:
        if last.comma is None:
            return [Splice(before.end, last.end, "")]
        return [Splice(before.comma or before.end, last.comma, "")]
    cuts = [Splice(break_before(text, item.start), item.comma or item.end, "") for item in run]
    if last.comma is None and before.comma is not None:
        cuts.insert(0, Splice(before.comma - 1, before.comma, ""))
    return cuts
