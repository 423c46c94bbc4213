"""Counts decoder evaluations where they happen, in MLX and in PyTorch, and records what each was given and returned.

Runs inside the process that runs a checkout, under the checkout's own interpreter: beyond the standard library it
imports only what the checkout itself has loaded.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

INPUTS = ("hidden_states", "encoder_hidden_states", "context_latents")
DECODER_PARAMETERS = {"hidden_states", "timestep"}
TORCH_MATMULS = {
    "linear",
    "matmul",
    "__matmul__",
    "mm",
    "bmm",
    "addmm",
    "conv1d",
    "scaled_dot_product_attention",
}
HIDDEN = "the decoder's velocities are out of sight inside a compiled function"


def as_array(value: Any) -> np.ndarray:
    """An array of numpy or MLX or a PyTorch tensor, of any device and dtype, as a float32 array of its own memory."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return np.array(value, dtype=np.float32)
    if hasattr(value, "detach"):
        return np.array(value.detach().float().cpu().numpy())
    import mlx.core as mx

    return np.array(value.astype(mx.float32))


class Calls:
    """The evaluations of one decoder: their t in order, and the inputs of the first.

    A batch of twice `batch_size` holds the unconditional branch behind the conditional one; `first` has the latter.
    With a folder to record in, FOLDER/0.npy and so on hold float32 [2 or 3, batch, frames, channels]: latents,
    conditional velocity and, where there is one, the unconditional. not_recorded: why there are none, else None.
    """

    def __init__(self, batch_size: int, tell: Callable[[int], None] = lambda _: None) -> None:
        self._batch_size = batch_size
        self._tell = tell
        self._folder: Path | None = None
        self.inside = False
        self.start_over(None)

    def start_over(self, folder: Path | None) -> None:
        """Forgets the run before; `folder` is made and receives the steps of the next."""
        self.timesteps: list[float] = []
        self.first: dict[str, np.ndarray] = {}
        self.torch_matmuls = 0
        self.not_recorded: str | None = None
        self._folder = folder
        if folder is not None:
            folder.mkdir()

    def begin(self, inputs: Mapping[str, Any]) -> None:
        """An evaluation with these inputs begins; t is NaN where it cannot be seen."""
        if not self.timesteps:
            seen = {name: as_array(inputs[name]) for name in INPUTS if name in inputs}
            self.first = {name: array[: self._batch_size] for name, array in seen.items()}
        t = inputs.get("timestep")
        self.timesteps.append(math.nan if t is None else float(as_array(t).reshape(-1)[0]))
        self._tell(len(self.timesteps))

    def end(self, inputs: Mapping[str, Any], velocity: Any) -> None:
        """The evaluation that began last returned `velocity`, None where that cannot be seen."""
        if self._folder is None or self.not_recorded is not None:
            return
        if velocity is None or "hidden_states" not in inputs:
            self.not_recorded = HIDDEN
            return
        import numpy as np

        latents, velocities, size = as_array(inputs["hidden_states"]), as_array(velocity), self._batch_size
        branches = [velocities[start : start + size] for start in range(0, len(velocities), size)]
        try:
            np.save(
                self._folder / f"{len(self.timesteps) - 1}.npy", np.stack([latents[:size], *branches[:2]])
            )
        except (OSError, ValueError) as error:  # a full disk; shapes that are no latents and velocities
            self.not_recorded = str(error)


def named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their parameters' names."""
    if not args:
        return dict(kwargs)
    return inspect.signature(function).bind(*args, **kwargs).arguments


def first_of(result: Any) -> Any:
    """The velocity of what a decoder returns: alone, or with its cache behind it."""
    return result[0] if isinstance(result, (tuple, list)) else getattr(result, "sample", result)


def count_call(decoder: Any, plain: Callable[..., Any], calls: Calls, args: Any, kwargs: Any) -> Any:
    """Calls `plain` and notes one evaluation, unless it is called by another decoder's or traced by mx.compile.

    A trace is not an evaluation, and what it is given has no values. It only tells which arguments and results of
    the compiled callable are the decoder's.
    """
    if calls.inside:
        return plain(*args, **kwargs)
    inputs = named(decoder, args, kwargs)
    traced = WatchedStep.running[-1] if WatchedStep.running else None
    if traced is None:
        calls.begin(inputs)
    calls.inside = True
    try:
        with torch_matmuls_counted(calls):
            result = plain(*args, **kwargs)
    finally:
        calls.inside = False
    if traced is None:
        calls.end(inputs, first_of(result))
    else:
        traced.reached_decoder(inputs, first_of(result))
    return result


