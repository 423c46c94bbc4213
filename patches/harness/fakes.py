"""What a checkout's mixins are driven with: a decoder that counts, a host, a payload."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import torch

from .arrays import one_timestep
from .imports import CannotProbe
from .models import CHANNELS, TOKENS, WIDTH, BackendRecord, FakeModel, model_config
from .recorders import record_calls

BATCH, FRAMES = 1, 8
UPSTREAM_MIXINS = ("ServiceGenerateExecuteMixin", "DiffusionMixin")


class CountingDecoder:
    """Fake MLX decoder: records the timestep of each evaluation, returns a velocity of zeros.

    timesteps: float32 values, in order. guided: evaluations whose batch was doubled for guidance.
    """

    def __init__(self, batch: int = BATCH) -> None:
        self.batch = batch
        self.timesteps: list[float] = []
        self.guided = 0

    def __call__(
        self, hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **__: Any
    ) -> tuple[Any, Any]:
        self.timesteps.append(one_timestep(timestep))
        self.guided += hidden_states.shape[0] == 2 * self.batch
        return mx.zeros_like(hidden_states), cache


class HostDecoder:
    """The decoder that a host keeps over all its requests; `current` is called and records one of them."""

    current: CountingDecoder

    @property
    def batch(self) -> int:
        return self.current.batch

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return self.current(*args, **kwargs)


def make_host_decoder(generate: str) -> Any:
    """A HostDecoder that is a tiny decoder of the checkout's own class too, or some MLX module where that fails.

    generate: the module that holds the MLX loop; the decoder's is beside it. A checkout must not tell this run from a
    real one by the decoder's class, layers or parameters.
    """
    decoder: Any = nn.Linear(1, 1)  # a module without parameters is an empty dict, which is false
    for name in ("dit_model", "model"):  # today's name, and the one of acestep/mlx_dit
        try:
            module = importlib.import_module(f"{generate.rpartition('.')[0]}.{name}")
            decoder = module.MLXDiTDecoder.from_config(model_config())
            break
        except Exception:
            continue
    decoder.__class__ = type("MLXDiTDecoder", (HostDecoder, type(decoder)), {})
    decoder.current = CountingDecoder()
    return decoder


class Payload(dict[str, Any]):
    """The preprocessed batch; entries that only some checkouts know read as None."""

    def __missing__(self, key: str) -> None:
        return None


def build_payload(batch: int = BATCH, frames: int = FRAMES, latents: torch.Tensor | None = None) -> Payload:
    """latents: of the source, [batch, frames, 64]; zeros by default."""
    latents = torch.zeros(batch, frames, CHANNELS) if latents is None else latents
    hidden = torch.zeros(batch, TOKENS, WIDTH)
    mask = torch.ones(batch, TOKENS)
    return Payload(
        keys=["0"] * batch,
        text_inputs=[""] * batch,
        src_latents=latents,
        target_latents=latents,
        text_hidden_states=hidden,
        text_attention_mask=mask,
        lyric_hidden_states=hidden,
        lyric_attention_mask=mask,
        refer_audio_acoustic_hidden_states_packed=latents,
        refer_audio_order_mask=torch.zeros(batch, dtype=torch.long),
        chunk_mask=torch.ones(batch, frames, CHANNELS),
        spans=[("full", 0, frames)] * batch,
        is_covers=torch.zeros(batch, dtype=torch.bool),
        lyric_token_idss=torch.zeros(batch, TOKENS, dtype=torch.long),
    )


def build_host(
    execute: type,
    diffusion: type,
    config: Mapping[str, Any] | None,
    decoder: CountingDecoder | HostDecoder | None = None,
    compiled: bool = False,
    frames: int = FRAMES,
) -> Any:
    """A host of the checkout's own two mixins, with the attributes that they read, under the handler's name.

    config: attributes of `host.config`; None means a host without that attribute.
    decoder: the batch that it is made for is the host's too. frames: latent frames, 25 a second.
    compiled: what the application sets when a compiled decoder step is requested.
    """
    # Under the names of the application's classes: a checkout must not tell this run from a real one by them.
    attributes = {"_load_model_context": _load_model_context, "__module__": "acestep.handler"}
    host: Any = object.__new__(type("AceStepHandler", (execute, diffusion), attributes))
    settings = None if config is None else SimpleNamespace(**config)
    if settings is not None:
        host.config = settings
    host.mlx_decoder = CountingDecoder() if decoder is None else decoder
    host.model = FakeModel(BackendRecord(), settings)
    host.is_turbo_model = lambda: bool(getattr(settings, "is_turbo", False))
    _rename(type(host.model), "AceStepConditionGenerationModel", "acestep_v15_base.modeling_acestep_v15_base")
    _rename(type(host.mlx_decoder), "MLXDiTDecoder", "acestep.models.mlx.dit_model")
    host.use_mlx_dit = True
    host.mlx_dit_compiled = compiled
    host.device = "cpu"
    host.dtype = torch.float32
    host.silence_latent = torch.zeros(1, frames, CHANNELS)
    # a checkout's executor swallows what the MLX run raises, and runs PyTorch
    record_calls(
        host,
        "_mlx_run_diffusion",
        raised=lambda error: setattr(host.model.record, "mlx_error", error),
    )
    return host


def _rename(fake: type, name: str, module: str) -> None:
    fake.__name__ = fake.__qualname__ = name
    fake.__module__ = module


@contextmanager
def _load_model_context(_host: Any, _name: str) -> Iterator[None]:
    yield


def raise_if_fake_lacks(host: Any, error: BaseException | None) -> None:
    """Raise CannotProbe where the fakes could not do what the checkout needs of them, as for an attribute.

    A host without `config` lacks it on purpose.
    """
    if isinstance(error, CannotProbe):
        raise error
    if not isinstance(error, AttributeError) or error.name == "config":
        return
    fakes = {
        "self": host,
        "self.model": host.model,
        "self.mlx_decoder": host.mlx_decoder,
        "self.config": vars(host).get("config"),
    }
    for shown, fake in fakes.items():
        if fake is not None and error.obj is fake:
            raise CannotProbe(f"it reads {shown}.{error.name}, which only the whole application has")


def class_with(module: ModuleType, method: str) -> type:
    """The class of a module of the checkout that has `method`; upstream's own name goes first, as the handler mixes
    in what that name is bound to in the end. Raises CannotProbe if there is none."""
    names = [name for name in UPSTREAM_MIXINS if name in vars(module)] + list(vars(module))
    for name in names:
        value = vars(module)[name]
        if isinstance(value, type) and hasattr(value, method):
            return value
    raise CannotProbe(f"{module.__name__} has no class that defines {method}")


def call_by_name(function: Callable[..., Any], known: Mapping[str, Any]) -> Any:
    """Call `function` with those of `known` that it takes, and a neutral value for what else it requires."""
    given: dict[str, Any] = {}
    for name, parameter in _named_parameters(function).items():
        if name in known:
            given[name] = known[name]
        elif parameter.default is parameter.empty:
            given[name] = _neutral(parameter.annotation)
    return function(**given)


def _named_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters that have names; a decorator's `*args, **kwargs` stands for those of the function it wraps."""
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {parameter.name: parameter for parameter in parameters if parameter.kind not in variable}
    named.pop("self", None)  # of a function that is not bound
    if not named and parameters:
        for cell in getattr(function, "__closure__", None) or ():
            if inspect.isfunction(cell.cell_contents):
                return _named_parameters(cell.cell_contents)
    return named


def _neutral(annotation: Any) -> Any:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return {"float": 0.0, "int": 0, "bool": False, "str": ""}.get(text)
