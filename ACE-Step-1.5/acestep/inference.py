"""The public API: GenerationParams, GenerationConfig, generate_music.

Field names are upstream's, so that the same calling code drives this fork or a checkout. Where a default of
upstream's would hurt LEGO, it differs, and the fork's README lists it.
"""

import math
import random
import sys
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from acestep.constants import MAX_BATCH_SIZE, MAX_INFERENCE_STEPS
from acestep.core.generation.handler.task_utils import check_task
from acestep.errors import AceStepError, OutputError, RequestError

AUDIO_FORMATS = {"wav": ("wav", "PCM_16"), "wav32": ("wav", "FLOAT"), "flac": ("flac", "PCM_24")}
MAX_SEED = 2**32 - 1
TEXTS = ("instruction", "caption", "lyrics", "vocal_language", "keyscale", "timesignature")


@dataclass
class GenerationParams:
    """One LEGO request.

    inference_steps: decoder evaluations, 1 to 1000, each of them run; guidance_scale: 0 or 1 is off, above 1
    runs APG; cfg_interval_start/end: the values of t between which guidance acts; shift: above 0, 1 is none;
    timesteps: custom schedule, falling from at most 1, used as it is in place of inference_steps and shift;
    repainting_start/end: seconds of the context to generate in, end below 0: to its end; duration is the
    context's. instruction: `handler.generate_instruction("lego", track_name=...)`.
    """

    task_type: str = "lego"
    instruction: str = ""
    src_audio: str | None = None
    caption: str = ""
    lyrics: str = ""
    vocal_language: str = "unknown"
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    inference_steps: int = 8
    guidance_scale: float = 1.0
    cfg_interval_start: float = 0.0
    cfg_interval_end: float = 1.0
    shift: float = 1.0
    infer_method: str = "ode"
    timesteps: list[float] | None = None
    repainting_start: float = 0.0
    repainting_end: float = -1.0
    seed: int = -1
    enable_normalization: bool = True
    normalization_db: float = -1.0
    thinking: bool = False
    use_cot_metas: bool = False
    use_cot_caption: bool = False
    use_cot_language: bool = False


@dataclass
class GenerationConfig:
    """Batch, seeds and file format. Seeds: `seeds`, one an item; else `params.seed` for the first and its
    successors for the rest; random ones where use_random_seed asks for them."""

    batch_size: int = 1
    use_random_seed: bool = True
    seeds: list[int] | None = None
    audio_format: str = "flac"


@dataclass
class GenerationResult:
    """What came of a request.

    audios: a dict for each stem with `tensor` (float32 [2, samples]), `sample_rate`, `seed`, `path` (None where
    nothing was saved), `peak`, `rms` and the share of
    `clipped` samples before any gain, the `gain` applied since. extra_outputs: `time_costs` (keys
    prefixed dit_), `timesteps`, `context_audio`, and the tensors that both backends can be compared on: `noise`,
    `context_latents`, `encoder_hidden_states`, `encoder_attention_mask`, `null_condition_emb`, `target_latents`.
    """

    audios: list[dict[str, Any]] = field(default_factory=list)
    status_message: str = ""
    extra_outputs: dict[str, Any] = field(default_factory=dict)
    success: bool = True
    error: str | None = None
    exception: AceStepError | None = None


def check_request(params: GenerationParams, config: GenerationConfig) -> None:
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


def _check_unsupported(params: GenerationParams) -> None:
    for name in ("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language"):
        if getattr(params, name):
            raise RequestError(
                f"{name} is True; this fork has no language model, and with one a LEGO request would lose its "
                f"context audio: give False"
            )
    if params.infer_method != "ode":
        raise RequestError(f"infer_method is {params.infer_method!r}, this fork runs 'ode' only")


def resolve_seeds(params: GenerationParams, config: GenerationConfig) -> list[int]:
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


def normalization_gain(params: GenerationParams, peak: float) -> float:
    """The factor that brings a stem's peak to normalization_db; 1 where that is off."""
    if not params.enable_normalization or peak == 0:
        return 1.0
    return float(10 ** (params.normalization_db / 20) / peak)


