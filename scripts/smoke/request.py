"""What is asked of a run, checked before anything heavy is imported."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from acestep.constants import LATENT_FRAMES_PER_SECOND, TRACK_NAMES
from acestep.core.generation.handler.generate_music_request import check_request, resolve_seeds
from acestep.core.generation.handler.task_utils import check_track, track_key
from acestep.errors import RequestError
from acestep.inference import GenerationConfig, GenerationParams
from acestep.models.checkpoint.precision import AUTO, DTYPES, QUANTISED

T = TypeVar("T")
BACKENDS = ("mlx", "torch")
PRECISIONS = (*DTYPES, *QUANTISED)
DEVICES = (AUTO, "cpu", "mps", "cuda")
TO_THE_END = -1.0
GAIN_DB = (-60.0, 12.0)
ALL_TRACKS = "all"
DEFAULT_TRACK, DEFAULT_SEED = "vocals", 42
# Upstream's recommendation for LEGO.
DEFAULT_STEPS, DEFAULT_GUIDANCE_SCALE, DEFAULT_SHIFT = 50, 1.0, 1.0
RECOMMENDED = {"steps": DEFAULT_STEPS, "guidance_scale": DEFAULT_GUIDANCE_SCALE, "shift": DEFAULT_SHIFT}
# Keywords of the fork's loader, in whose place messages name what is typed here.
OPTIONS = {
    "mlx_precision": "--dtype",
    "torch_precision": "--dtype",
    "low_memory": "--low-memory",
    "use_mlx_dit=True": "--backend mlx",
    "use_mlx_dit=False": "--backend torch",
}
# Of each of these several values may be given; what it is called in the name of a stem.
SWEPT = {"steps": "steps", "guidance_scale": "guidance", "shift": "shift", "seed": "seed"}


def with_options(message: str) -> str:
    """A message of the fork's loader with OPTIONS; the same words in a path are left as they are."""
    keywords = "|".join(map(re.escape, OPTIONS))
    return re.sub(rf"(?<![\w./-])({keywords})(?![\w/-])", lambda found: OPTIONS[found[1]], message)


@dataclass(frozen=True)
class Request:
    """One smoke run.

    `checkpoint` is a DiT folder in upstream's layout, its VAE and text encoder beside it; None: a tiny random
    checkpoint is written for the run. `start` and `end` are seconds of the context, `end` -1: to its end. `dtype` is
    of the matmuls of decoder and encoders, or of the quantised decoder; AUTO: float32, what the decoder is stored in
    on MLX, on CUDA in PyTorch the half precision of its hardware.
    """

    context: Path
    checkpoint: Path | None
    track: str
    steps: int
    guidance_scale: float
    shift: float
    seed: int
    backend: str
    device: str
    caption: str = ""
    lyrics: str = ""
    bpm: int | None = None
    key: str = ""
    start: float = 0.0
    end: float = -1.0
    dtype: str = AUTO
    layer: int | None = None
    gain_db: float = 0.0
    low_memory: bool | None = None

    def check(self) -> None:
        """RequestError, in one sentence, for the first thing that is wrong."""
        if self.backend not in BACKENDS:
            raise RequestError(f"backend is {self.backend!r}, expected {' or '.join(BACKENDS)}")
        if self.dtype not in (AUTO, *PRECISIONS):
            raise RequestError(
                f"dtype is {self.dtype!r}, expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
            )
        if self.dtype in QUANTISED and self.backend != "mlx":
            raise RequestError(
                f"--dtype {self.dtype} is of the MLX decoder; leave --backend {self.backend} out"
            )
        low, high = GAIN_DB
        if not low <= self.gain_db <= high:
            raise RequestError(f"--gain-db is {self.gain_db:g}, expected a number from {low:g} to {high:g}")
        if self.device not in DEVICES:
            raise RequestError(
                f"device is {self.device!r}, expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}"
            )
        if self.end != TO_THE_END and not self.end > self.start:
            raise RequestError(
                f"--end is {self.end:g}, expected {TO_THE_END:g} (to the end) or more seconds than --start, "
                f"which is {self.start:g}"
            )
        check_track(self.track)
        config = GenerationConfig(**self.config_fields())
        params = GenerationParams(**self.params_fields())
        check_request(params, config)
        resolve_seeds(params, config)

    def check_range(self, seconds: float) -> None:
        """RequestError where the range is not within a context of so many seconds."""
        last = self.end if self.end != TO_THE_END else seconds
        if self.start >= seconds or last > seconds + 0.5 / LATENT_FRAMES_PER_SECOND:
            raise RequestError(
                f"--start {self.start:g} --end {self.end:g} is not within the context, which lasts {seconds:.2f} s"
            )

    def params_fields(self) -> dict[str, Any]:
        """GenerationParams but for the instruction, which the handler words; the rest keeps its defaults."""
        return {
            "task_type": "lego",
            "src_audio": str(self.context),
            "inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "shift": self.shift,
            "caption": self.caption,
            "lyrics": self.lyrics,
            "bpm": self.bpm,
            "keyscale": self.key,
            "repainting_start": self.start,
            "repainting_end": self.end,
        }

    def loading_fields(self) -> dict[str, Any]:
        """What this fork's loader is told of precision and memory; a checkout's knows none of it."""
        if self.backend == "torch":
            return {"torch_precision": self.dtype, "low_memory": self.low_memory}
        return {"mlx_precision": self.dtype, "low_memory": self.low_memory}

    def config_fields(self) -> dict[str, Any]:
        """GenerationConfig for one stem."""
        return {"batch_size": 1, "use_random_seed": False, "seeds": [self.seed], "audio_format": "wav32"}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)
        if self.layer is None:
            del values["layer"], values["gain_db"]
        return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def settings_of(requests: Sequence[Request]) -> list[dict[str, int | float]]:
    """Of each request the settings that are swept: those of which several values were given."""
    swept = [name for name in SWEPT if len({getattr(request, name) for request in requests}) > 1]
    if requests[0].layer is not None:  # layers differ in what they were given, and are no sweep
        swept = []
    return [{name: getattr(request, name) for name in swept} for request in requests]


