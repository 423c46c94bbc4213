"""The prompt of a LEGO request that gives no instruction: LEGO's, or that of another task."""

from __future__ import annotations

from ..harness.imports import CannotProbe
from ..lego.words import LEGO_WORDS
from .application import lego_request, short, stopped_early
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("prompt", "", "", SERIES)


def look(site: Site) -> Finding:
    """A plain call of the public API; what the text encoder gets to read."""
    seen = lego_request(site.application)
    if not seen.prompts:
        raise CannotProbe(stopped_early(seen))
    prompt = next((text for text in seen.prompts if "# Instruction" in text), seen.prompts[0])
    instruction = short(prompt.partition("# Instruction\n")[2].partition("\n")[0] or prompt)
    lego = LEGO_WORDS in prompt.lower()
    return found(not lego, "LEGO, no instruction given", f'"{instruction}"', "generate_music_request.py")