def save_audio(samples: np.ndarray, rate: int, folder: Path, name: str, audio_format: str) -> Path:
    """Writes [channels, samples] whole or not at all: under another name first, then moved into place."""
    extension, subtype = AUDIO_FORMATS[audio_format]
    path = folder / f"{name}.{extension}"
    unfinished = folder / f".{name}.{uuid.uuid4().hex}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            soundfile.write(unfinished, samples.T, rate, subtype=subtype, format=extension.upper())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, soundfile.SoundFileError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"the stem cannot be written below {folder} ({reason}); give a folder that can be written to"
        ) from None
    return path


def _finish_stems(
    outputs: dict[str, Any],
    seeds: list[int],
    params: GenerationParams,
    config: GenerationConfig,
    save_dir: str | Path | None,
) -> list[dict[str, Any]]:
    """Normalises and saves; `GenerationResult` says what a stem's dict holds."""
    stems = []
    for audio, levels, seed in zip(outputs["audios"], outputs["levels"], seeds, strict=True):
        key, rate = uuid.uuid4().hex, outputs["sample_rate"]
        gain = normalization_gain(params, audio.abs().max().item())
        tensor, path = audio * gain, None
        if save_dir is not None:
            path = str(save_audio(tensor.numpy(), rate, Path(save_dir), key, config.audio_format))
        stems.append(
            {
                "key": key,
                "tensor": tensor,
                "sample_rate": rate,
                "seed": seed,
                "path": path,
                "peak": levels.peak,
                "rms": levels.rms,
                "clipped": levels.clipped,
                "gain": gain / max(1.0, levels.peak),
                "params": asdict(params),
            }
        )
    return stems


def generate_music(
    dit_handler: Any,
    llm_handler: None,
    params: GenerationParams,
    config: GenerationConfig,
    save_dir: str | Path | None = None,
    progress: Callable[..., Any] | None = None,
) -> GenerationResult:
    """Generates one stem for each seed and saves them below save_dir, where one is given.

    llm_handler is None: LEGO uses no language model. progress is called as progress(fraction, desc=...).
    A refusal or a failure comes back as `success=False` with the sentence in `error`.
    """
    tell = progress or (lambda *_, **__: None)
    try:
        check_request(params, config)
        if llm_handler is not None:
            raise RequestError("a language model was given; LEGO uses none: give None as llm_handler")
        seeds = resolve_seeds(params, config)
        tell(0.0, desc="Reading and encoding the context")
        outputs = dit_handler.generate_music(
            src_audio=params.src_audio,
            instruction=params.instruction or dit_handler.generate_instruction("lego"),
            caption=params.caption,
            lyrics=params.lyrics,
            vocal_language=params.vocal_language,
            bpm=params.bpm,
            keyscale=params.keyscale,
            timesignature=params.timesignature,
            infer_steps=params.inference_steps,
            guidance_scale=float(params.guidance_scale),
            seeds=seeds,
            repainting_start=params.repainting_start,
            repainting_end=params.repainting_end,
            cfg_interval_start=params.cfg_interval_start,
            cfg_interval_end=params.cfg_interval_end,
            shift=params.shift,
            infer_method=params.infer_method,
            timesteps=params.timesteps,
        )
        audios = _finish_stems(outputs, seeds, params, config, save_dir)
    except AceStepError as error:
        return GenerationResult(success=False, error=str(error), status_message=str(error), exception=error)

    tell(1.0, desc="Done")
    kept = {key: value for key, value in outputs.items() if key not in ("audios", "levels", "sample_rate")}
    kept["time_costs"] = {f"dit_{key}": value for key, value in outputs["time_costs"].items()}
    steps = len(outputs["timesteps"])
    return GenerationResult(
        audios=audios, extra_outputs=kept, status_message=f"{len(audios)} stem(s) generated in {steps} steps"
    )
