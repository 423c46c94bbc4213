"""The patch `seed`: a LEGO request's own seed is used where no other is given and none is to be drawn.

Upstream documents `GenerationParams.seed` and reads `GenerationConfig.seeds` alone: without those it draws one.
"""

from __future__ import annotations

import ast

from ..engine.find import behind, bound_names, require_parameters, the_function
from ..engine.patch import Edit, Found, OlderForm, Patch
from ..engine.source import Source
from ..engine.states import CannotEdit, OtherCode

_NAME = "seed_for_generation"
_NEW = (
    ": the seed of the parameters is used where no other is given.",
    "no_seeds = not config.seeds and not config.use_random_seed",
    "has_seed = params.seed is not None and params.seed >= 0",
    'if params.task_type == "lego" and no_seeds and has_seed:',
    f"    {_NAME} = str(params.seed)",
)
_GIVEN = "config.seeds or config.use_random_seed or params.seed is None or params.seed < 0"
_OLD = ("", f'if params.task_type == "lego" and not ({_GIVEN}):', f"    {_NAME} = str(params.seed)")


def find(source: Source) -> Found:
    return _edit(source, _NEW)


def find_0_1(source: Source) -> Found:
    return _edit(source, _OLD)


def _edit(source: Source, lines: tuple[str, ...]) -> Found:
    function = the_function(source, "generate_music")
    require_parameters(function, "params", "config")
    assigned = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [_NAME]
    ]
    own = next((node for node in assigned if "params.seed" in ast.unparse(node.value)), None)
    if own is not None:
        return OtherCode(f"line {own.lineno} uses the seed of the parameters")
    taken = {"no_seeds", "has_seed"} & bound_names(function)
    if taken:
        raise CannotEdit(f"generate_music uses the name {' and '.join(sorted(taken))} for something else")
    empty = [node for node in assigned if ast.unparse(node.value) == "''"]
    if len(empty) != 1:
        raise CannotEdit(f'expected one `{_NAME} = ""` in generate_music, found {len(empty) or "none"}')
    return Edit(f"{_NAME} does not use params.seed", [behind(source, empty[0], lines)])


PATCH = Patch(
    name="seed",
    target="acestep/inference.py",
    summary="GenerationParams.seed is used for LEGO where use_random_seed is off and no seeds are given",
    find=find,
    block_sizes={_NEW[0]: len(_NEW)},
    older=OlderForm(
        "# LEGO: the parameters' own seed counts where none is given beside them.", find_0_1, {"": len(_OLD)}
    ),
)
