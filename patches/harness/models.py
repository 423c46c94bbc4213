"""Fakes of the models that a checkpoint brings: tokenizer, text encoder, VAE and the PyTorch model.

Latents have 64 channels and one frame for 1920 samples: 25 frames a second at 48 kHz. The values tell where a frame
came from: a source frame is between 1 and 1.5, a frame of silence is SILENCE_VALUE, a frame made of language-model
codes is CODES_VALUE.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .imports import CannotProbe

if TYPE_CHECKING:
    from .request import RequestRecord

SAMPLES_PER_FRAME, CHANNELS, TOKENS, WIDTH = 1920, 64, 3, 8
SILENCE_VALUE, CODES_VALUE = -3.0, -9.0
SILENCE_FRAMES = 2_000


def source_latents(frames: int) -> torch.Tensor:
    """The latents that any audio is encoded to: [frames, 64], no two values equal."""
    return 1 + torch.linspace(0, 0.5, frames * CHANNELS).reshape(frames, CHANNELS)


def silence_latents(frames: int) -> torch.Tensor:
    """[frames, 64]."""
    return torch.full((frames, CHANNELS), SILENCE_VALUE)


def context_audio(seconds: float, sample_rate: int) -> torch.Tensor:
    """A tone at 220 Hz, float32 [2, samples]."""
    phase = torch.arange(int(seconds * sample_rate)) * (2 * math.pi * 220 / sample_rate)
    return 0.5 * torch.sin(phase).expand(2, -1)


def model_config(**overrides: Any) -> Any:
    """The config of a tiny base model with `overrides`; an override of None removes the key."""
    values = {
        "is_turbo": False,
        "timbre_fix_frame": 750,
        "hidden_size": 8,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "in_channels": 3 * CHANNELS,
        "audio_acoustic_hidden_dim": CHANNELS,
        "patch_size": 2,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "rope_theta": 1_000_000.0,
        "rope_parameters": {"rope_theta": 1_000_000.0},
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "model_version": "base",
        **overrides,
    }
    return SimpleNamespace(**{name: value for name, value in values.items() if value is not None})


@dataclass
class BackendRecord:
    """pytorch_ran: PyTorch ran in MLX's place. mlx_error: what MLX's run raised, or what kept it from running."""

    pytorch_ran: bool = False
    mlx_error: BaseException | None = None


class FakeModel:
    """The PyTorch model. Every encoder state has the value `encoder_value`, the null condition -1, or the states are
    `states` [1, tokens, width] for each item of a batch.

    `prepare_condition` joins source latents and chunk mask as upstream's does: where `is_covers` is set, latents made
    of language-model codes replace the source. `generate_audio` records that PyTorch ran.
    """

    def __init__(self, record: BackendRecord, config: Any) -> None:
        self.record, self.config = record, config
        self.encoder_value = 1.0
        self.states: torch.Tensor | None = None
        self.null_condition_emb = torch.full((1, 1, WIDTH), -1.0)
        self.silence_latent = silence_latents(SILENCE_FRAMES)[None]
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def eval(self) -> FakeModel:
        return self

    def parameters(self) -> Iterator[torch.Tensor]:
        return iter([self.null_condition_emb])

    def prepare_condition(self, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns encoder states [batch, tokens, width], mask [batch, tokens], context latents [batch, frames, 128].

        A chunk mask that is not passed is 0. Raises CannotProbe where the source latents are not passed.
        """
        if "src_latents" not in kwargs:
            raise CannotProbe("it calls prepare_condition without src_latents")
        source, hints = torch.as_tensor(kwargs["src_latents"]), kwargs.get("precomputed_lm_hints_25Hz")
        covers = kwargs.get("is_covers")
        if covers is not None and covers.any():
            hints = torch.full_like(source, CODES_VALUE) if hints is None else hints[:, : source.shape[1]]
            source = torch.where(covers[:, None, None], hints.to(source), source)
        batch = source.shape[0]
        mask = torch.as_tensor(kwargs.get("chunk_masks", torch.zeros_like(source)))
        context = torch.cat([source, mask.to(source)], dim=-1)
        states = torch.full((batch, TOKENS, WIDTH), self.encoder_value)
        if self.states is not None:
            states = self.states.repeat(batch, 1, 1)
        return states, torch.ones(states.shape[:2]), context

    def generate_audio(self, **kwargs: Any) -> dict[str, Any]:
        self.record.pytorch_ran = True
        self.record.mlx_error = self.record.mlx_error or sys.exc_info()[1]
        latents = kwargs.get("src_latents", torch.empty(1, 1, CHANNELS))
        return {
            "target_latents": torch.full_like(latents, 0.1),  # upstream rejects latents of zeros
            "time_costs": dict.fromkeys(("encoder_time_cost", "diffusion_time_cost", "total_time_cost"), 0.0),
        }


class FakeTokenizer:
    """Records every text; returns the same number of tokens for each."""

    pad_token_id = 0
    model_max_length = 1_000

    def __init__(self, record: RequestRecord) -> None:
        self.record = record

    def __call__(self, text: Any, *_: Any, **__: Any) -> Any:
        texts = [text] if isinstance(text, str) else list(text)
        self.record.prompts += texts
        ids = torch.ones(len(texts), TOKENS, dtype=torch.long)
        return _Encoding(input_ids=ids, attention_mask=torch.ones_like(ids))


class _Encoding(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]

    def to(self, *_: Any, **__: Any) -> _Encoding:
        return self


class FakeTextEncoder(torch.nn.Module):
    """Returns zeros [batch, tokens, width]; `encode` and `embed` do for a handler that takes numpy arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(2, WIDTH)
        self.dtype, self.device, self.config = torch.float32, torch.device("cpu"), SimpleNamespace()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed_tokens

    def forward(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> Any:
        return _Encoding(last_hidden_state=torch.zeros(*input_ids.shape, WIDTH))

    def encode(self, tokens: Any) -> np.ndarray:
        return np.zeros((1, len(tokens), WIDTH), np.float32)

    embed = encode


class FakeVae(torch.nn.Module):
    """Encodes every audio to `source_latents` of its length, and decodes to audio of zeros.

    `sample_latents` and `decode_latents` do the same for a handler that takes numpy arrays.
    """

    dtype = torch.float32
    frames_behind = 0  # latent frames that the last samples of a stem depend on

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(sampling_rate=sample_rate)
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # upstream reads its device

    def encode(self, audio: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Audio [batch, 2, samples]; a sample of the result's `latent_dist` is [batch, 64, frames]."""
        latents = source_latents(audio.shape[-1] // SAMPLES_PER_FRAME).T[None].expand(audio.shape[0], -1, -1)
        return SimpleNamespace(
            latent_dist=SimpleNamespace(sample=lambda *_, **__: latents, mode=lambda: latents)
        )

    def decode(self, latents: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Latents [batch, 64, frames] to a `sample` [batch, 2, samples]."""
        return SimpleNamespace(sample=torch.zeros(latents.shape[0], 2, latents.shape[-1] * SAMPLES_PER_FRAME))

    def sample_latents(self, audio: np.ndarray, seeds: list[int]) -> np.ndarray:
        """Audio [2, samples] to [batch, frames, 64]."""
        latents = source_latents(audio.shape[-1] // SAMPLES_PER_FRAME)
        return latents.expand(len(seeds), -1, -1).numpy()

    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """Latents [batch, frames, 64] to [batch, 2, samples]."""
        return np.zeros((latents.shape[0], 2, latents.shape[1] * SAMPLES_PER_FRAME), np.float32)
