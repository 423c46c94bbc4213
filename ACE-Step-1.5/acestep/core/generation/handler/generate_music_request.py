"""A request is checked whole before anything is loaded, read or written."""

import math
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.audio_utils import AUDIO_FORMATS
from acestep.constants import MAX_BATCH_SIZE, MAX_INFERENCE_STEPS
from acestep.core.generation.handler.task_utils import check_task
from acestep.errors import RequestError

if TYPE_CHECKING:  # inference imports this module
    from acestep.inference import GenerationConfig, GenerationParams

MAX_SEED = 2**32 - 1
TEXTS = ("instruction", "caption", "lyrics", "vocal_language", "keyscale", "timesignature")


def check_request(params: "GenerationParams", config: "GenerationConfig") -> None:
    """RequestError, in one sentence, for the first thing that is wrong with a request."""
    check_task(params.task_type)
    _check_unsupported(params)
    _check_number("inference_steps", params.inference_steps, whole=True, low=1, high=MAX_INFERENCE_STEPS)
    _check_number("shift", params.shift, low=0.0, above=True)
    _check_number("guidance_scale", params.guidance_scale, low=0.0)
    if 0 < params.guidance_scale < 1:
        raise RequestError(
            f"guidance_scale is {params.guidance_scale:g}; between 0 and 1 it would have no effect: "
            f"give 1 for no guidance, or more than 1"
        )
    _check_number("cfg_interval_start", params.cfg_interval_start, low=0.0, high=1.0)
    _check_number("cfg_interval_end", params.cfg_interval_end, low=params.cfg_interval_start, high=1.0)
    _check_number("repainting_start", params.repainting_start, low=0.0)
    _check_number("repainting_end", params.repainting_end)
    _check_timesteps(params.timesteps)
    _check_number("normalization_db", params.normalization_db, low=-60, high=0)
    _check_number("batch_size", config.batch_size, whole=True, low=1, high=MAX_BATCH_SIZE)
    if params.bpm is not None:
        _check_number("bpm", params.bpm, whole=True, low=30, high=300)
    if config.audio_format not in AUDIO_FORMATS:
        raise RequestError(
            f"audio_format is {config.audio_format!r}, expected one of {', '.join(AUDIO_FORMATS)}"
        )
    for name in TEXTS:
        if not isinstance(getattr(params, name), str):
            raise RequestError(f"{name} is {getattr(params, name)!r}, expected a text; '' is none")
    if not isinstance(params.src_audio, (str, Path)):
        raise RequestError(
            f"src_audio is {params.src_audio!r}; LEGO fits a stem to a context audio: give its path"
        )


def _check_number(
    name: str,
    value: Any,
    *,
    whole: bool = False,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
) -> None:
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    is_finite = is_number and abs(value) <= sys.float_info.max  # math.isfinite raises for 10**400
    if is_finite and low <= value <= high and not (above and value == low):
        return
    expected = "a whole number" if whole else "a number"
    if high < math.inf:
        expected += f" from {low:.10g} to {high:.10g}"
    elif low > -math.inf:
        expected += f" above {low:g}" if above else f" of at least {low:g}"
    raise RequestError(f"{name} is {value!r}, expected {expected}")


def _check_timesteps(timesteps: Any) -> None:
    if timesteps is None:
        return
    are_numbers = isinstance(timesteps, (list, tuple)) and all(isinstance(t, (int, float)) for t in timesteps)
    values = list(timesteps) if are_numbers else []
    while values and values[-1] == 0:
        values.pop()
    falls = all(a >= b for a, b in zip([1.0, *values], [*values, 0.0], strict=True))
    if not values or not falls or len(values) > MAX_INFERENCE_STEPS:
        raise RequestError(
            f"timesteps is {timesteps!r}, expected 1 to {MAX_INFERENCE_STEPS} numbers that fall from at most 1 to "
            f"above 0; zeros at the end are left out"
        )


def _check_unsupported(params: "GenerationParams") -> None:
    for name in ("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language"):
        if getattr(params, name):
            raise RequestError(
                f"{name} is True; this fork has no language model, and with one a LEGO request would lose its "
                f"context audio: give False"
            )
    if params.infer_method not in ("ode", "sde"):
        raise RequestError(f"infer_method is {params.infer_method!r}, expected 'ode', or 'sde' on MLX")


def resolve_seeds(params: "GenerationParams", config: "GenerationConfig") -> list[int]:
    """One seed for each item of the batch; RequestError where none was given and none may be drawn."""
    if config.use_random_seed:
        return [random.randint(0, MAX_SEED) for _ in range(config.batch_size)]
    seeds = config.seeds
    if seeds is None:
        _check_number("seed", params.seed, whole=True, low=-1, high=MAX_SEED)
        if params.seed < 0:
            raise RequestError(
                "use_random_seed is False and there is no seed; give config.seeds or params.seed"
            )
        seeds = [params.seed + i for i in range(config.batch_size)]
    if not isinstance(seeds, list):
        raise RequestError(f"seeds is {seeds!r}, expected a list of whole numbers")
    if len(seeds) != config.batch_size:
        raise RequestError(
            f"{len(seeds)} seeds were given for a batch of {config.batch_size}; give one for each"
        )
    for seed in seeds:
        _check_number("seed", seed, whole=True, low=0, high=MAX_SEED)
    return list(seeds)
