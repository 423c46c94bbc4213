"""Counts how often the VAE encodes a context and the text encoder a prompt, at the models themselves.

Runs inside the process that runs a checkout, under the checkout's own interpreter: standard library alone.
"""

from __future__ import annotations

import inspect
from typing import Any

CONTEXT, PROMPT = "context", "prompt"


class Encodings:
    """Calls of the encoders of a loaded handler since `start_over`; a part that cannot be watched is not counted."""

    def __init__(self, handler: Any) -> None:
        self._counts: dict[str, int] = {}
        vae = model_in(getattr(handler, "vae", None), "vae")
        self._watch(CONTEXT, vae, "encode")
        text = model_in(getattr(handler, "text_encoder", None), "encoder")
        self._watch(PROMPT, text, "forward" if hasattr(text, "forward") else "__call__")

    def _watch(self, part: str, model: Any, method: str) -> None:
        """Counts every call of the method of the model's class."""
        cls = type(model)
        plain = inspect.getattr_static(cls, method, None)
        if not inspect.isfunction(plain):
            return
        self._counts[part] = 0

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._counts[part] += 1
            return plain(*args, **kwargs)

        setattr(cls, method, counted)

    def start_over(self) -> None:
        """Counts from 0 again."""
        self._counts = dict.fromkeys(self._counts, 0)

    def counts(self) -> dict[str, int]:
        """{"context": ..., "prompt": ...}, as far as they could be watched."""
        return dict(self._counts)


def model_in(part: Any, attribute: str) -> Any:
    """The model that a handler's part holds under this name, else the part itself."""
    held = getattr(part, attribute, None)
    return part if held is None else held
