"""Patch 1, `service_generate_execute.py`: the call of `_mlx_run_diffusion` passes the asked-for steps.

Upstream lost them here from be99eb9 (2026-02-15) until its own fix in 82a5d84 (2026-02-25): the kwargs of the
request hold `infer_steps`, the call left it out.
"""

import ast
from collections.abc import Iterator

from .evaluate import dotted
from .facts import facts_of
from .judge import request_holds_steps
from .names import BUILD, RUN
from .outcomes import CannotEdit, Edit
from .places import Call, Places, places_of
from .source import Source
from .splice import Item, add_items, apply_splices, cut_items

LINE = f"infer_steps passed to {RUN}"


def edit(source: Source) -> Edit:
    """The text with the keyword put in. Raises CannotEdit."""
    places = places_of(source)
    call = _the_call(places)
    present = call.arguments.named("infer_steps")
    if present:
        raise CannotEdit(f"the call of {RUN} passes {present.text}, which is not what was asked for")
    if any(item.stars == "**" for item in call.arguments.items):
        raise CannotEdit(f"the call of {RUN} passes **keywords that may hold infer_steps")
    if not request_holds_steps(source):
        raise CannotEdit(f"the request that {BUILD} makes holds no infer_steps")
    after = call.arguments.named("timesteps") or call.arguments.last
    new = f'infer_steps={_request_dict(source, call)}.get("infer_steps", 8)'
    text = apply_splices(source.text, add_items(source.text, call.arguments, after, [new]))
    return Edit(text, frozenset({LINE}))


def undo(source: Source, kept: frozenset[str]) -> Edit:
    """The text without what `edit` puts in, and what was taken out, less what is to be `kept`."""
    try:
        places = places_of(source)
        call = _the_call(places)
        item = call.arguments.named("infer_steps")
        ours = item and item.text == f'infer_steps={_request_dict(source, call)}.get("infer_steps", 8)'
    except CannotEdit:
        return Edit(source.text, frozenset())
    if not ours or LINE in kept:
        return Edit(source.text, frozenset())
    cuts = cut_items(source.text, call.arguments, ["infer_steps"])
    return Edit(apply_splices(source.text, cuts), frozenset({LINE}))


def _the_call(places: Places) -> Call:
    calls = places.calls_named(RUN)
    if len(calls) != 1:
        raise CannotEdit(f"expected one call of {RUN}, found {len(calls) or 'none'}")
    return calls[0]


def _request_dict(source: Source, call: Call) -> str:
    """The local name of the dict of the request's kwargs: it gives the timesteps, or PyTorch gets it whole."""
    named = {_gives_timesteps(item) for item in call.arguments.items if item.name == "timesteps"}
    if not any(named):
        named = {dotted(held) for held in _given_to_pytorch(source)}
    names = sorted(name for name in named if name)
    if len(names) != 1:
        raise CannotEdit(f"expected one dict that holds the request, found {' and '.join(names) or 'none'}")
    return names[0]


def _given_to_pytorch(source: Source) -> Iterator[ast.expr]:
    """What `generate_audio` gets as ** in the function that also calls D."""
    for function in facts_of(source.tree).functions:
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        attributes = [(node.func.attr, node) for node in calls if isinstance(node.func, ast.Attribute)]
        if any(name == RUN for name, _ in attributes):
            whole = [node for name, node in attributes if name == "generate_audio"]
            yield from (keyword.value for node in whole for keyword in node.keywords if keyword.arg is None)


def _gives_timesteps(item: Item) -> str:
    match ast.parse(f"f({item.text}\n)", mode="eval").body:
        case ast.Call(keywords=[ast.keyword(value=ast.Call(func=ast.Attribute(value=held, attr="get")))]):
            return dotted(held)
        case ast.Call(keywords=[ast.keyword(value=ast.Subscript(value=held))]):
            return dotted(held)
    return ""
