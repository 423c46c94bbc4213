"""What the probe drives a checkout's mixins with: a decoder that counts, a model, a host, a payload."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import torch

from .imports import CannotProbe

BATCH, FRAMES, CHANNELS, TOKENS, WIDTH = 1, 8, 64, 3, 4


class CountingDecoder:
    """Takes the decoder's place: notes the timestep of each evaluation and predicts no motion."""

    def __init__(self) -> None:
        self.timesteps: list[float] = []
        self.guided = 0

    def __call__(
        self, hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **__: Any
    ) -> tuple[Any, Any]:
        values = set(torch.tensor(timestep.tolist(), dtype=torch.float32).flatten().tolist())
        if len(values) != 1:
            raise RuntimeError(f"one decoder evaluation was given several timesteps: {sorted(values)}")
        self.timesteps += values
        self.guided += hidden_states.shape[0] == 2 * BATCH
        return mx.zeros_like(hidden_states), cache


class StandInModel:
    """The PyTorch model's two entry points: conditions made of zeros, and a note of who falls back to it."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.null_condition_emb = torch.zeros(1, 1, WIDTH)
        self.fell_back = False
        self.swallowed: BaseException | None = None

    def prepare_condition(self, **_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return (
            torch.zeros(BATCH, TOKENS, WIDTH),
            torch.ones(BATCH, TOKENS),
            torch.zeros(BATCH, FRAMES, 2 * CHANNELS),
        )

    def generate_audio(self, **_: Any) -> dict[str, Any]:
        self.fell_back = True
        self.swallowed = self.swallowed or sys.exc_info()[1]
        return {"target_latents": torch.zeros(BATCH, FRAMES, CHANNELS), "time_costs": {}}


class Payload(dict[str, Any]):
    """The preprocessed batch; entries that only some checkouts know read as None."""

    def __missing__(self, key: str) -> None:
        return None


def build_payload() -> Payload:
    latents = torch.zeros(BATCH, FRAMES, CHANNELS)
    hidden = torch.zeros(BATCH, TOKENS, WIDTH)
    mask = torch.ones(BATCH, TOKENS)
    return Payload(
        keys=["probe"] * BATCH,
        text_inputs=[""] * BATCH,
        src_latents=latents,
        target_latents=latents,
        text_hidden_states=hidden,
        text_attention_mask=mask,
        lyric_hidden_states=hidden,
        lyric_attention_mask=mask,
        refer_audio_acoustic_hidden_states_packed=latents,
        refer_audio_order_mask=torch.zeros(BATCH, dtype=torch.long),
        chunk_mask=torch.ones(BATCH, FRAMES, CHANNELS),
        spans=[("full", 0, FRAMES)] * BATCH,
        is_covers=torch.zeros(BATCH, dtype=torch.bool),
        lyric_token_idss=torch.zeros(BATCH, TOKENS, dtype=torch.long),
    )


def build_host(execute: type, diffusion: type, config: Mapping[str, bool] | None) -> Any:
    """A host of the checkout's own two mixins, with what they read and nothing of the application."""
    host_class = type("ProbeHost", (execute, diffusion), {"_load_model_context": _load_model_context})
    host: Any = object.__new__(host_class)
    settings = None if config is None else SimpleNamespace(**config)
    if settings is not None:
        host.config = settings
    host.model = StandInModel(settings)
    host.is_turbo_model = lambda: bool(getattr(settings, "is_turbo", False))
    host.mlx_decoder = CountingDecoder()
    host.use_mlx_dit = True
    host.mlx_dit_compiled = False
    host.device = "cpu"
    host.dtype = torch.float32
    host.silence_latent = torch.zeros(1, FRAMES, CHANNELS)
    _note_exceptions(host)
    return host


@contextmanager
def _load_model_context(_host: Any, _name: str) -> Iterator[None]:
    yield


def _note_exceptions(host: Any) -> None:
    """Keep what the MLX run raises: a checkout's executor swallows it and runs PyTorch."""
    run = host._mlx_run_diffusion

    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except Exception as error:
            host.model.swallowed = error
            raise

    host._mlx_run_diffusion = noting


def refuse_blame(host: Any, error: BaseException | None) -> None:
    """CannotProbe where the stand-ins are what fails: the checkout reads something that they do not have.

    A host without `config` lacks it on purpose.
    """
    if not isinstance(error, AttributeError) or error.name == "config":
        return
    for stand_in, shown in (
        (host, "self"),
        (host.model, "self.model"),
        (host.mlx_decoder, "self.mlx_decoder"),
    ):
        if error.obj is stand_in:
            raise CannotProbe(f"it reads {shown}.{error.name}, which only the whole application has")


def class_with(module: ModuleType, method: str) -> type:
    """The class that defines `method` in a module of the checkout; CannotProbe if there is none."""
    for value in vars(module).values():
        if isinstance(value, type) and method in vars(value):
            return value
    raise CannotProbe(f"{module.__name__} has no class that defines {method}")


def call_by_name(function: Callable[..., Any], known: Mapping[str, Any]) -> Any:
    """Call `function` with those of `known` that it takes, and a neutral value for what else it requires."""
    given: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in known:
            given[name] = known[name]
        elif parameter.default is parameter.empty:
            given[name] = _neutral(parameter.annotation)
    return function(**given)


def _neutral(annotation: Any) -> Any:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return {"float": 0.0, "int": 0, "bool": False, "str": ""}.get(text)
