"""The prompt of a LEGO request without an instruction: LEGO's, or that of another task."""

from __future__ import annotations

from ...harness.imports import CannotProbe
from ...harness.request import shorten
from ..checkout import LoadedCheckout
from ..finding import Finding, judged

LEGO_WORDS = "track based on the audio context"  # in upstream's LEGO instructions, and in no other


def run(checkout: LoadedCheckout) -> Finding:
    """What reaches the text encoder."""
    record = checkout.lego(instruction=None)
    if not record.prompts:
        raise CannotProbe(record.why_not_run())
    prompt = next((text for text in record.prompts if "# Instruction" in text), record.prompts[0])
    instruction = shorten(prompt.partition("# Instruction\n")[2].partition("\n")[0] or prompt)
    is_lego = LEGO_WORDS in prompt.lower()
    return judged(not is_lego, "LEGO, no instruction given", f'"{instruction}"', "generate_music_request.py")
