"""What is left of a run: the stem, the mix, report.json, and a table on the screen."""

import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.table import Table

from acestep.constants import SAMPLE_RATE
from smoke.compare import Distances
from smoke.judge import Check
from smoke.request import Request
from smoke.run import Run

MIX_PEAK = 10 ** (-1 / 20)  # -1 dBFS
PACKAGES = ("mlx", "torch", "diffusers", "transformers", "numpy")


def mix_over_context(context: np.ndarray, stem: np.ndarray) -> tuple[np.ndarray, float]:
    """Context plus stem, each [samples, 2], and the gain that keeps the sum at -1 dBFS or below."""
    together = context + stem
    gain = min(1.0, MIX_PEAK / max(float(np.abs(together).max()), 1e-12))
    return together * gain, gain


def write_audio(run: Run, context: np.ndarray, folder: Path) -> float:
    """stem.wav and mix.wav, 48 kHz stereo, 24 bit; returns the gain of the mix."""
    stem, _ = soundfile.read(run.stem["path"], dtype="float32", always_2d=True)
    mix, gain = mix_over_context(context, stem)
    soundfile.write(folder / "stem.wav", stem, SAMPLE_RATE, subtype="PCM_24")
    soundfile.write(folder / "mix.wav", mix, SAMPLE_RATE, subtype="PCM_24")
    return gain


def machine() -> dict[str, Any]:
    """Versions and machine, for whoever reads the report elsewhere."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "command": sys.argv,
    }


def report_json(
    request: Request,
    run: Run,
    distances: Distances,
    checks: list[Check],
    mix_gain: float,
    evaluated: Mapping[str, int],
) -> dict[str, Any]:
    """All that was asked, seen and judged; `evaluated` counts every tree that was run, the judged one last."""
    return {
        "ok": all(check.holds for check in checks),
        "asked": run.asked,
        "evaluated": run.evaluated,
        "evaluated_by_tree": dict(evaluated),
        "timesteps": run.timesteps,
        "schedule_distance": distances.schedule,
        "latents_distance": distances.latents,
        "seconds_a_step": run.seconds_a_step,
        "time_costs": dict(run.time_costs),
        "stem": {key: value for key, value in run.stem.items() if key != "path"},
        "mix_gain": mix_gain,
        "checks": [
            {"name": check.name, "holds": check.holds, "sentence": check.sentence} for check in checks
        ],
        "request": request.to_json(),
        "device": run.device,
        "machine": machine(),
    }


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Infinity has no JSON form of its own: it is written as null."""
    text = json.dumps(value, indent=2, default=str).replace("Infinity", "null")
    path.write_text(text + "\n", encoding="utf-8")


def print_table(console: Console, rows: list[tuple[str, Run, Distances]]) -> None:
    """One row a run."""
    table = Table(box=None, pad_edge=False, caption="distances: to PyTorch at the asked-for steps")
    table.add_column("", no_wrap=True)
    for title in ("asked", "evaluated", "schedule", "latents", "s/step"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, run, distances in rows:
        table.add_row(
            name,
            str(run.asked),
            str(run.evaluated),
            number(distances.schedule),
            number(distances.latents),
            f"{run.seconds_a_step:.3g}",
        )
    console.print(table)


def number(distance: float) -> str:
    """A distance for the table; an infinite one means that there is nothing to subtract."""
    return "other length" if distance == float("inf") else f"{distance:.1e}"
