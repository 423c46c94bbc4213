"""The patch `diffusion`: `_mlx_run_diffusion` takes `infer_steps`, and forwards it and the model kind.

Upstream forwards the steps since 82a5d84 (2026-02-25), the model kind never. A host without a config (upstream's own
unit tests build such hosts) keeps turbo's schedule; a config without `is_turbo` means base, as upstream has it.
"""

from __future__ import annotations

import ast

from ..engine.edits import AddItems, Insertion
from ..engine.find import at_start_of, bound_names, calls_of, outer_names, the_function
from ..engine.lists import ItemList, arguments_of, parameters_of
from ..engine.patch import Edit, Found, Patch
from ..engine.source import Source
from ..engine.states import CannotEdit, OtherCode
from .names import GENERATE, KIND_ARGUMENT, RUN, STEPS_ARGUMENT, STEPS_PARAMETER
from .unpacked import unknown_unpacked

BLOCK = (
    ": the model kind chooses the timestep schedule.",
    'config = getattr(self, "config", None)',
    'is_turbo = config is None or getattr(config, "is_turbo", False)',
)
_LOCALS = {"config", "is_turbo"}


def find(source: Source) -> Found:
    """Raises CannotEdit where there is no single method, or no single call in it."""
    function = the_function(source, RUN)
    calls = calls_of(source, GENERATE, function)
    if len(calls) != 1:
        raise CannotEdit(f"expected one call of {GENERATE} in {RUN}, found {len(calls) or 'none'}")
    parameters, arguments = parameters_of(source, function), arguments_of(source, calls[0])
    other = _other_code(source, calls[0], parameters, arguments)
    if other:
        return OtherCode(f"the call of {GENERATE} passes {other}")
    if not parameters.items or parameters.items[0].name != "self":
        raise CannotEdit(f"{RUN} is not a method with self, so the config of its host cannot be read")
    taken = sorted(_LOCALS & (bound_names(function) | outer_names(function)))
    if taken and arguments.named("is_turbo") is None:
        raise CannotEdit(f"{RUN} uses the name {' and '.join(taken)} for something else")
    insertions: list[Insertion] = []
    new: dict[str, str] = {}
    if arguments.named("infer_steps") is None:
        new["infer_steps"] = STEPS_ARGUMENT
        if parameters.named("infer_steps") is None:
            insertions.append(AddItems(parameters, parameters.last, (STEPS_PARAMETER,)))
    if arguments.named("is_turbo") is None:
        new["is_turbo"] = KIND_ARGUMENT
        insertions.append(at_start_of(source, function, BLOCK))
    insertions.append(AddItems(arguments, arguments.last, tuple(new.values())))
    return Edit(f"the call of {GENERATE} passes no {' and no '.join(new)}", insertions)


def _other_code(source: Source, call: ast.Call, parameters: ItemList, arguments: ItemList) -> str | None:
    """What the call passes that may hold the steps or the model kind in a form that is not recognised."""
    kind, steps = arguments.named("is_turbo"), arguments.named("infer_steps")
    if kind is not None and steps is not None:
        return " ".join(f"{steps.text} and {kind.text}".split())
    if steps is not None and _value(steps.text) != "infer_steps":
        return " ".join(steps.text.split())
    own = {f"**{item.name}" for item in parameters.items if item.stars == "**"}
    unknown = [
        text
        for text in unknown_unpacked(source, call, arguments, ("infer_steps", "is_turbo"))
        if text not in own
    ]
    return ", ".join(unknown) or None


def _value(argument: str) -> str:
    return ast.unparse(ast.parse(argument.partition("=")[2].strip(), mode="eval"))


PATCH = Patch(
    name="diffusion",
    target="diffusion",
    summary=f"{RUN} forwards the requested steps and the model kind",
    find=find,
    items=("infer_steps", "is_turbo"),
    block_sizes={BLOCK[0]: len(BLOCK)},
    trace=BLOCK[-1],
)
