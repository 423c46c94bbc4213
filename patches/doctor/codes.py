"""A language model that thinks along: its audio codes may take the context's place."""

from __future__ import annotations

from typing import Any

from ..harness.imports import CannotProbe
from .application import CODES, lego_request, short, source, stopped_early
from .context import INSTRUCTION
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("thinking", "", "", SERIES)
WHERE = "inference.py"
ASKED = "the context audio, with a language model that thinks"


class LanguageModel:
    """Says that it is ready, and makes codes wherever it is asked for them."""

    llm_initialized = True

    def __init__(self) -> None:
        self.asked = False

    def generate_with_stop_condition(self, *_: Any, infer_type: str = "", **__: Any) -> dict[str, Any]:
        self.asked = True
        codes = "<|audio_code_1|>" * 30 if infer_type == "llm_dit" else ""
        return {
            "success": True,
            "metadata": {},
            "audio_codes": codes,
            "extra_outputs": {"time_costs": {}},
        }


def look(site: Site) -> Finding:
    model = LanguageModel()
    seen = lego_request(site.application, instruction=INSTRUCTION, thinking=True, language_model=model)
    if seen.context is None:
        if model.asked or seen.success or not seen.error:
            raise CannotProbe(stopped_early(seen))
        return found(False, ASKED, f"refused: {short(seen.error)}", WHERE)
    hints = seen.request.get("precomputed_lm_hints_25Hz")
    heard = seen.context[0, :, : source(1).shape[1]]
    if hints is not None or (heard == CODES).any():
        return found(True, ASKED, "codes of the language model in the context's place", WHERE)
    # What takes frames away without a language model is the line of the context audio.
    return found(False, ASKED, "no codes of the language model", WHERE)
