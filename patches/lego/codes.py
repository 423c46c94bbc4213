"""`codes`: the language model makes no audio codes for a LEGO request; they would take the context's place.

With `thinking` on, upstream's LEGO becomes a cover of what the language model made up: the WAV is not even read.
"""

from __future__ import annotations

import ast

from ..source import Source
from .block import Block, behind, the_function, want_parameters
from .single import assignment

NAME = "codes"
FILE = "acestep/inference.py"
WHAT = "the language model makes no codes for LEGO; they would take the context's place"
COMMENT = "# LEGO: codes of the language model would take the context audio's place."
SIZE = 2
_NAME = "need_audio_codes"


def settled(source: Source) -> str | None:
    """Why there is nothing to do, if LEGO is among what the language model is left out of."""
    for node in ast.walk(the_function(source, "generate_music")):
        match node:
            case ast.Assign(targets=[ast.Name(id="need_audio_codes" | "skip_lm_tasks")], value=value):
                if any(isinstance(n, ast.Constant) and n.value == "lego" for n in ast.walk(value)):
                    return "makes no codes for LEGO"
    return None


def place(source: Source) -> Block:
    function = the_function(source, "generate_music")
    want_parameters(function, "params")
    statement = assignment(function, _NAME, "not user_provided_audio_codes")
    return behind(source, statement, [COMMENT, f'{_NAME} = {_NAME} and params.task_type != "lego"'])
