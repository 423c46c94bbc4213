"""Counts the evaluations of a checkout's own decoder where they happen, in MLX and in PyTorch.

Inside whatever wraps the decoder: mx.compile, an object that holds it, an earlier reference to it. Runs under the
checkout's own interpreter: beyond the standard library it imports only what the checkout itself has loaded.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from .evaluations import Calls
from .recorders import named

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
        evaluate(inputs.get("hidden_states"))
    calls.inside = True
    try:
        with torch_matmuls_counted(calls):
            result = plain(*args, **kwargs)
    finally:
        calls.inside = False
    if traced is None:
        calls.not_by_mlx += not computed_by_mlx(first_of(result), inputs.get("hidden_states"))
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


def evaluate(latents: Any) -> None:
    """Computes an array of MLX now: the graph of what follows from it is then one evaluation's alone."""
    import mlx.core as mx

    if isinstance(latents, mx.array):
        mx.eval(latents)


def computed_by_mlx(velocity: Any, latents: Any) -> bool:
    """Whether a velocity follows from the latents by operations of MLX; true where the latents cannot be seen.

    Not so where the latents left MLX (for PyTorch in any form, numpy, another thread or program) and the velocity came
    back as numbers, and where a decoder evaluates its own arrays: MLX forgets then what they were computed from.
    """
    import mlx.core as mx

    if not isinstance(latents, mx.array):
        return True
    if not isinstance(velocity, mx.array):
        return False
    graph = io.StringIO()
    mx.export_to_dot(graph, velocity=velocity, latents=latents)
    return '"latents" -> ' in graph.getvalue()


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
