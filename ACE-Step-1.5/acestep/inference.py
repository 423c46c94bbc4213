"""The public API: GenerationParams, GenerationConfig, generate_music.

Field names are upstream's, so that the same calling code drives this fork or a checkout. Where a default of
upstream's would hurt LEGO, it differs, and the fork's README lists it.
"""

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from acestep.audio_utils import save_audio
from acestep.core.generation.handler.generate_music_request import check_request, resolve_seeds
from acestep.errors import AceStepError, RequestError


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


def normalization_gain(params: GenerationParams, peak: float) -> float:
    """The factor that brings a stem's peak to normalization_db; 1 where that is off."""
    if not params.enable_normalization or peak == 0:
        return 1.0
    return float(10 ** (params.normalization_db / 20) / peak)


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
