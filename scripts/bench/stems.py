"""Whole stems by part: this fork, diffusers' AceStepPipeline and, where one is given, a checkout, in turns."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
from rich.console import Console
from rich.table import Table

from acestep.constants import LATENT_FRAMES_PER_SECOND, SAMPLE_RATE
from acestep.core.generation.handler.io_audio import IoAudioMixin
from acestep.errors import BackendError, OutputError, RequestError
from bench.stem_child import PARTS
from bench.stem_work import stem_work
from bench.trials import Trials
from blas import openblas_environment
from smoke.checkout import Checkout, prepare
from smoke.folder import full_disk_refused, scratch_folder
from smoke.machine import machine
from smoke.request import DEFAULT_SEED, DEFAULT_SHIFT, DEFAULT_TRACK, Request
from smoke.run import Tree

CHILD = Path(__file__).with_name("stem_child.py")
REPOSITORY = CHILD.parent.parent.parent
FORK = REPOSITORY / "ACE-Step-1.5"
FORK_SIDE, TORCH_SIDE, CHECKOUT_SIDE = "fork", "torch", "checkout"
NAMES = {FORK_SIDE: "this fork", TORCH_SIDE: "AceStepPipeline"}
TOTAL = "stem"  # all parts but loading


@dataclass(frozen=True)
class StemOrder:
    """What is to be measured: the options of the command by their names."""

    checkpoint: Path | None
    context: Path
    seconds: float
    steps: int
    guidance_scale: float
    rounds: int
    checkouts: Sequence[Checkout]
    limit: float | None
    torch: bool
    low_memory: bool | None
    dtype: str

    def __post_init__(self) -> None:
        for checkout in self.checkouts:
            if not (checkout.root / "acestep").is_dir():
                raise RequestError(f"--checkout {checkout.root} holds no acestep package; give its root")
        Request(
            context=self.context,
            checkpoint=self.checkpoint,
            track=DEFAULT_TRACK,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            shift=DEFAULT_SHIFT,
            seed=DEFAULT_SEED,
            backend="mlx",
            device="cpu",
            dtype=self.dtype,
        ).check()


@dataclass(frozen=True)
class Side:
    """What is run: a name for the table, the tree, and the name that the child knows the side by."""

    name: str
    kind: str
    tree: Tree


def run_child(side: Side, order: StemOrder, context: Path) -> dict[str, Any]:
    """What the child measured; BackendError with the last line that it wrote where it failed."""
    fields = {
        "side": side.kind,
        "root": str(side.tree.root.absolute()),
        "checkpoint": str(side.tree.checkpoint.absolute()),
        "context": str(context.absolute()),
        "steps": order.steps,
        "guidance_scale": order.guidance_scale,
        "limit": order.limit if side.kind == CHECKOUT_SIDE else None,
        "options": {"low_memory": order.low_memory, "mlx_precision": order.dtype}
        if side.kind == FORK_SIDE
        else {},
    }
    blas, _ = openblas_environment()
    environment = {**os.environ, **side.tree.environment, **blas}
    done = subprocess.run(
        [side.tree.python, str(CHILD), json.dumps(fields)],
        env=environment,
        cwd=side.tree.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise BackendError(f"{side.name} died with status {done.returncode} ({last[0]})")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the rounds of one side: seconds of each part in every round, their median and spread, the largest peak.

    Of a side that was stopped in a round, the whole alone, which took longer than its seconds say.
    """
    stopped = any("stopped_in" in run for run in runs)
    parts: dict[str, Any] = {}
    for part in (TOTAL,) if stopped else (*PARTS, TOTAL):
        seconds = [total_of(run) if part == TOTAL else run["parts"][part]["seconds"] for run in runs]
        peaks = [peak_of(run, part) for run in runs]
        trials = Trials(seconds[0], seconds)
        parts[part] = {
            "seconds": seconds,
            "median": trials.median,
            "spread": trials.spread,
            "peak": max(peaks),
        }
    parts[TOTAL]["stopped"] = stopped
    return {"parts": parts, "notes": runs[0]["notes"], "process_seconds": [run["seconds"] for run in runs]}


def total_of(run: Mapping[str, Any]) -> float:
    """Seconds of all parts but loading; where it was stopped, until then."""
    if "stopped_in" in run:
        return float(run["stopped_after"])
    return sum(run["parts"][part]["seconds"] for part in PARTS[1:])


