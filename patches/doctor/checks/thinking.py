"""A language model with thinking on: whether its audio codes replace the context audio."""

from __future__ import annotations

from typing import Any

from ...harness.imports import CannotProbe
from ...harness.models import CHANNELS, CODES_VALUE
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

REQUESTED, WHERE = "the context audio, with a language model and thinking on", "inference.py"


class FakeLanguageModel:
    """Reports that it is loaded, and returns codes wherever it is asked for them."""

    llm_initialized = True

    def __init__(self) -> None:
        self.called = False

    def generate_with_stop_condition(self, *_: Any, infer_type: str = "", **__: Any) -> dict[str, Any]:
        self.called = True
        codes = "<|audio_code_1|>" * 30 if infer_type == "llm_dit" else ""
        return {"success": True, "metadata": {}, "audio_codes": codes, "extra_outputs": {"time_costs": {}}}


def run(checkout: LoadedCheckout) -> Finding:
    model = FakeLanguageModel()
    record = checkout.lego(thinking=True, language_model=model)
    if record.context is None:
        if model.called or record.success or not record.error:
            raise CannotProbe(record.why_not_run())
        return judged(False, REQUESTED, f"refused: {shorten(record.error)}", WHERE)
    hints = record.kwargs.get("precomputed_lm_hints_25Hz")
    if hints is not None or (record.context[0, :, :CHANNELS] == CODES_VALUE).any():
        return judged(True, REQUESTED, "codes of the language model in the context's place", WHERE)
    # Frames that are lost without a language model belong to the check context-audio.
    return judged(False, REQUESTED, "no codes of the language model", WHERE)
