"""A checkout's own application, from `acestep.inference.generate_music` to the decoder, around fake models.

Everything in between is the checkout's code. Reading audio, both ends of the VAE and memory checks are replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from .imports import CannotProbe, describe, import_file
from .models import (
    CHANNELS,
    CODES_VALUE,
    SAMPLES_PER_FRAME,
    SILENCE_FRAMES,
    FakeModel,
    FakeTextEncoder,
    FakeTokenizer,
    FakeVae,
    context_audio,
    silence_latents,
)

if TYPE_CHECKING:
    from .request import RequestRecord

DEFAULT_SAMPLE_RATE = 48_000


class Application:
    """The `inference` module and the handler class of one checkout, imported once. Raises CannotProbe."""

    def __init__(self, root: Path) -> None:
        for name in ("acestep/handler.py", "acestep/inference.py"):
            if not (root / name).is_file():
                raise CannotProbe(f"it has no {name}")
        self.root = root
        self.handler_class = _defined(import_file(root, root / "acestep/handler.py"), "AceStepHandler")
        self.inference = import_file(root, root / "acestep/inference.py")
        for name in ("generate_music", "GenerationParams", "GenerationConfig"):
            _defined(self.inference, name)
        # What the checkout's own code counts its samples in; most are at 48 kHz.
        self.sample_rate = getattr(self._new(self.handler_class), "sample_rate", None) or DEFAULT_SAMPLE_RATE
        # The checkout writes its files into this folder: the empty working directory, not the checkout.
        os.environ["ACESTEP_PROJECT_ROOT"] = os.getcwd()

    def handler(self, record: RequestRecord, seconds: float, config: Any) -> Any:
        """A handler with fakes for everything that a checkpoint brings; its context audio has so many seconds."""
        overrides = _overrides(self.handler_class, seconds)
        handler = self._new(type(self.handler_class.__name__, (self.handler_class,), overrides))
        handler.sample_rate = self.sample_rate
        handler.config, handler.model = config, FakeModel(record, config)
        handler.vae, handler.text_encoder = FakeVae(handler.sample_rate), FakeTextEncoder()
        handler.text_tokenizer = FakeTokenizer(record)
        handler.silence_latent = silence_latents(SILENCE_FRAMES)[None]
        handler.use_mlx_dit, handler.mlx_dit_compiled = True, False
        handler.mlx_vae, handler.use_mlx_vae = None, False
        handler.device, handler.dtype = "cpu", torch.float32
        return handler

    def frames(self, seconds: float) -> int:
        """The number of latent frames of so much audio."""
        return int(seconds * self.sample_rate) // SAMPLES_PER_FRAME

    @staticmethod
    def _new(handler_class: type) -> Any:
        try:
            return handler_class()
        except Exception as error:
            raise CannotProbe(f"its {handler_class.__name__} cannot be made: {describe(error)}") from error


def _defined(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise CannotProbe(f"{module.__name__} does not define {name}")
    return getattr(module, name)


def _overrides(handler_class: type, seconds: float) -> dict[str, Any]:
    """Methods that read audio, run a VAE, measure memory or show progress, as far as the handler has them."""

    @contextmanager
    def load_model_context(_self: Any, _name: str) -> Iterator[None]:
        yield

    def read_audio(self: Any, *_: Any, **__: Any) -> torch.Tensor:
        return context_audio(seconds, self.sample_rate)

    def encode(self: Any, audio: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        batched = audio if audio.dim() == 3 else audio[None]
        latents: torch.Tensor = FakeVae(self.sample_rate).encode(batched).latent_dist.sample()
        return latents if audio.dim() == 3 else latents[0]

    def decode(self: Any, latents: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        audio: torch.Tensor = FakeVae(self.sample_rate).decode(latents).sample
        return audio

    def decode_codes(self: Any, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((1, int(seconds * self.sample_rate) // SAMPLES_PER_FRAME, CHANNELS), CODES_VALUE)

    overrides: dict[str, Any] = {
        "_load_model_context": load_model_context,
        "process_src_audio": read_audio,
        "process_target_audio": read_audio,
        "tiled_encode": encode,
        "tiled_decode": decode,
        "_decode_audio_codes_to_latents": decode_codes,
        "_vram_guard_reduce_batch": lambda _self, batch, *_, **__: batch,
        "_vram_preflight_check": lambda *_, **__: None,
        "_start_diffusion_progress_estimator": lambda *_, **__: (None, None),
        "_update_progress_estimate": lambda *_, **__: None,
        "_empty_cache": lambda *_, **__: None,
    }
    return {name: method for name, method in overrides.items() if hasattr(handler_class, name)}
