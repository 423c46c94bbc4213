"""Patch 2, `diffusion.py`: `_mlx_run_diffusion` takes `infer_steps`, and forwards it and the model kind.

Upstream forwards the steps since 82a5d84 (2026-02-25), the kind never. A host without a config (upstream's own
unit tests build such) keeps today's behaviour; a config that does not say counts as base, as upstream has it.
"""

from .names import GENERATE, RUN, STEPS_ARGUMENT, STEPS_PARAMETER
from .outcomes import CannotEdit, Edit
from .places import Call, Function, places_of
from .source import Source
from .splice import add_items, apply_splices, cut_items

KIND = 'is_turbo=getattr(self, "config", None) is None or getattr(self.config, "is_turbo", False)'
PARAMETER = f"parameter infer_steps of {RUN}"
FORWARD = f"infer_steps passed to {GENERATE}"
TURBO = f"is_turbo passed to {GENERATE}"


def edit(source: Source, *, steps: bool, kind: bool) -> Edit:
    """The text that forwards what is missing: the steps, the kind. Raises CannotEdit."""
    function, call = _site(source)
    splices, new, names = [], [], set()
    if steps:
        _refuse_another(call, "infer_steps")
        if function.parameters.named("infer_steps") is None:
            splices += add_items(
                source.text, function.parameters, function.parameters.last, [STEPS_PARAMETER]
            )
            names.add(PARAMETER)
        new.append(STEPS_ARGUMENT)
        names.add(FORWARD)
    if kind:
        _refuse_another(call, "is_turbo")
        new.append(KIND)
        names.add(TURBO)
    splices += add_items(source.text, call.arguments, call.arguments.last, new)
    return Edit(apply_splices(source.text, splices), frozenset(names))


def undo(source: Source, kept: frozenset[str]) -> Edit:
    """The text without what `edit` puts in, and what was taken out, less what is to be `kept`."""
    try:
        function, call = _site(source)
    except CannotEdit:
        return Edit(source.text, frozenset())
    parameter = function.parameters.named("infer_steps")
    forward, kind = (call.arguments.named(name) for name in ("infer_steps", "is_turbo"))
    taken = {TURBO} if kind and kind.text == KIND else set()
    if forward and forward.text == STEPS_ARGUMENT and parameter and parameter.text == STEPS_PARAMETER:
        taken |= {PARAMETER, FORWARD}
    taken -= kept
    arguments = [name for name, what in (("infer_steps", FORWARD), ("is_turbo", TURBO)) if what in taken]
    cuts = cut_items(source.text, call.arguments, arguments)
    if PARAMETER in taken:
        cuts += cut_items(source.text, function.parameters, ["infer_steps"])
    return Edit(apply_splices(source.text, cuts), frozenset(taken))


def _site(source: Source) -> tuple[Function, Call]:
    places = places_of(source)
    functions = places.functions_named(RUN)
    if len(functions) != 1:
        raise CannotEdit(f"expected one {RUN}, found {len(functions) or 'none'}")
    calls = places.calls_named(GENERATE, inside=functions[0])
    if len(calls) != 1:
        raise CannotEdit(f"expected one call of {GENERATE} in {RUN}, found {len(calls) or 'none'}")
    items = functions[0].parameters.items
    if not items or items[0].name != "self":
        raise CannotEdit(f"{RUN} is not a method with self, so the host's config cannot be asked for")
    return functions[0], calls[0]


def _refuse_another(call: Call, name: str) -> None:
    present = call.arguments.named(name)
    if present:
        raise CannotEdit(f"the call of {GENERATE} passes {present.text}, which means something else")
    if any(item.stars == "**" for item in call.arguments.items):
        raise CannotEdit(f"the call of {GENERATE} passes **keywords that may hold {name}")
