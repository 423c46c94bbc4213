"""A stem of a session: asked for, run, compared, judged, and what it is called where there are several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smoke.compare import Distances
from smoke.judge import Check, judge
from smoke.request import Request
from smoke.run import Run

Row = tuple[str, Run, Distances]  # a run's name, the run, how far that is from PyTorch


@dataclass(frozen=True)
class Stem:
    """name: in the table; file: of the WAV, without its folder; label: the track and, of several seeds, the seed."""

    request: Request
    run: Run
    distances: Distances
    checks: Sequence[Check]
    name: str
    file: str
    label: str

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
            file="stem.wav" if len(requests) == 1 else f"stem-{label.replace(' ', '-')}.wav",
            label=label,
        )
        for request, (name, run, apart), label in zip(requests, rows, labels, strict=True)
    ]


def labels_of(requests: Sequence[Request]) -> list[str]:
    """The track of each, with its seed where there are several seeds."""
    seeds = {request.seed for request in requests}
    return [request.track if len(seeds) == 1 else f"{request.track} {request.seed}" for request in requests]


def farthest(stems: Sequence[Stem]) -> Stem:
    """The stem that its reader is to look at first: one that does not hold, else the farthest from PyTorch."""
    return max(stems, key=lambda stem: (not stem.good, stem.distances.latents))


def by_mix(stems: Sequence[Stem]) -> Mapping[str, list[Stem]]:
    """The stems that are heard together, those of one seed, by the file of their mix."""
    seeds = list(dict.fromkeys(stem.request.seed for stem in stems))
    return {
        "mix.wav" if len(seeds) == 1 else f"mix-{seed}.wav": [
            stem for stem in stems if stem.request.seed == seed
        ]
        for seed in seeds
    }
