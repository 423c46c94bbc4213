"""A benchmark from its order to its report."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from rich.console import Console
from rich.table import Table

from acestep.errors import OutputError, RequestError
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.mlx.cpu_memory import freed_memory_kept
from bench.loop import import_seconds, run_figures
from bench.memory import peak_memory
from bench.picture import draw
from bench.sides import SIDES, Inputs, Models, base_config, evaluations, frames_of
from bench.trials import alternate
from bench.work import Work, fast_step, once_a_run, reference_step
from smoke.machine import machine

BOUND = 5e-6  # max |a - b| / max |b|, in float32
RUN_SECONDS, RUN_STEPS = 30.0, 6


@dataclass(frozen=True)
class Order:
    """What is to be measured: lengths in seconds, and the options of bench_lego by their names."""

    seconds: list[float]
    trials: int
    limit: float
    width: int
    layers: int
    encoder_length: int
    sides: tuple[str, ...]
    half: bool

    def __post_init__(self) -> None:
        unknown = [side for side in self.sides if side not in SIDES]
        if unknown:
            raise RequestError(f"there is no side {unknown[0]!r}; give some of {', '.join(SIDES)}")


def work_of(side: str, config: ModelConfig, frames: int, encoder_length: int) -> Work:
    """Counted; PyTorch does the reference decoder's work, and the encoder's keys and values once more."""
    patches = -(-frames // config.patch_size)
    if side == "fast":
        return fast_step(config, patches, encoder_length)
    return reference_step(config, patches, encoder_length)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """max |a - b| / max |b|"""
    return float(np.abs(one - other).max() / np.abs(other).max())


def at_length(order: Order, models: Models, seconds: float) -> dict[str, Any]:
    """All that is measured at one length of the context."""
    config, frames = models.config, frames_of(seconds)
    calls = evaluations(models, Inputs.random(config, frames, order.encoder_length), order.sides)
    velocities: dict[str, np.ndarray] = {}
    kept = {
        name: lambda name=name, call=call: velocities.update({name: call()}) for name, call in calls.items()
    }
    with freed_memory_kept():
        trials = alternate(kept, order.trials, order.limit)
    mx.clear_cache()
    reference = velocities.get("reference", velocities.get("torch"))
    return {
        "seconds": seconds,
        "frames": frames,
        "sides": {
            name: {
                **asdict(trials[name]),
                "median": trials[name].median,
                "spread": trials[name].spread,
                "distance": None if reference is None else distance(velocities[name], reference),
                "work": asdict(work_of(name, config, frames, order.encoder_length)),
                "memory": peak_memory(
                    name, order.width, order.layers, order.encoder_length, frames, "float32"
                ),
            }
            for name in order.sides
        },
    }


def half_precision(order: Order) -> dict[str, Any]:
    """Memory at 30 s in each precision; float16 matmuls are slow on a CPU."""
    frames = frames_of(RUN_SECONDS)
    sizes = (order.width, order.layers, order.encoder_length, frames)
    return {precision: peak_memory("fast", *sizes, precision) for precision in ("float32", "float16")}


def run_bench(order: Order, out: Path, console: Console, blas_note: str | None) -> int:
    """Measures, prints, writes bench.json and bench.svg; 1 where a side is further off than the bound."""
    if blas_note:
        console.print(f"note: {blas_note}", highlight=False, soft_wrap=True)
    config = base_config(order.width, order.layers)
    models = Models(config)
    lengths = []
    for seconds in order.seconds:
        lengths.append(at_length(order, models, seconds))
        show(console, lengths[-1])
    report: dict[str, Any] = {
        "machine": machine([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "device": str(mx.default_device()),
        "blas": blas_note or "preloaded, or none needed",
        "order": asdict(order),
        "lengths": lengths,
        "once_a_run": asdict(once_a_run(config, order.encoder_length, 50)),
    }
    if "fast" in order.sides:
        inputs = Inputs.random(config, frames_of(RUN_SECONDS), order.encoder_length)
        report["run"] = run_figures(models, inputs, RUN_STEPS)
        report["import_seconds"] = import_seconds()
        run = report["run"]
        console.print(
            f"a run of {RUN_SECONDS:g} s: outside the decoder {run['outside']:.1%}, first step "
            f"{run['first_step']:.2f}x a later one, import acestep.inference {report['import_seconds']:.2f} s",
            highlight=False,
            soft_wrap=True,
        )
    if order.half:
        report["half"] = half_precision(order)
    write(out, report)
    console.print(f"written: {out / 'bench.json'}, {out / 'bench.svg'}", highlight=False, soft_wrap=True)
    far = [
        f"{name} at {length['seconds']:g} s ({side['distance']:.1e})"
        for length in lengths
        for name, side in length["sides"].items()
        if (side["distance"] or 0) > BOUND
    ]
    if far:
        console.print(
            f"[red]further from the reference decoder than {BOUND:.0e}[/]: {', '.join(far)}",
            highlight=False,
            soft_wrap=True,
        )
    return 1 if far else 0


def show(console: Console, length: Mapping[str, Any]) -> None:
    """One length as a table."""
    table = Table(
        title=f"{length['seconds']:g} s of context, {length['frames']} frames",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("", no_wrap=True)
    for column in ("a step", "quartiles", "gain", "multiply-adds", "peak memory", "distance"):
        table.add_column(column, justify="right", no_wrap=True)
    sides = length["sides"]
    for name, side in sides.items():
        gain = sides["reference"]["median"] / side["median"] if "reference" in sides else None
        peak = side["memory"].get("run", side["memory"].get("process"))
        table.add_row(
            name,
            f"{side['median']:.3f} s",
            f"{side['spread']:.1%} of {len(side['seconds'])}",
            "-" if gain is None else f"{gain:.2f}x",
            f"{side['work']['multiply_adds'] / 1e9:.1f} G",
            side["memory"].get("error", "") if peak is None else f"{peak / 2**30:.2f} GiB",
            "-" if side["distance"] is None else f"{side['distance']:.1e}",
        )
    console.print(table)


def write(out: Path, report: Mapping[str, Any]) -> None:
    """bench.json and bench.svg; OutputError where the folder cannot be written."""
    lines = {
        side: [(length["seconds"], length["sides"][side]["median"]) for length in report["lengths"]]
        for side in report["order"]["sides"]
    }
    order = report["order"]
    title = f"one guided step, width {order['width']}, {order['layers']} layers, {report['machine']['chip']}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bench.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (out / "bench.svg").write_text(draw(lines, title), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written ({error.strerror}); give another folder with --out"
        ) from None
