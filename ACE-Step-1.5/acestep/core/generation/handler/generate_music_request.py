"""A request is checked whole before anything is loaded, read or written."""

import math
import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.audio_utils import AUDIO_FORMATS, MP3_BITRATES, MP3_SAMPLE_RATES
from acestep.constants import (
    MAX_BATCH_SIZE,
    MAX_GUIDANCE_SCALE,
    MAX_INFERENCE_STEPS,
    MAX_SHIFT,
    MIN_SHIFT,
)
from acestep.core.generation.handler.request_values import plain_list, plain_number, show
from acestep.core.generation.handler.task_utils import check_task
from acestep.core.generation.handler.upstream_fields import check_upstream_fields
from acestep.errors import RequestError

if TYPE_CHECKING:  # inference imports this module
    from acestep.inference import GenerationConfig, GenerationParams

MAX_SEED = 2**32 - 1
TEXTS = ("instruction", "caption", "lyrics", "vocal_language", "keyscale", "timesignature")
TO_THE_END = -1


def check_request(
    params: "GenerationParams", config: "GenerationConfig"
) -> tuple["GenerationParams", "GenerationConfig"]:
    """The request with plain Python numbers, src_audio as a text; RequestError for the first thing that is wrong."""
    return _plain_params(params), _plain_config(config)


def _plain_params(params: "GenerationParams") -> "GenerationParams":
    check_task(params.task_type)
    check_upstream_fields(params)
    if params.infer_method not in ("ode", "sde"):
        raise RequestError(f"infer_method is {show(params.infer_method)}, expected 'ode', or 'sde' on MLX")
    interval_start = _number("cfg_interval_start", params.cfg_interval_start, low=0.0, high=1.0)
    numbers = {
        "inference_steps": _number(
            "inference_steps", params.inference_steps, whole=True, low=1, high=MAX_INFERENCE_STEPS
        ),
        "shift": _shift(params.shift),
        "guidance_scale": _guidance_scale(params.guidance_scale),
        "cfg_interval_start": interval_start,
        "cfg_interval_end": _number(
            "cfg_interval_end", params.cfg_interval_end, low=interval_start, high=1.0
        ),
        "repainting_start": _number("repainting_start", params.repainting_start, low=0.0),
        "repainting_end": _repainting_end(params.repainting_end),
        "normalization_db": _number("normalization_db", params.normalization_db, low=-60, high=0),
        "bpm": None if params.bpm is None else _number("bpm", params.bpm, whole=True, low=30, high=300),
    }
    for name in TEXTS:
        _check_text(name, getattr(params, name))
    return replace(
        params,
        **numbers,
        timesteps=_timesteps(params.timesteps),
        enable_normalization=check_flag("enable_normalization", params.enable_normalization),
        src_audio=_context_path(params.src_audio),
    )


def _plain_config(config: "GenerationConfig") -> "GenerationConfig":
    size = 1 if config.batch_size is None else config.batch_size
    size = _number("batch_size", size, whole=True, low=1, high=MAX_BATCH_SIZE)
    random_seed = config.use_random_seed
    if random_seed is not None:
        random_seed = check_flag("use_random_seed", random_seed)
    audio_format = config.audio_format
    if isinstance(audio_format, str):
        audio_format = audio_format.strip().lower()
    _choice("audio_format", audio_format, tuple(AUDIO_FORMATS))
    if audio_format == "mp3":
        _choice("mp3_bitrate", config.mp3_bitrate, MP3_BITRATES)
        _choice("mp3_sample_rate", plain_number(config.mp3_sample_rate), MP3_SAMPLE_RATES)
    return replace(config, batch_size=size, use_random_seed=random_seed, audio_format=audio_format)


def _number(
    name: str, value: Any, *, whole: bool = False, low: float = -math.inf, high: float = math.inf
) -> Any:
    """The int or float within the bounds that a value is."""
    number = plain_number(value)
    is_finite = number is not None and abs(number) <= sys.float_info.max  # math.isfinite raises for 10**400
    if number is not None and is_finite and low <= number <= high and (not whole or isinstance(number, int)):
        return number
    expected = "a whole number" if whole else "a number"
    if high < math.inf:
        expected += f" from {low:.10g} to {high:.10g}"
    elif low > -math.inf:
        expected += f" of at least {low:g}"
    raise RequestError(f"{name} is {show(value)}, expected {expected}")


