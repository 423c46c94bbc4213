"""Counts decoder evaluations where they happen, in MLX and in PyTorch, and keeps what the first one was given.

Runs inside the process that runs a tree, under the tree's own interpreter: beyond the standard library it imports
only what the tree itself has loaded.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np

DECODING = "_decode_generate_music_pred_latents"
INPUTS = ("hidden_states", "encoder_hidden_states", "context_latents")


def as_array(value: Any) -> np.ndarray:
    """A PyTorch tensor or an MLX array, of any device and dtype, as a float32 array of its own memory."""
    import numpy as np

    if hasattr(value, "detach"):
        return np.array(value.detach().float().cpu().numpy())
    import mlx.core as mx

    return np.array(value.astype(mx.float32))


class Calls:
    """The evaluations of one decoder: their t in order, and the inputs of the first.

    A batch of twice `batch_size` holds the guided branch behind the plain one; the plain one is kept.
    """

    def __init__(self, batch_size: int, tell: Callable[[int], None] = lambda _: None) -> None:
        self._batch_size = batch_size
        self._tell = tell
        self.timesteps: list[float] = []
        self.first: dict[str, np.ndarray] = {}

    def note(self, inputs: Mapping[str, Any]) -> None:
        """One evaluation with these inputs; t is NaN where it cannot be seen."""
        if not self.timesteps:
            seen = {name: as_array(inputs[name]) for name in INPUTS if name in inputs}
            self.first = {name: array[: self._batch_size] for name, array in seen.items()}
        t = inputs.get("timestep")
        self.timesteps.append(math.nan if t is None else float(as_array(t).reshape(-1)[0]))
        self._tell(len(self.timesteps))


def named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their parameters' names."""
    if not args:
        return dict(kwargs)
    return inspect.signature(function).bind(*args, **kwargs).arguments


class WatchedDecoder:
    """Stands where a handler has its MLX decoder: passes every call on and notes it, unless mx.compile traces.

    A trace is not an evaluation, and what it is given has no values. It only tells which arguments of the
    compiled callable are the decoder's.
    """

    def __init__(self, decoder: Any, calls: Calls) -> None:
        self._decoder = decoder
        self._calls = calls

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = named(self._decoder, args, kwargs)
        if WatchedStep.running:
            WatchedStep.running[-1].traces_decoder(inputs)
        else:
            self._calls.note(inputs)
        return self._decoder(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


class WatchedStep:
    """A callable made by mx.compile; its calls are evaluations if the decoder was seen inside its trace."""

    running: ClassVar[list[WatchedStep]] = []

    def __init__(self, function: Callable[..., Any], calls: Calls) -> None:
        self._function = function
        self._calls = calls
        self._traced: dict[Any, Any] = {}
        self._places: dict[str, Any] | None = None
        self.compiled: Callable[..., Any] = self.trace

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """What mx.compile is given in the function's place."""
        self._traced = dict(enumerate(args)) | kwargs
        return self._function(*args, **kwargs)

    def traces_decoder(self, inputs: Mapping[str, Any]) -> None:
        """The decoder was reached with `inputs`: notes which arguments of this callable they are."""
        self._places = {
            name: place
            for name, value in inputs.items()
            for place, argument in self._traced.items()
            if value is argument
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        WatchedStep.running.append(self)
        try:
            result = self.compiled(*args, **kwargs)
        finally:
            WatchedStep.running.pop()
        if self._places is not None:
            given: dict[Any, Any] = dict(enumerate(args)) | kwargs
            self._calls.note({name: given[place] for name, place in self._places.items()})
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


def watch_torch(decoder: Any, calls: Calls) -> None:
    """Hooks PyTorch's decoder."""

    def note(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.note(named(module.forward, args, kwargs))

    decoder.register_forward_pre_hook(note, with_kwargs=True)


class Watched:
    """All that is watched on a loaded handler, for a run of `batch_size` stems on MLX or on PyTorch.

    evaluating: is called with the number of evaluations so far; decoding: when the latents are about to become sound.
    """

    def __init__(
        self,
        handler: Any,
        batch_size: int,
        on_mlx: bool,
        evaluating: Callable[[int], None] = lambda _: None,
        decoding: Callable[[], None] = lambda: None,
    ) -> None:
        self.mlx, self.torch = Calls(batch_size, evaluating), Calls(batch_size, evaluating)
        self.failures: list[str] = []
        self._waves: list[np.ndarray] = []
        if on_mlx and handler.mlx_decoder is not None:
            watch_compile(self.mlx)
            handler.mlx_decoder = WatchedDecoder(handler.mlx_decoder, self.mlx)
        if getattr(handler.model, "decoder", None) is not None:
            watch_torch(handler.model.decoder, self.torch)
        watch_failure(handler, self.failures)
        watch_decoded(handler, self._waves)
        watch_decoding(handler, decoding)

    def start_over(self) -> None:
        """Forgets the run that was, for the next one on the same handler."""
        for calls in (self.mlx, self.torch):
            calls.timesteps, calls.first = [], {}
        self.failures.clear()
        self._waves.clear()

    def tensors(self, outputs: Mapping[str, Any], null_condition_emb: Any) -> dict[str, np.ndarray]:
        """What the run started from and ended in, of the decoder that ran to the end; KeyError for what it hid."""
        first = (self.torch if self.torch.timesteps else self.mlx).first
        # Upstream's own target_latents are those of the context.
        latents = outputs["pred_latents"] if "pred_latents" in outputs else outputs["target_latents"]
        return {
            "noise": first["hidden_states"],
            "context_latents": first["context_latents"],
            "encoder_hidden_states": first["encoder_hidden_states"],
            "null_condition_emb": as_array(null_condition_emb),
            "target_latents": as_array(latents),
        }

    def levels(self, stem: Mapping[str, Any]) -> dict[str, float]:
        """Peak, root mean square and clipped share before any gain, and the gain.

        A tree that says nothing of them is measured where its VAE decodes, or at the stem where that is hidden.
        """
        if "rms" in stem:
            return {name: stem[name] for name in ("peak", "rms", "clipped", "gain")}
        final = as_array(stem["tensor"])
        raw = self._waves[-1] if self._waves else final
        peak = float(abs(raw).max())
        return {
            "peak": peak,
            "rms": float((raw.astype("float64") ** 2).mean() ** 0.5),
            "clipped": float((abs(raw) > 1.0).mean()),
            "gain": float(abs(final).max()) / peak if peak else 1.0,
        }


def watch_failure(handler: Any, reasons: list[str]) -> None:
    """Keeps why the handler's MLX path failed, which a tree that falls back to PyTorch may not say."""
    run = getattr(handler, "_mlx_run_diffusion", None)
    if run is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except Exception as error:
            reasons.append(first_line(error))
            raise

    handler._mlx_run_diffusion = watched


def first_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def watch_decoding(handler: Any, decoding: Callable[[], None]) -> None:
    """Calls `decoding` before the handler decodes; never, where it does so elsewhere."""
    decode = getattr(handler, DECODING, None)
    if decode is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        decoding()
        return decode(*args, **kwargs)

    setattr(handler, DECODING, watched)


def watch_decoded(handler: Any, waves: list[np.ndarray]) -> None:
    """Keeps what the VAE decodes, before the tree makes it louder or quieter; nothing where it decodes elsewhere."""
    decode = getattr(handler, "tiled_decode", None)
    if decode is None:
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = decode(*args, **kwargs)
        waves.append(as_array(result))
        return result

    handler.tiled_decode = watched
