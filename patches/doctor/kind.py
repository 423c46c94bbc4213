"""A config that does not say whether the model is turbo: base by upstream's own meaning, or a refusal that says so."""

from __future__ import annotations

from ..harness.imports import CannotProbe
from .application import lego_request, model_config, short, stopped_early
from .context import INSTRUCTION
from .line import BASE_PATCHES, Finding, Line, found
from .site import Site

LINE = Line("config without is_turbo", "", "", BASE_PATCHES)
STEPS = 50
ASKED, WHERE = f"{STEPS} steps, of a model whose config does not name its kind", "dit_generate.py"


def look(site: Site) -> Finding:
    config = model_config(is_turbo=None)
    seen = lego_request(site.application, instruction=INSTRUCTION, inference_steps=STEPS, config=config)
    if seen.timesteps:
        return found(len(seen.timesteps) != STEPS, ASKED, f"{len(seen.timesteps)} evaluated", WHERE)
    if seen.fell_back:
        return found(True, ASKED, f"PyTorch ran in MLX's place: {short(repr(seen.swallowed))}", WHERE)
    if not seen.success and "is_turbo" in seen.error:
        return found(False, ASKED, f"refused: {short(seen.error)}", WHERE)
    raise CannotProbe(stopped_early(seen))
