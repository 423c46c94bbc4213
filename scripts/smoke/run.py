"""What is run, and what came of it."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoke.request import Request

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Tree:
    """What is run: `root` holds the `acestep` package, `checkpoint` is a DiT folder that it can load.

    folder: the current folder of the run, None for this process's own; worker_thread: the public call is made from
    another thread than the main one, as upstream's UI and API do; without: the defaults that are switched off, names of
    `smoke.tree.SWITCHES`.
    """

    root: Path
    checkpoint: Path
    python: str = sys.executable
    folder: Path | None = None
    worker_thread: bool = False
    without: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What a run was seen to do.

    timesteps: those of the evaluations of the requested decoder, in order; fallback: a sentence where
    another decoder did its work; notes: what was arranged or found that the figures do not show; versions: of the
    interpreter and the packages that the run was computed with; dtype: of the decoder's large matmuls; prompt: what
    of the request the text encoder was not given, "" where all was, None where that could not be seen; steps: the
    folder of its recorded steps, a file each; not_recorded: why there are none; options: what was seen of the
    checkout's own defaults; findings: by name of the check what a checkout loses, "" where it does not; encodings: how
    often a context and a prompt were encoded for it, as far as that could be counted.
    """

    requested: int
    timesteps: list[float]
    device: str
    seconds_a_step: float
    time_costs: Mapping[str, float]
    stem: Mapping[str, Any]
    tensors: Mapping[str, "np.ndarray"]
    fallback: str | None = None
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    dtype: str = "float32"
    prompt: str | None = None
    steps: Path | None = None
    not_recorded: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    encodings: Mapping[str, int] = field(default_factory=dict)
    tf32: str = ""

    @property
    def evaluated(self) -> int:
        """Decoder evaluations, counted at the decoder."""
        return len(self.timesteps)

    def to_torch(self, name: str) -> "torch.Tensor":
        """One of `tensors` for the comparison, which alone needs PyTorch."""
        import torch

        return torch.from_numpy(self.tensors[name])


def read_run(request: Request, folder: Path) -> tuple[Run, "np.ndarray"]:
    """A run whose process wrote `folder`, and its stem, float32 [samples, 2]."""
    import numpy as np

    seen = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    with np.load(folder / "tensors.npz") as arrays:
        tensors = {name: arrays[name] for name in arrays.files}
    stem = tensors.pop("stem").T
    steps = folder / "steps"
    run = Run(
        requested=request.steps,
        timesteps=seen["timesteps"],
        device=seen["device"],
        seconds_a_step=seen["time_costs"].get("dit_diffusion_per_step_time_cost", math.nan),
        time_costs=seen["time_costs"],
        stem={"samples": len(stem), **seen["stem"]},
        tensors=tensors,
        fallback=fallback(seen) if request.backend == "mlx" else None,
        notes=seen["notes"],
        versions=seen["versions"],
        dtype=seen["dtype"],
        prompt=seen["prompt"],
        steps=steps if steps.is_dir() else None,
        not_recorded=seen["not_recorded"],
        options=seen["options"],
        encodings=seen["encodings"],
        tf32=seen.get("tf32", ""),
    )
    return run, stem


def fallback(seen: Mapping[str, Any]) -> str | None:
    """A sentence where MLX was requested and PyTorch did the steps, however successful the run calls itself.

    A progress bar at 50/50 shows nothing of it; PyTorch's decoder being called does, and so does a time key that
    only PyTorch's path writes.
    """
    on_torch = seen["torch_evaluations"]
    if seen["torch_matmuls"]:
        return (
            f"MLX was requested, but the decoder that goes by its name made {seen['torch_matmuls']} matmuls in PyTorch "
            f"in {len(seen['timesteps'])} evaluations"
        )
    if seen["not_by_mlx"]:
        return (
            f"MLX was requested, but in {seen['not_by_mlx']} of {len(seen['timesteps'])} evaluations the decoder's "
            f"velocity was not computed from the latents by MLX: by another library or program, or out of sight, "
            f"because the decoder calls mx.eval on its own arrays"
        )
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
        f"MLX was requested, but PyTorch's decoder {counted} and MLX's {len(seen['timesteps'])}: {why}, "
        f"and the run went on in PyTorch and called itself a success"
    )
