"""Patch 3, `dit_generate.py` (early: `mlx_dit/generate.py`): the schedule of a base model is the asked-for one.

Until upstream's 82a5d84 (2026-02-25) every model ran turbo's 8 values; since then the steps are honoured, but a
base model's custom timesteps are still cut to 20 values and snapped to turbo's grid. Turbo is left alone.
"""

import ast
from collections.abc import Iterable, Sequence

from .names import (
    GENERATE,
    KIND_ARGUMENT,
    KIND_PARAMETER,
    SCHEDULE,
    STEPS_ARGUMENT,
    STEPS_PARAMETER,
)
from .outcomes import CannotEdit, Edit
from .places import Body, Call, Function, places_of
from .source import Source
from .splice import Splice, add_items, apply_splices, cut_items, newline_at

COMMENT = (
    "# A base model takes one decoder evaluation a step, as many as asked for; turbo keeps what follows."
)
KEPT = "# Here before the patch and kept when it goes: "
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
BLOCK_NAME = "block for base models"
_PARAMETERS = {"infer_steps": STEPS_PARAMETER, "is_turbo": KIND_PARAMETER}
_ARGUMENTS = {"infer_steps": STEPS_ARGUMENT, "is_turbo": KIND_ARGUMENT}
_LOCALS = {"falling", "line", "torch"}
_BUILTINS = {"all", "float", "hasattr", "zip", "ValueError"}


def edit(source: Source, kept: Iterable[str] = ()) -> Edit:
    """The text with the base schedule put in; `kept` is noted in its comment. Raises CannotEdit."""
    schedule, generate, calls = _site(source)
    _refuse_other_schedules(source, schedule)
    text, splices, names = source.text, [], {BLOCK_NAME}
    for function in (schedule, generate):
        new = [name for name in _PARAMETERS if function.parameters.named(name) is None]
        names |= {_parameter(name, function) for name in new}
        parameters = [_PARAMETERS[name] for name in new]
        splices += add_items(text, function.parameters, function.parameters.last, parameters) if new else []
    order = [item.name for item in schedule.parameters.items]
    for call in calls:
        passed = {item.name for item in call.arguments.items} | set(order[: _positional(call)])
        new = [name for name in _ARGUMENTS if name not in passed]
        names |= {_passed(name) for name in new}
        arguments = [_ARGUMENTS[name] for name in new]
        splices += add_items(text, call.arguments, call.arguments.last, arguments) if new else []
    body = _body(schedule)
    splices.append(Splice(body.at, body.at, _block(text, body, kept)))
    return Edit(apply_splices(text, splices), frozenset(names))


def undo(source: Source, kept: frozenset[str]) -> Edit:
    """The text without what `edit` puts in, and what was taken out, less what is to be `kept`."""
    text = source.text
    try:
        schedule, generate, calls = _site(source)
        body = _body(schedule)
    except CannotEdit:
        return Edit(text, frozenset())
    block = _block(text, body, noted(source))
    if not text.startswith(block, body.at):
        return Edit(text, frozenset())
    taken, cuts = {BLOCK_NAME}, [Splice(body.at, body.at + len(block), "")]
    for function in (schedule, generate):
        items = {name: function.parameters.named(name) for name in _PARAMETERS}
        names = [n for n, item in items.items() if item and item.text == _PARAMETERS[n]]
        names = [n for n in names if _parameter(n, function) not in kept]
        taken |= {_parameter(n, function) for n in names}
        cuts += cut_items(text, function.parameters, names)
    for call in calls:
        steps = _parameter("infer_steps", schedule) in taken
        items = {name: call.arguments.named(name) for name in (_ARGUMENTS if steps else ["is_turbo"])}
        names = [
            n for n, item in items.items() if item and item.text == _ARGUMENTS[n] and _passed(n) not in kept
        ]
        taken |= {_passed(n) for n in names}
        cuts += cut_items(text, call.arguments, names)
    return Edit(apply_splices(text, cuts), frozenset(taken))


def noted(source: Source) -> tuple[str, ...]:
    """What the block's comment says was there before the patch."""
    at = source.text.find(KEPT)
    return () if at < 0 else tuple(source.text[at + len(KEPT) :].splitlines()[0].rstrip(".").split(", "))


def traces(source: Source) -> bool:
    """Whether any line of the block is there: then it was put in, whatever became of it since."""
    return COMMENT in source.text or BLOCK[4] in source.text


def _site(source: Source) -> tuple[Function, Function, Sequence[Call]]:
    places = places_of(source)
    found = []
    for name in (SCHEDULE, GENERATE):
        functions = places.functions_named(name)
        if len(functions) != 1:
            raise CannotEdit(f"expected one {name}, found {len(functions) or 'none'}")
        found.append(functions[0])
    schedule, generate = found
    calls = places.calls_named(SCHEDULE, inside=generate)
    if not calls:
        raise CannotEdit(f"{GENERATE} does not call {SCHEDULE}")
    if any(item.stars for call in calls for item in call.arguments.items):
        raise CannotEdit(f"{GENERATE} calls {SCHEDULE} with * or **, so what it passes cannot be seen")
    return schedule, generate, calls


def _refuse_other_schedules(source: Source, schedule: Function) -> None:
    """A base branch in front would switch off what further parameters choose."""
    names = [item.stars + item.name for item in schedule.parameters.items if item.name]
    further = [name for name in names if name not in ("shift", "timesteps", *_PARAMETERS)]
    if further:
        raise CannotEdit(
            f"{SCHEDULE} also takes {', '.join(further)}: a base branch in front would switch that off"
        )
    missing = [name for name in ("shift", "timesteps") if name not in names]
    if missing:
        raise CannotEdit(f"{SCHEDULE} takes no {' and no '.join(missing)}")
    nodes = [node for node in ast.walk(source.tree) if isinstance(node, ast.Name)]
    bound = {n.id for n in nodes if isinstance(n.ctx, ast.Store)} & _BUILTINS
    bound |= {n.id for n in nodes if schedule.first_line <= n.lineno <= schedule.last_line} & _LOCALS
    if bound:
        raise CannotEdit(f"{SCHEDULE} uses {', '.join(sorted(bound))} for something of its own")


def _body(schedule: Function) -> Body:
    if schedule.body is None:
        raise CannotEdit(f"the body of {SCHEDULE} does not begin on a line of its own")
    return schedule.body


def _block(text: str, body: Body, kept: Iterable[str]) -> str:
    newline = newline_at(text, body.at)
    names = ", ".join(kept)
    lines = []
    for line in (COMMENT, *([f"{KEPT}{names}."] if names else []), *BLOCK):
        bare = line.lstrip()
        indent = body.indent + body.unit * ((len(line) - len(bare)) // 4) if bare else ""
        lines.append(newline + indent + bare)
    return "".join(lines)


def _positional(call: Call) -> int:
    return sum(not item.name for item in call.arguments.items)


def _parameter(name: str, function: Function) -> str:
    return f"parameter {name} of {function.name}"


def _passed(name: str) -> str:
    return f"{name} passed to {SCHEDULE}"
