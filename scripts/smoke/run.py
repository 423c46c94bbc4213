"""Starts a run of a source tree and takes in what came of it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import BackendError
from smoke.request import Request

if TYPE_CHECKING:
    import torch

DRIVER = Path(__file__).with_name("drive.py")


@dataclass(frozen=True)
class Run:
    """What a run was seen to do: `timesteps` are those of the decoder's evaluations, in order."""

    asked: int
    timesteps: list[float]
    device: str
    seconds_a_step: float
    time_costs: Mapping[str, float]
    stem: Mapping[str, Any]
    tensors: Mapping[str, "torch.Tensor"]

    @property
    def evaluated(self) -> int:
        """Decoder evaluations, counted at the decoder."""
        return len(self.timesteps)


def start(root: Path, request: Request, folder: Path, quiet: bool = False) -> "subprocess.Popen[bytes]":
    """The run of the tree at `root`, under this interpreter; its progress bars go to the terminal unless quiet."""
    order = {
        "checkpoint": str(request.checkpoint),
        "backend": request.backend,
        "device": request.device,
        "track": request.track,
        "params": request.params_fields(),
        "config": request.config_fields(),
    }
    command = [sys.executable, str(DRIVER), str(root), json.dumps(order), str(folder)]
    errors = subprocess.PIPE if quiet else None
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)


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
    from safetensors.torch import load_file

    return Run(
        asked=request.steps,
        timesteps=outcome["timesteps"],
        device=outcome["device"],
        seconds_a_step=outcome["time_costs"]["dit_diffusion_per_step_time_cost"],
        time_costs=outcome["time_costs"],
        stem=outcome["stem"],
        tensors=load_file(folder / "tensors.safetensors"),
    )
