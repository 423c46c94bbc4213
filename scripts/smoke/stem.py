"""A stem of a session: requested, run, compared, judged, and what it is called where there are several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from smoke.compare import Distances
from smoke.judge import Check, judge
from smoke.request import SWEPT, Request, settings_of, shown
from smoke.run import Run

Row = tuple[str, Run, Distances | None]  # a run's name, the run, how far that is from PyTorch


@dataclass(frozen=True)
class Stem:
    """name: in the table; file: of the WAV, without its folder; label: the track and the settings that are swept."""

    request: Request
    run: Run
    distances: Distances | None
    checks: Sequence[Check]
    name: str
    file: str
    label: str
    settings: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def row(self) -> Row:
        """For the table."""
        return self.name, self.run, self.distances

    @property
    def good(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)


def stems_of(requests: Sequence[Request], rows: Sequence[Row], samples: int) -> list[Stem]:
    """One stem a request, judged; several are named by their labels. `samples`: the context's at 48 kHz."""
    labels = labels_of(requests)
    return [
        Stem(
            request=request,
            run=run,
            distances=apart,
            checks=judge(run, apart, samples),
            name=name if len(requests) == 1 else label,
            file=file,
            label=label,
            settings=settings,
        )
        for request, (name, run, apart), label, file, settings in zip(
            requests, rows, labels, files_of(requests), settings_of(requests), strict=True
        )
    ]


def labels_of(requests: Sequence[Request]) -> list[str]:
    """The track of each, behind its number among layers, with the settings that are swept."""
    if requests[0].layer is not None:
        return [f"{request.layer} {request.track}" for request in requests]
    return [
        " ".join([request.track, *named(settings)])
        for request, settings in zip(requests, settings_of(requests), strict=True)
    ]


def named(settings: Mapping[str, int | float]) -> list[str]:
    """'guidance 3', 'seed 7'"""
    return [f"{SWEPT[name]} {shown(value)}" for name, value in settings.items()]


def files_of(requests: Sequence[Request]) -> list[str]:
    """The WAV of each stem."""
    if len(requests) == 1:
        return ["stem.wav"]
    return [f"stem-{label.replace(' ', '-')}.wav" for label in labels_of(requests)]


def mix_of(requests: Sequence[Request], request: Request) -> str:
    """The WAV in which a stem is mixed over the context with the others of its settings, or the layers before it."""
    if request.layer is not None:
        return f"mix-{request.layer}-{request.track}.wav" if request.layer < len(requests) else "mix.wav"
    settings = {name: getattr(request, name) for name in settings_of(requests)[0]}
    return "-".join(["mix", *named(settings)]).replace(" ", "-") + ".wav"


def farthest(stems: Sequence[Stem]) -> Stem:
    """The stem that its reader is to look at first: one that does not hold, else the farthest from PyTorch."""
    return max(stems, key=lambda stem: (not stem.good, stem.distances.largest if stem.distances else 0.0))
