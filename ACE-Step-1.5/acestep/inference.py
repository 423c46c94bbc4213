"""The public API: GenerationParams, GenerationConfig, generate_music.

Field names are upstream's, so that the same calling code drives this fork or a checkout. Where a default of
upstream's would hurt LEGO, it differs, and the fork's README lists it.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from acestep.core.generation.handler.generate_music_request import check_request, resolve_seeds
from acestep.core.generation.handler.request_values import show
from acestep.errors import AceStepError, BackendError, RequestError
from acestep.generation_progress import Progress
from acestep.stems import finish_stems


@dataclass
class GenerationParams:
    """One LEGO request. The fields are upstream's, in upstream's order.

    inference_steps: decoder evaluations, 1 to 1000, each of them run; guidance_scale: 0 or 1 is off, above 1
    runs APG; cfg_interval_start/end: the values of t between which guidance acts; shift: above 0, 1 is none;
    timesteps: custom schedule, falling from at most 1, used as it is in place of inference_steps and shift;
    repainting_start/end: seconds of the context to generate in, end -1: to its end.
    instruction: `handler.generate_instruction("lego", track_name=...)`.
    Numbers may be Python's, numpy's or PyTorch's. A field that this fork has no code for is refused by name, unless
    its value is the default or turns it off; the README lists the fields that have no effect on LEGO upstream either.
    """

    task_type: str = "lego"
    instruction: str = ""
    reference_audio: str | None = None
    src_audio: str | Path | None = None
    audio_codes: str = ""
    caption: str = ""
    global_caption: str = ""
    lyrics: str = ""
    instrumental: bool = False
    vocal_language: str = "unknown"
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    duration: float = -1.0
    enable_normalization: bool = True
    normalization_db: float = -1.0
    fade_in_duration: float = 0.0
    fade_out_duration: float = 0.0
    latent_shift: float = 0.0
    latent_rescale: float = 1.0
    inference_steps: int = 8
    seed: int = -1
    guidance_scale: float = 1.0
    use_adg: bool = False
    cfg_interval_start: float = 0.0
    cfg_interval_end: float = 1.0
    shift: float = 1.0
    infer_method: str = "ode"
    sampler_mode: str = "euler"
    velocity_norm_threshold: float = 0.0
    velocity_ema_factor: float = 0.0
    dcw_enabled: bool | None = None
    dcw_mode: str = "double"
    dcw_scaler: float = 0.05
    dcw_high_scaler: float = 0.02
    dcw_wavelet: str = "haar"
    timesteps: list[float] | None = None
    repainting_start: float = 0.0
    repainting_end: float = -1.0
    chunk_mask_mode: str = "auto"
    repaint_latent_crossfade_frames: int = 10
    repaint_wav_crossfade_sec: float = 0.0
    repaint_mode: str = "balanced"
    repaint_strength: float = 0.5
    retake_seed: str | int | None = None
    retake_variance: float = 0.0
    flow_edit_morph: bool = False
    flow_edit_source_caption: str = ""
    flow_edit_source_lyrics: str = ""
    flow_edit_n_min: float = 0.0
    flow_edit_n_max: float = 1.0
    flow_edit_n_avg: int = 1
    audio_cover_strength: float = 1.0
    cover_noise_strength: float = 0.0
    thinking: bool = False
    lm_temperature: float = 0.85
    lm_cfg_scale: float = 2.0
    lm_top_k: int = 0
    lm_top_p: float = 0.9
    lm_negative_prompt: str = "NO USER INPUT"
    use_cot_metas: bool = False
    use_cot_caption: bool = False
    use_cot_lyrics: bool = False
    use_cot_language: bool = False
    use_constrained_decoding: bool = True
    cot_bpm: int | None = None
    cot_keyscale: str = ""
    cot_timesignature: str = ""
    cot_duration: float | None = None
    cot_vocal_language: str = "unknown"
    cot_caption: str = ""
    cot_lyrics: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass
class GenerationConfig:
    """Batch, seeds and file format. The fields are upstream's, in upstream's order.

    seeds: one or a sequence, for the first items of the batch; missing ones are random. Without seeds,
    params.seed for the first item and its successors for the rest. use_random_seed: None, the default, draws seeds
    where none are given; True draws all of them, whatever is given, as upstream does; False draws only missing ones.
    audio_format: wav, wav32, flac, mp3 or opus; the mp3_ fields are for mp3 alone.
    """

    batch_size: int = 1
    allow_lm_batch: bool = False
    use_random_seed: bool | None = None
    seeds: int | list[int] | None = None
    lm_batch_chunk_size: int = 8
    constrained_decoding_debug: bool = False
    audio_format: str = "flac"
    mp3_bitrate: str = "128k"
    mp3_sample_rate: int = 48000

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


@dataclass
class GenerationResult:
    """The result of a request.

    audios: a dict for each stem with `audio` (float32 [2, samples], numpy), `tensor` (the same as a PyTorch tensor,
    made when it is read), `sample_rate`, `seed`, `path` (None where nothing was saved), `peak`, `rms` and the share of
    `clipped` samples before any gain, and the `gain` that was applied to them. extra_outputs: `time_costs` (keys
    prefixed dit_), `timesteps`, `context_audio`, and the numpy arrays that both backends can be compared on: `noise`,
    `context_latents`, `encoder_hidden_states`, `encoder_attention_mask`, `null_condition_emb`, `target_latents`.
    """

    audios: list[dict[str, Any]] = field(default_factory=list)
    status_message: str = ""
    extra_outputs: dict[str, Any] = field(default_factory=dict)
    success: bool = True
    error: str | None = None
    exception: AceStepError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by name; tensors are not copied."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _check_arguments(params: Any, config: Any, save_dir: Any) -> Path | None:
    """The folder for the stems; RequestError for an argument of a wrong type."""
    for name, value, expected in (("params", params, GenerationParams), ("config", config, GenerationConfig)):
        if not isinstance(value, expected):
            raise RequestError(f"{name} is {show(value)}, expected a {expected.__name__}")
    if save_dir is None:
        return None
    if not isinstance(save_dir, (str, os.PathLike)) or "\0" in str(save_dir):
        raise RequestError(f"save_dir is {show(save_dir)}, expected the path of a folder")
    return Path(save_dir).expanduser()


def _failure(error: AceStepError, audios: list[dict[str, Any]] | None = None) -> GenerationResult:
    # a path may hold bytes that are not UTF-8
    sentence = str(error).encode("utf-8", "backslashreplace").decode("utf-8")
    return GenerationResult(
        audios=audios or [], success=False, error=sentence, status_message=sentence, exception=error
    )


def generate_music(
    dit_handler: Any,
    llm_handler: Any,
    params: GenerationParams,
    config: GenerationConfig,
    save_dir: str | Path | None = None,
    progress: Callable[..., Any] | None = None,
) -> GenerationResult:
    """Generates one stem for each seed and saves them below save_dir, where one is given.

    llm_handler is not used: LEGO needs no language model. progress is called as progress(fraction, desc=...); if it
    raises before the run, nothing is generated, if it raises afterwards, the stems are returned.
    A refusal or a failure is returned as `success=False` with the sentence in `error`; stems that were generated and
    could not be saved are in `audios`.
    """
    try:
        return _generate(dit_handler, params, config, save_dir, progress)
    except AceStepError as error:
        return _failure(error)
    except Exception as error:  # callers are promised a result for any argument and any checkpoint
        sentence = f"the request failed unexpectedly ({show(error)}); nothing was saved"
        failure = BackendError(sentence)
        failure.__cause__ = error
        return _failure(failure)


def _generate(
    dit_handler: Any, params: GenerationParams, config: GenerationConfig, save_dir: Any, progress: Any
) -> GenerationResult:
    folder = _check_arguments(params, config, save_dir)
    params, config = check_request(params, config)
    seeds, report = resolve_seeds(params, config), Progress(progress)
    if not callable(getattr(dit_handler, "generate_music", None)):
        raise RequestError(f"dit_handler is {show(dit_handler)}, expected an AceStepHandler")
    report.tell(0.0, "Reading and encoding the context")
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
        guidance_scale=params.guidance_scale,
        seeds=seeds,
        repainting_start=params.repainting_start,
        repainting_end=params.repainting_end,
        cfg_interval_start=params.cfg_interval_start,
        cfg_interval_end=params.cfg_interval_end,
        shift=params.shift,
        infer_method=params.infer_method,
        timesteps=params.timesteps,
    )
    audios, failure = finish_stems(outputs, seeds, params, config, folder)
    if failure is not None:
        return _failure(failure, audios)
    steps = len(outputs["timesteps"])
    message = f"{len(audios)} stem(s) generated in {steps} steps"
    try:
        report.tell(1.0, "Done")
    except RequestError as error:  # the stems are finished and are returned, the message says what failed
        message = f"{message}; {error}"
    kept = {key: value for key, value in outputs.items() if key not in ("audios", "levels", "sample_rate")}
    kept["time_costs"] = {f"dit_{key}": value for key, value in outputs["time_costs"].items()}
    return GenerationResult(audios=audios, extra_outputs=kept, status_message=message)
