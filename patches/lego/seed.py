"""`seed`: a LEGO request's own seed counts, where none is given beside it and none is to be drawn.

Upstream documents `GenerationParams.seed` and reads `GenerationConfig.seeds` alone: without those it draws one.
"""

from __future__ import annotations

import ast

from ..source import Source
from .block import Block, behind, the_function, want_parameters
from .single import assignment, names_in

NAME = "seed"
FILE = "acestep/inference.py"
WHAT = "GenerationParams.seed counts for LEGO, where use_random_seed is off and no seeds are given"
COMMENT = "# LEGO: the parameters' own seed counts where none is given beside them."
SIZE = 3
_NAME = "seed_for_generation"


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if the seed is made of the parameters' own somewhere."""
    for node in ast.walk(the_function(source, "generate_music")):
        named = isinstance(node, ast.Assign) and _NAME in map(ast.unparse, node.targets)
        if named and "params.seed" in names_in(node):
            return "takes the parameters' own seed"
    return None


def place(source: Source) -> Block:
    function = the_function(source, "generate_music")
    want_parameters(function, "params", "config")
    given = "config.seeds or config.use_random_seed or params.seed is None or params.seed < 0"
    question = f'if params.task_type == "lego" and not ({given}):'
    statement = assignment(function, _NAME, "''")
    return behind(source, statement, [COMMENT, question, f"    {_NAME} = str(params.seed)"])
