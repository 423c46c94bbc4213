"""Trials: sides take turns in one process, so that what disturbs the machine disturbs them alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Trials:
    """The seconds of every trial after the first call, in the order they were made, and of that first call."""

    first: float
    seconds: list[float]

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """The distance of the quartiles over the median; 0 of a single trial."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def alternate(sides: Mapping[str, Callable[[], object]], trials: int, limit: float) -> dict[str, Trials]:
    """Each side once to warm up, then in turns; no further round is begun after `limit` seconds, one always is."""
    first = {name: timed(call) for name, call in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    start = time.perf_counter()
    for made in range(trials):
        if made and time.perf_counter() - start > limit:
            break
        for name, call in sides.items():
            seconds[name].append(timed(call))
    return {name: Trials(first[name], seconds[name]) for name in sides}
