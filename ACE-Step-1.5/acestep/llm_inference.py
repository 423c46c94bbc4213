"""Upstream's name for the language model's handler, for calling code that makes one; LEGO uses no language model."""

from typing import Any


class LLMHandler:
    """May be given to `generate_music`, which does not use it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.llm_initialized = False

    def initialize(self, *_: Any, **__: Any) -> tuple[str, bool]:
        """Loads nothing; the answer says so."""
        return "no language model was loaded: this fork generates LEGO stems only, which use none", False

    def unload(self) -> None:
        """There is nothing to unload."""
