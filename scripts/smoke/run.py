"""What is run, and what came of it."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import BackendError
from smoke.request import Request

if TYPE_CHECKING:
    import torch


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


def read_runs(requests: Sequence[Request], folder: Path) -> list[Run]:
    """The runs of a process that wrote `folder`, one a request; BackendError with its own sentence where it failed."""
    outcome = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if outcome["error"]:
        raise BackendError(outcome["error"])
    return [
        read_run(request, seen, folder, number)
        for number, (request, seen) in enumerate(zip(requests, outcome["runs"], strict=True))
    ]


def read_run(request: Request, seen: Mapping[str, Any], folder: Path, number: int) -> Run:
    """One run; its stem, the largest of its arrays, goes to a file."""
    import numpy as np
    import torch

    with np.load(folder / f"tensors{number}.npz") as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return Run(
        asked=request.steps,
        timesteps=seen["timesteps"],
        device=seen["device"],
        seconds_a_step=seen["time_costs"].get("dit_diffusion_per_step_time_cost", math.nan),
        time_costs=seen["time_costs"],
        stem=save_stem(tensors.pop("stem"), seen["stem"], folder / f"stem{number}.wav"),
        tensors=tensors,
        fallback=fallback(seen) if request.backend == "mlx" else None,
        notes=seen["notes"],
        versions=seen["versions"],
        dtype=seen["dtype"],
    )


def save_stem(audio: "torch.Tensor", levels: dict[str, Any], path: Path) -> dict[str, Any]:
    """The stem [2, samples] as a 32-bit WAV; returns its path and length with its levels."""
    import soundfile

    soundfile.write(path, audio.numpy().T, levels["sample_rate"], subtype="FLOAT")
    return {"path": str(path), "samples": audio.shape[-1], **levels}


def fallback(seen: Mapping[str, Any]) -> str | None:
    """A sentence where MLX was asked for and PyTorch did the steps, however successful the run calls itself.

    A progress bar at 50/50 shows nothing of it; PyTorch's decoder being called does, and so does a time key that
    only PyTorch's path writes.
    """
    on_torch = seen["torch_evaluations"]
    if not on_torch and "dit_encoder_time_cost" not in seen["time_costs"]:
        return None
    if seen["mlx_failure"]:
        why = f"MLX failed ({seen['mlx_failure']})"
    elif not seen["mlx_active"]:
        why = f"MLX was not active after loading ({seen['mlx_warning'] or 'no reason was logged'})"
    else:
        why = "nothing was said of why"
    counted = f"was evaluated {on_torch} times" if on_torch else "left its time key"
    return (
        f"MLX was asked for, but PyTorch's decoder {counted} and MLX's {len(seen['timesteps'])}: {why}, "
        f"and the run went on in PyTorch and called itself a success"
    )
