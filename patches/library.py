"""What Python's own functions make of their arguments, as far as `patches.interpret` needs it."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from .values import UNKNOWN, Origin, Value, constant, origins_of, something

_FOLDED: Mapping[str, Callable[..., object]] = {
    "int": int, "float": float, "bool": bool, "abs": abs, "round": round, "max": max, "min": min,
}  # fmt: skip
_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "tuple": tuple}
_COLLECTIONS = {
    "list",
    "tuple",
    "sorted",
    "reversed",
    "set",
    "enumerate",
    "zip",
    "map",
    "filter",
    "range",
    "len",
}


# What a call gives whose text is not at hand counts as something: a None would be a request that is refused.
def library_call(
    name: str, node: ast.Call, positional: Sequence[Value], keywords: Mapping[str, Value]
) -> Value:
    if name == "dict":
        first = positional[0].entries if positional else {}
        entries = None if first is None else {**first, **keywords}
        return Value(origins_of(*positional, *keywords.values()), none=False, entries=entries)
    if name == "isinstance" and len(node.args) == 2 and positional[0].known is not UNKNOWN:
        kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
        types = [_TYPES.get(getattr(kind, "id", "")) for kind in kinds]
        if None not in types:
            return constant(isinstance(positional[0].known, tuple(t for t in types if t)))
    if name in _FOLDED and positional and not keywords:
        return _fold(name, positional)
    made = something(*positional, *keywords.values())
    if name in _COLLECTIONS:
        return replace(made, true=positional[0].truth if len(positional) == 1 else None)
    return made


def _fold(name: str, values: Sequence[Value]) -> Value:
    made = something(*values)
    if any(value.known is UNKNOWN for value in values):
        return replace(made, true=values[0].truth if name == "bool" else None)
    try:
        known = _FOLDED[name](*(value.known for value in values))
    except (TypeError, ValueError, OverflowError):
        return made
    asked = [value for value in values if Origin.STEPS in value.origins]
    cut = any(known != value.known for value in asked) and name in ("min", "max")
    return constant(known, *made.origins, *([Origin.CUT] if cut else []))
