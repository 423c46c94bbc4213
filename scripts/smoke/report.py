"""What is left of a run: the stem, the mix, report.json, and a table on the screen."""

import io
import json
import math
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table
from rich.text import Text

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.compare import Distances
from smoke.folder import RunFolder
from smoke.judge import PYTORCH, Stage, stages, verdict_on_quantised
from smoke.machine import machine
from smoke.request import Request
from smoke.run import Run
from smoke.stem import Row, Stem, farthest

OF_A_STEM = ("caption", "lyrics", "start", "end", "guidance_scale", "shift", "bpm", "key")
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


def write_wav(path: Path, samples: np.ndarray) -> None:
    """[samples, 2] at 48 kHz, 24 bit; samples that are NaN or infinite, which that cannot hold, become silence."""
    finite_samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    # Neither a path that is not UTF-8 nor a full disk is soundfile's: it writes to memory.
    wav = io.BytesIO()
    soundfile.write(wav, finite_samples, SAMPLE_RATE, subtype="PCM_24", format="WAV")
    path.write_bytes(wav.getbuffer())


def read_wav(path: Path) -> np.ndarray:
    """float32 [samples, 2]"""
    with path.open("rb") as file:  # its path may be no UTF-8
        samples: np.ndarray = soundfile.read(file, dtype="float32", always_2d=True)[0]
    return samples


class Audio:
    """The stems and mixes of a run, each in its folder as soon as it is there; gains of the mixes by their files."""

    def __init__(self, context: np.ndarray, folder: RunFolder) -> None:
        self._context, self._folder = context, folder
        self._stems: dict[Hashable, list[np.ndarray]] = {}
        self.mix_gains: dict[str, float] = {}

    def add(
        self, file: str, stem: np.ndarray | bytes, mix_file: str, group: Hashable, gain_db: float = 0.0
    ) -> Path:
        """Writes a stem, then the mix of the context and all stems so far of its group; returns that.

        stem: samples [samples, 2], or the bytes of a WAV that has been written before.

        gain_db: of the stem in the mixes. They are made from the file: a later run finds the same samples there.
        """
        path = self._folder.publish(
            file, lambda path: path.write_bytes(stem) if isinstance(stem, bytes) else write_wav(path, stem)
        )
        heard = self._stems.setdefault(group, [])
        heard.append(read_wav(path) * np.float32(10 ** (gain_db / 20)))
        mix, self.mix_gains[mix_file] = mix_over_context(self._context, *heard)
        return self._folder.publish(mix_file, lambda path: write_wav(path, mix))


def report_json(
    request: Request,
    others: Sequence[Row],
    stems: Sequence[Stem],
    mix_gains: Mapping[str, float],
    comparison: Mapping[str, Any],
) -> dict[str, Any]:
    """All that was requested, seen and judged; `others`: runs that are shown and not judged.

    The figures at the top are those of the one stem or, of several, of the one that is farthest from PyTorch.
    comparison: how the runs were compared, and why they were not.
    """
    shown = farthest(stems)
    _, run, distances = shown.row
    rows = [*others, *(stem.row for stem in stems)]
    return {
        "ok": all(stem.good for stem in stems),
        "comparison": dict(comparison),
        "requested": run.requested,
        "evaluated": run.evaluated,
        "evaluated_by_checkout": {name: seen.evaluated for name, seen, _ in rows},
        "timesteps": run.timesteps,
        "pytorch_timesteps": list(distances.pytorch_timesteps) if distances else [],
        "stages": [stage_json(stage) for stage in stages(run, distances)] if distances else [],
        "seconds_a_step": run.seconds_a_step,
        "time_costs": dict(run.time_costs),
        "stem": dict(run.stem),
        "mix_gain": next(iter(mix_gains.values())),
        "checks": [asdict(check) for check in shown.checks],
        "runs": [seen_json(*row) for row in rows],
        "request": request.to_json() | asked_for(stems),
        "device": run.device,
        "dtype": run.dtype,
        "tf32": run.tf32,
        "machine": machine(sys.argv),
        "shown": shown.label,
        "mix_gains": dict(mix_gains),
        "stems": [stem_json(stem) for stem in stems],
        "sweep": list(stems[0].settings),
        "encodings": encodings(stem.run for stem in stems),
    }