def spread(
    request: Request, tracks: Sequence[str], settings: Mapping[str, Sequence[int | float]]
) -> list[Request]:
    """The request once for each track and, for each track, each combination of the settings' values.

    settings: several values or one of each field of SWEPT that is named. RequestError for one that is given twice.
    """
    named = [name for track in tracks for name in (TRACK_NAMES if track == ALL_TRACKS else (track,))]
    for option, values in {"track": [track_key(track) for track in named], **settings}.items():
        twice = first_twice(values)
        if twice is not None:
            raise RequestError(
                f"--{option.replace('_', '-')} {shown(twice)} is asked for twice; each gives a stem: give it once"
            )
    combinations: list[dict[str, Any]] = [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
    return [replace(request, track=track, **combination) for track in named for combination in combinations]


def first_twice(values: Sequence[T]) -> T | None:
    """The first value that stands there again; None where each stands there once."""
    return next((value for i, value in enumerate(values) if value in values[:i]), None)


def shown(value: str | int | float) -> str:
    """A value of a setting in a name: 3.0 is '3', and no two values have the same name."""
    return str(value).removesuffix(".0")


def layers_of(request: Request, tracks: Sequence[str]) -> list[Request]:
    """The request once for each layer, in order; each is generated on the context and the layers before it."""
    return [replace(request, track=track, layer=number) for number, track in enumerate(tracks, start=1)]


def check_no_sweep(option: str, settings: Mapping[str, Sequence[int | float]]) -> None:
    """RequestError where a setting has several values beside an option that takes one."""
    for name, values in settings.items():
        if len(values) > 1:
            raise RequestError(
                f"--{name.replace('_', '-')} is given {len(values)} times, {option} takes one value of it: "
                f"run it again for another"
            )


def requests_of(
    request: Request,
    tracks: Sequence[str],
    layers: Sequence[str],
    settings: Mapping[str, Sequence[int | float]],
) -> list[Request]:
    """What the options ask for; RequestError where they do not go together."""
    if not layers:
        if request.gain_db:
            raise RequestError("--gain-db is the gain of layers; give them with --layer, or leave it out")
        return spread(request, tracks or [DEFAULT_TRACK], settings)
    if tracks:
        raise RequestError(
            "--track generates each stem on the context alone, --layer on the context and the layers before: give one"
        )
    check_no_sweep("--layer", settings)
    return layers_of(request, layers)
