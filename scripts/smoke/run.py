"""Starts a run of a source tree and takes in what came of it."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import BackendError
from smoke.request import Request

if TYPE_CHECKING:
    import torch

DRIVER = Path(__file__).with_name("drive.py")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


@dataclass(frozen=True)
class Tree:
    """What is run: `root` holds the `acestep` package, `checkpoint` is a DiT folder that it can load.

    folder: the current folder of the run, None for this process's own; worker_thread: the public call is made from
    another thread than the main one, as upstream's UI and API do.
    """

    root: Path
    checkpoint: Path
    python: str = sys.executable
    folder: Path | None = None
    worker_thread: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run was seen to do.

    timesteps: those of the evaluations of the decoder that was asked for, in order; fallback: a sentence where
    another decoder did its work; notes: what was arranged or found that the figures do not show; versions: of the
    interpreter and the packages that the run was computed with; dtype: of the decoder's large products.
    """

    asked: int
    timesteps: list[float]
    device: str
    seconds_a_step: float
    time_costs: Mapping[str, float]
    stem: Mapping[str, Any]
    tensors: Mapping[str, "torch.Tensor"]
    fallback: str | None = None
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"

    @property
    def evaluated(self) -> int:
        """Decoder evaluations, counted at the decoder."""
        return len(self.timesteps)


def start(tree: Tree, request: Request, folder: Path, quiet: bool = False) -> "subprocess.Popen[bytes]":
    """The run of a tree, in a process under its own interpreter; its bars go to the terminal unless quiet."""
    order = {
        "checkpoint": str(tree.checkpoint),
        "backend": request.backend,
        "device": request.device,
        "precision": request.precision_fields(),
        "track": request.track,
        "params": {**request.params_fields(), "src_audio": str(request.context.absolute())},
        "config": request.config_fields(),
        "worker_thread": tree.worker_thread,
    }
    command = [tree.python, str(DRIVER), str(tree.root.absolute()), json.dumps(order), str(folder.absolute())]
    try:
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if quiet else None,
            cwd=tree.folder,
            env={**os.environ, **OFFLINE, **tree.environment},
        )
    except OSError as error:
        raise BackendError(f"{tree.python} cannot be started ({error.strerror})") from None


def finish(process: "subprocess.Popen[bytes]", request: Request, folder: Path) -> Run:
    """Waits for a run; BackendError with its own sentence where it was refused, failed or died."""
    _, errors = process.communicate()
    written = folder / "run.json"
    if not written.is_file():
        last = (errors or b"").decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise BackendError(f"the run died with status {process.returncode} ({last[0]})")
    outcome = json.loads(written.read_text(encoding="utf-8"))
    if outcome["error"]:
        raise BackendError(outcome["error"])
    import numpy as np
    import torch

    with np.load(folder / "tensors.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return Run(
        asked=request.steps,
        timesteps=outcome["timesteps"],
        device=outcome["device"],
        seconds_a_step=outcome["time_costs"].get("dit_diffusion_per_step_time_cost", math.nan),
        time_costs=outcome["time_costs"],
        stem=save_stem(tensors.pop("stem"), outcome["stem"], folder),
        tensors=tensors,
        fallback=fallback(outcome) if request.backend == "mlx" else None,
        notes=outcome["notes"],
        versions=outcome["versions"],
        dtype=outcome["dtype"],
    )


def save_stem(audio: "torch.Tensor", levels: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The stem [2, samples] as a 32-bit WAV; returns its path with its levels."""
    import soundfile

    path = folder / "stem.wav"
    soundfile.write(path, audio.numpy().T, levels["sample_rate"], subtype="FLOAT")
    return {"path": str(path), **levels}


def fallback(outcome: Mapping[str, Any]) -> str | None:
    """A sentence where MLX was asked for and PyTorch did the steps, however successful the run calls itself.

    A progress bar at 50/50 shows nothing of it; PyTorch's decoder being called does, and so does a time key that
    only PyTorch's path writes.
    """
    on_torch = outcome["torch_evaluations"]
    if not on_torch and "dit_encoder_time_cost" not in outcome["time_costs"]:
        return None
    if outcome["mlx_failure"]:
        why = f"MLX failed ({outcome['mlx_failure']})"
    elif not outcome["mlx_active"]:
        why = f"MLX was not active after loading ({outcome['mlx_warning'] or 'no reason was logged'})"
    else:
        why = "nothing was said of why"
    counted = f"was evaluated {on_torch} times" if on_torch else "left its time key"
    return (
        f"MLX was asked for, but PyTorch's decoder {counted} and MLX's {len(outcome['timesteps'])}: {why}, "
        f"and the run went on in PyTorch and called itself a success"
    )