def peak_of(run: Mapping[str, Any], part: str) -> int:
    """Bytes; of the whole process, loading included, for TOTAL."""
    if "stopped_in" in run:
        return int(run["peak"])
    return max(
        run["parts"][name]["peak"] for name in (PARTS if part == TOTAL else (part,)) if name in run["parts"]
    )


def write_context(source: Path, seconds: float, path: Path) -> None:
    """The source audio at 48 kHz, repeated or cut to so many seconds."""
    import numpy as np

    samples = IoAudioMixin().process_target_audio(source).T
    length = round(seconds * SAMPLE_RATE)
    repeated = np.tile(samples, (-(-length // len(samples)), 1))[:length]
    soundfile.write(path, repeated, SAMPLE_RATE, subtype="FLOAT")


def run_stems(order: StemOrder, out: Path, console: Console, write_tiny: Any) -> int:
    """Measures in turns, prints, writes stems.json; returns 0. write_tiny: makes the checkpoint where none is given."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    with full_disk_refused(), scratch_folder(out) as scratch:
        checkpoint = order.checkpoint
        if checkpoint is None:
            checkpoint = write_tiny(scratch / "tiny")
            say("note: tiny random weights; give --checkpoint for figures that mean something")
        context = scratch / "context.wav"
        write_context(order.context, order.seconds, context)
        fork = Tree(FORK, checkpoint)
        sides = [Side(NAMES[FORK_SIDE], FORK_SIDE, fork)]
        if order.torch:
            sides.append(Side(NAMES[TORCH_SIDE], TORCH_SIDE, fork))
        for number, checkout in enumerate(order.checkouts):
            tree = prepare(checkout, checkpoint, scratch / f"checkout{number}")
            sides.append(Side(checkout.name, CHECKOUT_SIDE, tree))
        runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
        for number in range(order.rounds):
            for side in sides:
                runs[side.name].append(run_child(side, order, context))
                found = runs[side.name][-1]
                where = f" and not ready, stopped in: {found['stopped_in']}" if "stopped_in" in found else ""
                say(f"round {number + 1} of {order.rounds}, {side.name}: {total_of(found):.1f} s{where}")
        frames = round(order.seconds * LATENT_FRAMES_PER_SECOND)
        report = {
            "machine": machine([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "order": {
                "seconds": order.seconds,
                "frames": frames,
                "steps": order.steps,
                "guidance_scale": order.guidance_scale,
                "checkpoint": None if order.checkpoint is None else str(order.checkpoint),
                "low_memory": order.low_memory,
                "dtype": order.dtype,
            },
            "multiply_adds": stem_work(checkpoint, order.seconds, order.steps),
            "sides": {name: figures(of_side) for name, of_side in runs.items()},
        }
    show(console, report)
    path = out / "stems.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); give another --out") from None
    say(f"written: {path}")
    return 0


def show(console: Console, report: Mapping[str, Any]) -> None:
    """A row for each part of each side; `to fork` is how many times as long as this fork's part it took.

    A side that was stopped has its last row alone, with more than the seconds it was given.
    """
    order, sides = report["order"], report["sides"]
    console.print(
        f"a stem of {order['seconds']:g} s, {order['steps']} steps, guidance {order['guidance_scale']:g}: medians, "
        f"distance of the quartiles, peak memory of the process in the part",
        highlight=False,
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for column in ("part", "side"):
        table.add_column(column, no_wrap=True)
    for column in ("seconds", "quartiles", "to fork", "GFLOP/s", "peak"):
        table.add_column(column, justify="right", no_wrap=True)
    fork = sides[NAMES[FORK_SIDE]]["parts"]
    for part in (*PARTS, TOTAL):
        work = report["multiply_adds"].get(part)
        for name, side in sides.items():
            if part not in side["parts"]:
                continue
            found = side["parts"][part]
            seconds, more_than = found["median"], "> " if found.get("stopped") else ""
            table.add_row(
                part if name == NAMES[FORK_SIDE] else "",
                name,
                f"{more_than}{seconds:.2f}",
                f"{found['spread']:.0%} of {len(found['seconds'])}",
                "" if name == NAMES[FORK_SIDE] else f"{more_than}{seconds / fork[part]['median']:.2f}x",
                "" if work is None else f"{2 * work / seconds / 1e9:.0f}",
                f"{found['peak'] / 1e9:.2f} GB",
            )
    console.print(table)
    for name, side in sides.items():
        for note in side["notes"]:
            console.print(f"{name}: {note}", highlight=False, soft_wrap=True)