def encodings(runs: Iterable[Run]) -> dict[str, int]:
    """How often a context and a prompt were encoded for all runs together."""
    return dict(sum((Counter(run.encodings) for run in runs), Counter()))


def asked_for(stems: Sequence[Stem]) -> dict[str, Any]:
    """The tracks, layers and swept settings, of several stems as lists."""
    names = ["track", *(["seed", "layer"] if stems[0].request.layer is not None else stems[0].settings)]
    values = {name: list(dict.fromkeys(getattr(stem.request, name) for stem in stems)) for name in names}
    return {name: several[0] if len(several) == 1 else several for name, several in values.items()}


def stem_json(stem: Stem) -> dict[str, Any]:
    """One of the stems, all of it."""
    return {
        "label": stem.label,
        "file": stem.file,
        "track": stem.request.track,
        "seed": stem.request.seed,
        "gain_db": stem.request.gain_db,
        "context": stem.request.context.name,
        "settings": dict(stem.settings),
        "request": {name: getattr(stem.request, name) for name in OF_A_STEM},
        "ok": stem.good,
        "checks": [asdict(check) for check in stem.checks],
        "time_costs": dict(stem.run.time_costs),
        **stem.run.stem,
        **seen_json(*stem.row),
    }


def stage_json(stage: Stage) -> dict[str, Any]:
    """A stage with its distance to PyTorch."""
    return {
        "name": stage.title,
        "measure": stage.measure,
        "distance": stage.distance,
        "bound": stage.bound,
        "meaning": stage.meaning,
        "reference": "PyTorch" if stage.reference == PYTORCH else stage.reference,
    }


def seen_json(name: str, run: Run, distances: Distances | None) -> dict[str, Any]:
    """What one checkout did with the request; distances that were not taken are missing."""
    names = ("schedule", "latents", "velocity", "update")
    found = {name: getattr(distances, name, None) for name in names}
    return {
        "checkout": name,
        "requested": run.requested,
        "evaluated": run.evaluated,
        "timesteps": run.timesteps,
        "distances": {name: value for name, value in found.items() if value is not None},
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


def caption(run: Run, distances: Distances | None) -> str:
    """What is to be known to read the table."""
    if distances is None:
        return "not compared with PyTorch"
    if run.dtype == "float32":
        return "distances: to PyTorch at the requested steps"
    if words := verdict_on_quantised(run, distances):
        return f"distances: to PyTorch in float32 at the requested steps; {words}"
    bounds = " and ".join(
        f"{stage.name} up to {stage.bound:.0e}" for stage in stages(run, distances) if stage.is_of_precision
    )
    return f"distances: of {run.dtype} to PyTorch in float32 at the requested steps, {bounds} is right"


def print_table(console: Console, rows: Sequence[Row]) -> None:
    """One row a run, a column for each distance that was taken; at 80 columns words are wrapped, no figure is cut."""
    _, run, last = rows[-1]
    table = Table(box=None, pad_edge=False, collapse_padding=True, caption=Text(caption(run, last)))
    table.add_column("", overflow="fold")
    seen = [seen_json(*row) for row in rows]
    taken = dict.fromkeys(name for found in seen for name in found["distances"])
    for title in ("requested", "evaluated", *taken, "s/step"):
        is_distance = title in taken  # in words where there is no figure
        table.add_column(
            title, justify="right", no_wrap=not is_distance, min_width=8 if is_distance else None
        )
    for found in seen:
        distances = found["distances"]
        table.add_row(
            Text(found["checkout"]),
            str(found["requested"]),
            str(found["evaluated"]),
            *(words.distance(distances[name]) if name in distances else "" for name in taken),
            f"{found['seconds_a_step']:.3g}",
        )
    console.print(table)
