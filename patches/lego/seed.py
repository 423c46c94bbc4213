"""The patch `seed`: a LEGO request's own seed is used where no other is given and none is to be drawn.

Upstream documents `GenerationParams.seed` and reads `GenerationConfig.seeds` alone: without those it draws one.
"""

from __future__ import annotations

import ast

from ..engine.find import assignments_of, behind, bound_names, require_parameters, the_function
from ..engine.patch import Edit, Found
from ..engine.source import Source
from ..engine.states import CannotEdit, OtherCode
from .one_block import Lines, one_block

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


def find(source: Source, lines: Lines) -> Found:
    function = the_function(source, "generate_music")
    require_parameters(function, "params", "config")
    assigned = assignments_of(function, _NAME)
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


PATCH = one_block(
    "seed",
    "acestep/inference.py",
    "GenerationParams.seed is used for LEGO where use_random_seed is off and no seeds are given",
    find,
    _NEW,
    "# LEGO: the parameters' own seed counts where none is given beside them.",
    _OLD,
)
