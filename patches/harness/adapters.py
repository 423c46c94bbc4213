"""A fake of the library peft, and an adapter folder for it, so that a checkout's own code can load a LoRA."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


class FakePeftModel:
    """A decoder with an adapter merged into it: each of its weights is 0.5 larger."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.peft_config: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls, decoder: Any, _path: str, adapter_name: str = "default", **_: Any
    ) -> FakePeftModel:
        model = cls(decoder)
        model.peft_config[adapter_name] = None
        return model

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: weight + 0.5 for name, weight in self.decoder.state_dict().items()}

    def merge_and_unload(self, *_: Any, **__: Any) -> FakePeftModel:
        return self

    def get_base_model(self) -> Any:
        return self.decoder

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        return iter(())

    def to(self, *_: Any, **__: Any) -> FakePeftModel:
        return self

    def eval(self) -> FakePeftModel:
        return self

    def set_adapter(self, _name: str) -> None: ...

    def enable_adapter_layers(self) -> None: ...


def write_adapter(folder: Path) -> Path:
    """A folder that looks like a saved LoRA. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@contextmanager
def fake_peft() -> Iterator[None]:
    """Makes `import peft` give the fake."""
    kept = sys.modules.get("peft")
    module = sys.modules["peft"] = ModuleType("peft")
    vars(module)["PeftModel"] = FakePeftModel
    try:
        yield
    finally:
        del sys.modules["peft"]
        if kept is not None:
            sys.modules["peft"] = kept
