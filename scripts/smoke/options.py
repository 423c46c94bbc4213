"""What a run is asked for on the command line, in a form that `--again` can repeat."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from acestep.errors import RequestError
from acestep.models.checkpoint.precision import AUTO
from smoke.checkout import Checkout, located
from smoke.compare import Comparison
from smoke.request import (
    BACKENDS,
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_SEED,
    DEFAULT_SHIFT,
    DEFAULT_STEPS,
    DEFAULT_TRACK,
    TO_THE_END,
    Request,
    check_no_sweep,
    requests_of,
)
from smoke.session_file import layers_of_tables

PATHS = ("context", "checkpoint", "acestep_root", "python")
STEM_NAMES = ("track", "layer", "session")  # each says in its own way which stems are made


@dataclass(frozen=True)
class Options:
    """The options by their names on the command line; None or empty where one was not given.

    session: the [[layer]] tables of a session file; session_source: the file, for messages.
    """

    context: Path
    track: Sequence[str] = ()
    layer: Sequence[str] = ()
    session: Sequence[Mapping[str, Any]] = ()
    session_source: str = ""
    gain_db: float = 0.0
    steps: Sequence[int] = ()
    guidance_scale: Sequence[float] = ()
    shift: Sequence[float] = ()
    seed: Sequence[int] = ()
    caption: str = ""
    lyrics: str = ""
    bpm: int | None = None
    key: str = ""
    start: float = 0.0
    end: float = TO_THE_END
    checkpoint: Path | None = None
    backend: str = BACKENDS[0]
    device: str = AUTO
    dtype: str = AUTO
    low_memory: bool | None = None
    before: bool | None = None
    acestep_root: Path | None = None
    python: Path | None = None
    worker_thread: bool = False
    without: Sequence[str] = ()
    compare: str | None = None
    compare_steps: int = Comparison.steps
    compare_device: str = Comparison.device

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Options":
        """The inverse of `to_json`; an option that another version did not have is as if it was not given.

        TypeError for one that this version does not have, or whose value is of another type.
        """
        types = {field.name: field.type for field in fields(cls)}
        for name, value in values.items():
            if not is_of(value, types.get(name)):
                raise TypeError(f"{name} is {value!r}")
        paths = {name: Path(values[name]) for name in PATHS if values.get(name) is not None}
        return cls(**{**values, **paths})

    def to_json(self) -> dict[str, Any]:
        """Plain values; paths are absolute, so that they hold in every current folder."""
        paths = {
            name: None if getattr(self, name) is None else str(getattr(self, name).absolute())
            for name in PATHS
        }
        lists = {name: list(value) for name, value in asdict(self).items() if isinstance(value, tuple)}
        return asdict(self) | lists | paths

    def changed(self, other: "Options", given: Collection[str]) -> "Options":
        """These options, but for those of `other` that are named in `given`.

        One that says which stems are made takes the place of the two others and of the gain of layers; a setting
        takes the place of each layer's own in a session.
        """
        changes = {name: getattr(other, name) for name in given}
        if set(given) & set(STEM_NAMES):
            none: dict[str, Any] = {"track": [], "layer": [], "session": [], "gain_db": 0.0}
            changes = {**none, "session_source": other.session_source, **changes}
        elif self.session:
            changes["session"] = [
                {name: value for name, value in layer.items() if name not in given} for layer in self.session
            ]
        return replace(self, **changes)

    def requests(self) -> list[Request]:
        """One for each stem; RequestError where the options do not go together."""
        settings: dict[str, Sequence[int | float]] = {
            "steps": self.steps or [DEFAULT_STEPS],
            "guidance_scale": self.guidance_scale or [DEFAULT_GUIDANCE_SCALE],
            "shift": self.shift or [DEFAULT_SHIFT],
            "seed": self.seed or [DEFAULT_SEED],
        }
        first: dict[str, Any] = {name: values[0] for name, values in settings.items()}
        request = Request(
            context=self.context,
            checkpoint=located(self.checkpoint),
            track=DEFAULT_TRACK,
            backend=self.backend,
            device=self.device,
            caption=self.caption,
            lyrics=self.lyrics,
            bpm=self.bpm,
            key=self.key,
            start=self.start,
            end=self.end,
            dtype=self.dtype,
            low_memory=self.low_memory,
            gain_db=self.gain_db,
            **first,
        )
        if not self.session:
            return requests_of(request, self.track, self.layer, settings)
        if self.track or self.layer:
            raise RequestError("--session has the layers in its file: leave --track and --layer out")
        check_no_sweep("--session", settings)
        return layers_of_tables(self.session, self.session_source, request)

    def checkout(self) -> Checkout | None:
        """Whose code is run, None for this fork; RequestError where that is asked for by half."""
        return Checkout.asked(self.acestep_root, self.python, self.worker_thread, self.without)

    def comparison(self) -> Comparison:
        """How the runs are compared with PyTorch."""
        return Comparison(self.compare, self.compare_steps, self.compare_device)

    def runs_before(self) -> bool:
        """Whether the fork without the patches is run, too; RequestError where a checkout is in its place."""
        if self.before is None:
            return self.checkpoint is None and self.backend == "mlx" and self.acestep_root is None
        if self.before and self.acestep_root is not None:
            raise RequestError(
                "--before runs this fork without the patches, --acestep-root a checkout in its place: give one"
            )
        return self.before


def is_of(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is what `to_json` makes of an option whose type is `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(is_of(value, one) for one in arguments)
    if origin is Sequence:
        return isinstance(value, list) and all(is_of(one, arguments[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, dict)
    if kind is float:
        return isinstance(value, float) or (is_of(value, int) and abs(value) < 2**1024)
    plain: Any = str if kind is Path else kind
    return plain is not None and isinstance(value, plain) and (kind is bool or not isinstance(value, bool))
