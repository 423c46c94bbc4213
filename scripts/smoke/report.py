"""What is left of a run: the stem, the mix, report.json, and a table on the screen."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.compare import Distances
from smoke.judge import SCHEDULE_BOUND, latents_bound
from smoke.machine import machine
from smoke.request import Request
from smoke.run import Run
from smoke.stem import Row, Stem, by_mix, farthest

MIX_PEAK = 10 ** (-1 / 20)  # -1 dBFS


def mix_over_context(context: np.ndarray, *stems: np.ndarray) -> tuple[np.ndarray, float]:
    """Context plus stems, each [samples, 2], and the gain that keeps the sum at -1 dBFS or below.

    A stem of another length than the context's is kept whole: silence is added to the shorter one.
    """
    together = np.zeros((max(map(len, (context, *stems))), 2), dtype=np.float32)
    for part in (context, *stems):
        together[: len(part)] += part
    gain = min(1.0, MIX_PEAK / max(float(np.abs(together).max()), 1e-12))
    return together * gain, gain


def write_audio(stems: Sequence[Stem], context: np.ndarray, folder: Path) -> dict[str, float]:
    """Each stem and each mix, 48 kHz stereo, 24 bit; returns the gain of the mixes by their files.

    Samples that are not numbers have no place in 24 bit: they become silence. The run's levels tell of them.
    """
    gains = {}
    for file, heard in by_mix(stems).items():
        sounds = []
        for stem in heard:
            sound, _ = soundfile.read(stem.run.stem["path"], dtype="float32", always_2d=True)
            sounds.append(np.nan_to_num(sound, nan=0.0, posinf=0.0, neginf=0.0))
            soundfile.write(folder / stem.file, sounds[-1], SAMPLE_RATE, subtype="PCM_24")
        mix, gains[file] = mix_over_context(context, *sounds)
        soundfile.write(folder / file, mix, SAMPLE_RATE, subtype="PCM_24")
    return gains


def report_json(
    request: Request, others: Sequence[Row], stems: Sequence[Stem], mix_gains: Mapping[str, float]
) -> dict[str, Any]:
    """All that was asked, seen and judged; `others`: runs that are shown and not judged.

    The figures at the top are those of the one stem or, of several, of the one that is farthest from PyTorch.
    """
    shown = farthest(stems)
    _, run, distances = shown.row
    rows = [*others, *(stem.row for stem in stems)]
    return {
        "ok": all(stem.good for stem in stems),
        "asked": run.asked,
        "evaluated": run.evaluated,
        "evaluated_by_tree": {name: seen.evaluated for name, seen, _ in rows},
        "timesteps": run.timesteps,
        "pytorch_timesteps": list(distances.pytorch_timesteps),
        "schedule_distance": distances.schedule,
        "latents_distance": distances.latents,
        "stages": [
            stage("schedule", "largest difference", distances.schedule, SCHEDULE_BOUND),
            stage("final latents", "relative L2", distances.latents, latents_bound(run)),
        ],
        "seconds_a_step": run.seconds_a_step,
        "time_costs": dict(run.time_costs),
        "stem": {key: value for key, value in run.stem.items() if key != "path"},
        "mix_gain": next(iter(mix_gains.values())),
        "checks": [asdict(check) for check in shown.checks],
        "runs": [seen_json(*row) for row in rows],
        "request": request.to_json() | asked_for(stems),
        "device": run.device,
        "dtype": run.dtype,
        "machine": machine(sys.argv),
        "shown": shown.label,
        "mix_gains": dict(mix_gains),
        "stems": [stem_json(stem) for stem in stems],
    }


def asked_for(stems: Sequence[Stem]) -> dict[str, Any]:
    """The tracks and seeds, of several stems as lists."""
    tracks = list(dict.fromkeys(stem.request.track for stem in stems))
    seeds = list(dict.fromkeys(stem.request.seed for stem in stems))
    return {
        name: values[0] if len(values) == 1 else values
        for name, values in (("track", tracks), ("seed", seeds))
    }


def stem_json(stem: Stem) -> dict[str, Any]:
    """One of the stems, all of it."""
    return {
        "label": stem.label,
        "file": stem.file,
        "track": stem.request.track,
        "seed": stem.request.seed,
        "ok": stem.good,
        "checks": [asdict(check) for check in stem.checks],
        "time_costs": dict(stem.run.time_costs),
        **{key: value for key, value in stem.run.stem.items() if key != "path"},
        **seen_json(*stem.row),
    }


def stage(name: str, measure: str, distance: float, bound: float) -> dict[str, Any]:
    """A stage of the run: how far it is from PyTorch's, and up to where that is right."""
    return {"name": name, "measure": measure, "distance": distance, "bound": bound}


def seen_json(name: str, run: Run, distances: Distances) -> dict[str, Any]:
    """What one tree did with the request."""
    return {
        "tree": name,
        "asked": run.asked,
        "evaluated": run.evaluated,
        "timesteps": run.timesteps,
        "schedule_distance": distances.schedule,
        "latents_distance": distances.latents,
        "seconds_a_step": run.seconds_a_step,
        "notes": list(run.notes),
        "versions": dict(run.versions),
    }


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """JSON has no form for a number that is not finite: it is written as null."""
    text = json.dumps(finite(value), indent=2, default=str, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """`value` with None for every float in it that is infinite or not a number."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def caption(run: Run) -> str:
    """What is to be known to read the table."""
    if run.dtype == "float32":
        return "distances: to PyTorch at the asked-for steps"
    return (
        f"distances: of {run.dtype} to PyTorch in float32 at the asked-for steps, "
        f"latents up to {latents_bound(run):.0e} are right"
    )


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """One row a run."""
    table = Table(box=None, pad_edge=False, caption=caption(rows[-1][1]))
    table.add_column("", no_wrap=True)
    for title in ("asked", "evaluated", "schedule", "latents", "s/step"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, run, distances in rows:
        table.add_row(
            name,
            str(run.asked),
            str(run.evaluated),
            words.distance(distances.schedule),
            words.distance(distances.latents),
            f"{run.seconds_a_step:.3g}",
        )
    console.print(table)