def torch_matmuls_counted(calls: Calls) -> Any:
    """A block in which PyTorch's matmuls are counted; an MLX decoder makes none, whatever tables it takes from it."""
    if "torch" not in sys.modules:
        return contextlib.nullcontext()
    from torch.overrides import TorchFunctionMode

    class Count(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            calls.torch_matmuls += getattr(func, "__name__", "") in TORCH_MATMULS
            return func(*args, **(kwargs or {}))

    return Count()


class WatchedStep:
    """A callable made by mx.compile; each of its calls is as many evaluations as its trace reached the decoder."""

    running: ClassVar[list[WatchedStep]] = []

    def __init__(self, function: Callable[..., Any], calls: Calls) -> None:
        self._function = function
        self._calls = calls
        self._traced: dict[Any, Any] = {}
        self._reached: list[tuple[dict[str, Any], Any]] = []
        self._returned: Any = None
        self.compiled: Callable[..., Any] = self.trace

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """What mx.compile is given in the function's place."""
        self._traced, self._reached = dict(enumerate(args)) | kwargs, []
        self._returned = self._function(*args, **kwargs)
        return self._returned

    def reached_decoder(self, inputs: Mapping[str, Any], velocity: Any) -> None:
        """The decoder was traced: notes which arguments of this callable are its inputs."""
        places = {
            name: place
            for name, value in inputs.items()
            for place, argument in self._traced.items()
            if value is argument
        }
        self._reached.append((places, velocity))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        WatchedStep.running.append(self)
        try:
            result = self.compiled(*args, **kwargs)
        finally:
            WatchedStep.running.pop()
        given: dict[Any, Any] = dict(enumerate(args)) | kwargs
        for places, velocity in self._reached:
            inputs = {name: given[place] for name, place in places.items()}
            self._calls.begin(inputs)
            is_result = first_of(self._returned) is velocity
            self._calls.end(inputs, first_of(result) if is_result else None)
        return result


def watch_compile(calls: Calls) -> None:
    """From now on mx.compile makes callables that are counted where they hold the decoder."""
    import mlx.core as mx

    plain = mx.compile

    def compile_watched(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> WatchedStep:
        step = WatchedStep(fun, calls)
        step.compiled = plain(step.trace, *args, **kwargs)
        return step

    mx.compile = compile_watched


class WatchedDecoder:
    """In place of an MLX decoder whose class cannot be changed: passes every call on and counts it."""

    def __init__(self, decoder: Any, calls: Calls) -> None:
        self._decoder = decoder
        self._calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return count_call(self._decoder, self._decoder, self._calls, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


def watch_mlx(decoder: Any, calls: Calls) -> Any:
    """Counts the calls of an MLX decoder and of a decoder that it holds, by whatever reference; returns the decoder.

    The classes are changed, not the object: a call through an attribute or an earlier reference is counted, too.
    """
    watch_compile(calls)
    parts = [part for part in parts_of(decoder) if parameters_of(part) >= DECODER_PARAMETERS]
    if not parameters_of(decoder):
        return WatchedDecoder(decoder, calls)
    for cls in {type(found) for found in (decoder, *parts)}:
        watch_class(cls, calls)
    return decoder


def watch_class(cls: Any, calls: Calls) -> None:
    """Every call of an object of this class is counted."""
    plain = cls.__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = plain.__get__(self)
        return count_call(bound, bound, calls, args, kwargs)

    cls.__call__ = counted


def parts_of(decoder: Any) -> Iterable[Any]:
    """What a decoder holds; an MLX module is a dict of it."""
    held = dict(vars(decoder)) if hasattr(decoder, "__dict__") else {}
    return [*held.values(), *(decoder.values() if isinstance(decoder, dict) else ())]


def parameters_of(value: Any) -> set[str]:
    """The parameters of a call of an object whose class is written in Python; none of any other."""
    call = inspect.getattr_static(type(value), "__call__", None)
    return set(inspect.signature(call).parameters) if inspect.isfunction(call) else set()


def watch_torch(decoder: Any, calls: Calls) -> None:
    """Hooks PyTorch's decoder."""

    def begin(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.begin(named(module.forward, args, kwargs))

    def end(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        calls.end(named(module.forward, args, kwargs), first_of(result))

    decoder.register_forward_pre_hook(begin, with_kwargs=True)
    decoder.register_forward_hook(end, with_kwargs=True)