def _shift(value: Any) -> float:
    shift = plain_number(value)
    if shift is None or not 0 < shift < math.inf:
        raise RequestError(f"shift is {show(value)}, expected a number above 0")
    if not MIN_SHIFT <= shift <= MAX_SHIFT:
        raise RequestError(
            f"shift is {show(value)}; outside {MIN_SHIFT:g} to {MAX_SHIFT:g} the timesteps cannot be told apart: "
            f"give a value within, 1 is no shift"
        )
    return shift


def _guidance_scale(value: Any) -> float:
    scale = float(min(_number("guidance_scale", value, low=0.0), 2 * MAX_GUIDANCE_SCALE))
    if scale > MAX_GUIDANCE_SCALE:
        raise RequestError(
            f"guidance_scale is {show(value)}, out of range: give at most {MAX_GUIDANCE_SCALE:g}; 1 is no guidance"
        )
    if 0 < scale < 1:
        raise RequestError(
            f"guidance_scale is {scale:g}; between 0 and 1 it would have no effect: "
            f"give 1 for no guidance, or more than 1"
        )
    return scale


def _repainting_end(value: Any) -> float:
    if value is None:
        return TO_THE_END
    end = _number("repainting_end", value)
    if end <= 0 and end != TO_THE_END:
        raise RequestError(
            f"repainting_end is {show(value)}; give seconds above repainting_start, or -1 for the context's end"
        )
    return float(end)


def _timesteps(value: Any) -> list[float] | None:
    if value is None:
        return None
    numbers = [plain_number(entry) for entry in plain_list(value) or []]
    steps = [] if None in numbers else [number for number in numbers if number is not None]
    while steps and steps[-1] == 0:
        steps.pop()
    falls = all(a >= b for a, b in zip([1.0, *steps], [*steps, 0.0], strict=True))
    if not steps or not falls or len(steps) > MAX_INFERENCE_STEPS:
        raise RequestError(
            f"timesteps is {show(value)}, expected 1 to {MAX_INFERENCE_STEPS} numbers that fall from at most 1 to "
            f"above 0; zeros at the end are left out"
        )
    return [float(step) for step in steps]


def check_flag(name: str, value: Any) -> bool:
    """The bool that a value is; RequestError for anything but True, False, 1 and 0."""
    if isinstance(value, bool) or plain_number(value) in (0, 1) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise RequestError(f"{name} is {show(value)}, expected True or False")


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if not isinstance(value, (str, int, float)) or value not in choices:
        raise RequestError(f"{name} is {show(value)}, expected one of {', '.join(map(str, choices))}")


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{name} is {show(value)}, expected a text; '' is none")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"{name} holds {value[error.start]!a} at position {error.start}, which is not a character; "
            f"give valid Unicode text"
        ) from None


def _context_path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise RequestError(f"src_audio is {show(value)}; LEGO fits a stem to a context audio: give its path")
    return str(Path(value))


def resolve_seeds(params: "GenerationParams", config: "GenerationConfig") -> list[int]:
    """One seed for each item of the batch, of a request that `check_request` returned.

    use_random_seed True draws all of them. Otherwise config.seeds are taken, a single one or a sequence, and missing
    ones are drawn; without them params.seed and its successors; without that all are drawn, unless use_random_seed
    is False: then RequestError.
    """
    drawn = [random.randint(0, MAX_SEED) for _ in range(config.batch_size)]
    if config.use_random_seed:
        return drawn
    if config.seeds is not None:
        given = plain_list(config.seeds)
        if given is None:
            given = [config.seeds]
        if len(given) > config.batch_size:
            raise RequestError(
                f"{len(given)} seeds were given for a batch of {config.batch_size}; give at most one for each"
            )
        return [_seed(seed) for seed in given] + drawn[len(given) :]
    seed = _number("seed", params.seed, whole=True, low=-1, high=MAX_SEED)
    if seed >= 0:
        return [_seed(seed + i) for i in range(config.batch_size)]
    if config.use_random_seed is None:
        return drawn
    raise RequestError("use_random_seed is False and there is no seed; give config.seeds or params.seed")


def _seed(value: Any) -> int:
    return int(_number("seed", value, whole=True, low=0, high=MAX_SEED))
