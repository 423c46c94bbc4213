"""The patch `generate`: the timestep schedule of a base model has one value for each requested step.

In `dit_generate.py` (early: `mlx_dit/generate.py`). Until upstream's 82a5d84 (2026-02-25) every model ran turbo's 8
values; since then the steps are honoured, but a base model's custom timesteps are still cut to 20 values and moved to
turbo's grid. A turbo model keeps the schedule that it had.

A fork whose schedule has further parameters (`scheduler`) gets the custom timesteps alone, where its own code takes the
steps and asks for those parameters only without custom timesteps.
"""

from __future__ import annotations

import ast

from ..engine.edits import AddItems, Insertion
from ..engine.find import at_start_of, bound_names, calls_of, functions_named, outer_names, the_function
from ..engine.lists import ItemList, arguments_of, parameters_of
from ..engine.patch import Edit, Found, Patch
from ..engine.source import Source
from ..engine.states import CannotEdit, OtherCode
from .further_parameters import require_custom_timesteps_first
from .names import GENERATE, KIND_ARGUMENT, KIND_PARAMETER, SCHEDULE, STEPS_ARGUMENT, STEPS_PARAMETER
from .unpacked import unknown_unpacked

BLOCK = (
    ": a base model takes the requested steps.",
    "if not is_turbo and timesteps is not None:",
    "    custom = [float(t) for t in timesteps]",
    "    while custom and custom[-1] == 0:",
    "        custom.pop()",
    "    bounds = [1.0, *custom, 0.0]",
    "    falls = all(a >= b for a, b in zip(bounds, bounds[1:]))",
    "    if not custom or not falls:",
    '        raise ValueError(f"timesteps must fall to 0, got {custom}")',
    "    return custom",
    "if not is_turbo and infer_steps is not None:",
    '    if not hasattr(infer_steps, "__index__") or infer_steps < 1:',
    '        raise ValueError(f"infer_steps must be >= 1, got {infer_steps!r}")',
    "    # The values of torch.linspace: from both ends, with a float32 step.",
    "    i, n = np.arange(infer_steps), int(infer_steps)",
    "    step = float(np.float32(1 / n))",
    "    t = np.where(i < (n + 1) // 2, 1 - step * i, step * (n - i))",
    "    t = t.astype(np.float32)",
    "    return (float(shift) * t / (1 + (float(shift) - 1) * t)).tolist()",
)
CUSTOM_BLOCK = (": a base model takes custom timesteps as given.", *BLOCK[1:10])
_CHECK = BLOCK[6].strip()  # stands in both
_PARAMETERS = {"infer_steps": STEPS_PARAMETER, "is_turbo": KIND_PARAMETER}
_ARGUMENTS = {"infer_steps": STEPS_ARGUMENT, "is_turbo": KIND_ARGUMENT}
_LOCALS = {"bounds", "custom", "falls", "i", "n", "step", "t"}
_BUILTINS = {"all", "float", "hasattr", "int", "zip", "ValueError"}


def find(source: Source) -> Found:
    """Raises CannotEdit where the schedule has parameters or names that the block would interfere with."""
    schedule, generate = the_function(source, SCHEDULE), the_function(source, GENERATE)
    calls = calls_of(source, SCHEDULE, generate)
    if not calls:
        raise CannotEdit(f"{GENERATE} does not call {SCHEDULE}")
    of_schedule, of_generate = parameters_of(source, schedule), parameters_of(source, generate)
    if of_schedule.named("is_turbo") is not None:
        return OtherCode(f"{SCHEDULE} takes an is_turbo of its own")
    further = _further_parameters(of_schedule)
    if further:
        require_custom_timesteps_first(schedule, further)
    _refuse_other_names(source, schedule)
    block = CUSTOM_BLOCK if further else BLOCK
    insertions: list[Insertion] = [at_start_of(source, schedule, block)]
    lacks = []
    for parameters in (of_schedule, of_generate):
        new = {name: text for name, text in _PARAMETERS.items() if parameters.named(name) is None}
        lacks += [name for name in new if parameters is of_schedule]
        if new:
            insertions.append(AddItems(parameters, parameters.last, tuple(new.values())))
    for call in calls:
        insertions += _arguments(source, call, of_schedule)
    kept = f"; the steps are left to its own {' and '.join(further)}" if further else ""
    return Edit(f"{SCHEDULE} takes no {' and no '.join(lacks)}{kept}", insertions)


def _arguments(source: Source, call: ast.Call, parameters: ItemList) -> list[Insertion]:
    arguments = arguments_of(source, call)
    unpacked = unknown_unpacked(source, call, arguments, tuple(_ARGUMENTS))
    if unpacked:
        raise CannotEdit(f"a call of {SCHEDULE} passes {', '.join(unpacked)}, which may hold the steps")
    positional = sum(not item.name for item in arguments.items)
    passed = {item.name for item in [*arguments.items, *parameters.items[:positional]]}
    new = tuple(text for name, text in _ARGUMENTS.items() if name not in passed)
    return [AddItems(arguments, arguments.last, new)] if new else []


def _further_parameters(parameters: ItemList) -> list[str]:
    """The names of those beside `shift`, `timesteps` and `infer_steps`. Raises CannotEdit.

    A branch for the steps in front of the function's own code would switch off what they choose.
    """
    known = ("shift", "timesteps", "infer_steps")
    further = [
        item for item in parameters.items if item.name and item.name not in known and item.stars != "**"
    ]
    if further and parameters.named("infer_steps") is None:
        texts = ", ".join(item.text for item in further)
        raise CannotEdit(f"{SCHEDULE} also takes {texts}, which a branch for base models would switch off")
    missing = [name for name in ("shift", "timesteps") if parameters.named(name) is None]
    if missing:
        raise CannotEdit(f"{SCHEDULE} has no parameter {' and no parameter '.join(missing)}")
    return [item.name for item in further]


def _refuse_other_names(source: Source, schedule: ast.FunctionDef) -> None:
    """The block returns, so a name of its own matters only where the function reads it from its module."""
    taken = _LOCALS & outer_names(schedule) | _BUILTINS & bound_names(source.tree)
    if taken:
        raise CannotEdit(f"{SCHEDULE} or its module uses {', '.join(sorted(taken))} for something else")
    numpy = [
        node
        for node in source.tree.body
        if isinstance(node, ast.Import) and ast.unparse(node) == "import numpy as np"
    ]
    inner = [function for function in functions_named(source, SCHEDULE) if "np" in bound_names(function)]
    if not numpy or inner:
        raise CannotEdit("numpy is not imported as np at the top of the module")


PATCH = Patch(
    name="generate",
    target="generate",
    summary=f"{SCHEDULE} gives a base model the requested steps and custom timesteps",
    find=find,
    items=("infer_steps", "is_turbo"),
    block_sizes={block[0]: len(block) for block in (BLOCK, CUSTOM_BLOCK)},
    trace=_CHECK,
)
