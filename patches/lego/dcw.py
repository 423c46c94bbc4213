"""The patch `dcw`: LEGO on a base model runs without the wavelet correction unless the caller asked for it.

Upstream has it on by default for every model from be74cd5 (2026-04-23) to b751bd2 (2026-08-16), and base models are
garbled by it. The default becomes None, which can be told from an explicit True; other tasks and turbo keep True.
"""

from __future__ import annotations

import ast

from ..engine.find import behind, bound_names, require_parameters, statement_lists, the_function
from ..engine.patch import Edit, Found, Patch
from ..engine.source import Source, nodes_of
from ..engine.states import CannotEdit, NotAffected, OtherCode, UpstreamFix

_FIELD = "dcw_enabled"
_FIRST = ": off for LEGO on a base model, on as before for the rest."
_DEFAULT = (": None, unless the caller chooses.", f"{_FIELD}: bool | None = None")


def find(source: Source) -> Found:
    """Raises CannotEdit where there is no single default, or no single dict that takes it from the parameters."""
    defaults = [node for node in nodes_of(source.tree) if isinstance(node, ast.AnnAssign) and _is_field(node)]
    if not defaults:
        return NotAffected("GenerationParams has no wavelet correction")
    values = [ast.unparse(node.value) for node in defaults if node.value is not None]
    if values == ["None"]:
        return UpstreamFix(f"the default of {_FIELD} is None")
    if values == ["False"]:
        return NotAffected(f"the default of {_FIELD} is False")
    if values != ["True"]:
        return OtherCode(f"{_FIELD} has the defaults {', '.join(values)}")
    function = the_function(source, "generate_music")
    require_parameters(function, "dit_handler", "params")
    taken = {"is_base", "is_lego"} & bound_names(function)
    if taken:
        raise CannotEdit(f"generate_music uses the name {' and '.join(sorted(taken))} for something else")
    statement, name = _keywords(function)
    choice = (
        _FIRST,
        f"if params.{_FIELD} is None:",
        '    is_lego = params.task_type == "lego"',
        "    is_base = is_lego and not dit_handler.is_turbo_model()",
        f'    {name}["{_FIELD}"] = not is_base',
    )
    return Edit(
        f"the default of {_FIELD} is True",
        [behind(source, defaults[0], _DEFAULT), behind(source, statement, choice)],
    )


def _is_field(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.target) == _FIELD


def _keywords(function: ast.FunctionDef) -> tuple[ast.Assign, str]:
    """The assignment of the dict of keywords for the handler, and the dict's name."""
    found = []
    for statement in (statement for body in statement_lists(function) for statement in body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys, values=values)):
                pairs = zip(keys, values, strict=True)
                if any(
                    k is not None and ast.unparse(k) == f"'{_FIELD}'" and ast.unparse(v) == f"params.{_FIELD}"
                    for k, v in pairs
                ):
                    found.append((statement, name))
    if len(found) != 1:
        raise CannotEdit(
            f"expected one dict that takes {_FIELD} from the parameters, found {len(found) or 'none'}"
        )
    return found[0]


PATCH = Patch(
    name="dcw",
    target="acestep/inference.py",
    summary="LEGO on a base model runs without the wavelet correction unless the caller asked for it",
    find=find,
    block_sizes={_DEFAULT[0]: len(_DEFAULT), _FIRST: 5},
)
