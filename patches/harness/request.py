"""One LEGO request to a checkout's public API, and a record of what it made the fake models do."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import torch

from .application import Application
from .arrays import as_array, one_timestep
from .imports import CannotProbe
from .models import BackendRecord, model_config
from .recorders import record_calls

INSTRUCTION = "Generate the VOCALS track based on the audio context:"
# What every request sends unless it says otherwise, so that one defect does not show in the checks of others.
NEUTRAL = {
    "guidance_scale": 1.0,
    "thinking": False,
    "use_cot_metas": False,
    "use_cot_caption": False,
    "use_cot_language": False,
    "dcw_enabled": False,
}

MlxVelocity = Callable[[Any, Any], Any]


@dataclass
class RequestRecord(BackendRecord):
    """What one request made the fakes see, and what its caller was told.

    prompts: every text that reached the tokenizer. kwargs: the keywords built for both backends. context: the context
    latents that the decoder got, float32 [batch, frames, 128], None if it never ran. timesteps: one for each decoder
    evaluation. batches: rows of each evaluation. states: the hidden states [batch, frames, 64] of the first and the
    last evaluation. latents: what the MLX run returned, [batch, frames, 64]; None if it did not return. success,
    error, result: what `generate_music` returned or raised.
    """

    prompts: list[str] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    context: torch.Tensor | None = None
    timesteps: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)
    latents: torch.Tensor | None = None
    success: bool = False
    error: str = ""
    result: Any = None

    @property
    def recorded_steps(self) -> Any:
        """The step count in the first stem's own record; None where there is no such record."""
        stems = getattr(self.result, "audios", None) or [{}]
        return (stems[0].get("params") or {}).get("inference_steps")

    def require_decoder(self) -> None:
        """Raises CannotProbe, with the reason, where the request ended before the MLX decoder was called."""
        if not self.timesteps:
            raise CannotProbe(self.why_not_run())

    def refuses(self, option: str) -> bool:
        """Whether the request ended with an error that names this option, before any backend ran."""
        ran = bool(self.timesteps) or self.pytorch_ran
        return not self.success and not ran and option.lower() in self.error.lower()

    def require_latents(self) -> torch.Tensor:
        """What the MLX run returned. Raises CannotProbe, with the reason, where it did not return."""
        if self.latents is None:
            raise CannotProbe(self.why_not_run())
        return self.latents

    def why_not_run(self) -> str:
        reason = self.error or (self.mlx_error and repr(self.mlx_error)) or "no error was reported"
        return f"a LEGO request ends before the decoder: {shorten(reason)}"


class RecordingDecoder:
    """The MLX decoder: records what it is given, and returns the velocity, zero by default.

    `velocity` is called with the hidden states and the timestep [rows] as mlx arrays. `failure` is raised instead.
    """

    def __init__(
        self, record: RequestRecord, velocity: MlxVelocity | None = None, failure: Exception | None = None
    ) -> None:
        self.record, self.velocity, self.failure = record, velocity, failure

    def __call__(
        self, hidden_states: Any, timestep: Any, *_: Any, cache: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        if self.failure is not None:
            raise self.failure
        record, t = self.record, one_timestep(timestep)
        if record.context is None and kwargs.get("context_latents") is not None:
            record.context = _tensor(kwargs["context_latents"])
        record.timesteps.append(t)
        record.batches.append(hidden_states.shape[0])
        record.states[1:] = [_tensor(hidden_states)]
        if self.velocity is None:
            return mx.zeros_like(hidden_states), cache
        return self.velocity(hidden_states, timestep), cache


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(as_array(array))


@dataclass
class PreparedRequest:
    """A request that has not run yet: a caller may change `handler`, and run it in another thread."""

    record: RequestRecord
    handler: Any
    run: Callable[[], None]


def prepare_request(
    application: Application,
    *,
    seconds: float = 6.0,
    instruction: str | None = INSTRUCTION,
    seeds: Sequence[int] | None = (42,),
    plain: bool = False,
    velocity: MlxVelocity | None = None,
    failure: Exception | None = None,
    config: Any = None,
    language_model: Any = None,
    **params: Any,
) -> PreparedRequest:
    """A LEGO request of 4 steps for a context of so many seconds, with a batch item for each of `seeds`.

    `instruction` None leaves the field at the checkout's default; `seeds` None gives none and turns random ones off.
    `plain` leaves out NEUTRAL, so that the checkout's own defaults hold. `velocity` and `failure` are those of
    RecordingDecoder. `params` are fields of GenerationParams; those that the checkout does not have are left out.
    """
    record, inference = RequestRecord(), application.inference
    handler = application.handler(record, seconds, config or model_config())
    handler.mlx_decoder = RecordingDecoder(record, velocity, failure)
    _record_calls(handler, record)
    fields = {"task_type": "lego", "src_audio": "context.wav", "inference_steps": 4}
    fields |= {**({} if plain else NEUTRAL), **params}
    if instruction is not None:
        fields["instruction"] = instruction
    generation_params = _build(inference.GenerationParams, fields)
    settings: dict[str, Any] = {"batch_size": len(seeds or [0]), "use_random_seed": False}
    settings["seeds"] = None if seeds is None else list(seeds)
    generation_config = _build(inference.GenerationConfig, settings)

    def run() -> None:
        gc.freeze()  # upstream collects garbage twice in each request, 0.1 s each time over all imported modules
        try:
            record.result = inference.generate_music(
                handler, language_model, generation_params, generation_config, save_dir=None
            )
        except Exception as error:
            record.error = f"{type(error).__name__}: {error}"
            return
        record.success = bool(getattr(record.result, "success", True))
        message = getattr(record.result, "error", None) or getattr(record.result, "status_message", "")
        record.error = "" if record.success else str(message)

    return PreparedRequest(record, handler, run)


def run_request(application: Application, **request: Any) -> RequestRecord:
    """Prepares a request as `prepare_request` does, and runs it."""
    prepared = prepare_request(application, **request)
    prepared.run()
    return prepared.record


def _record_calls(handler: Any, record: RequestRecord) -> None:
    """Records the keywords for the backends, what the MLX run returned, and what it raised."""

    def ran(result: Any) -> None:
        record.latents = torch.as_tensor(result["target_latents"])

    record_calls(
        handler, "_build_service_generate_kwargs", returned=lambda kwargs: setattr(record, "kwargs", kwargs)
    )
    record_calls(
        handler, "_mlx_run_diffusion", returned=ran, raised=lambda error: setattr(record, "mlx_error", error)
    )


def _build(kind: Any, values: dict[str, Any]) -> Any:
    """A `kind` with those of `values` that it has fields for; the others keep the checkout's defaults."""
    known = getattr(kind, "__dataclass_fields__", values)
    return kind(**{name: value for name, value in values.items() if name in known})


def shorten(text: object) -> str:
    """One line of at most 160 characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= 160 else f"{line[:157]}..."
