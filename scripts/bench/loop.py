"""What a run costs besides its decoder, and what its first step costs besides a later one."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import numpy as np

from acestep.models.mlx.dit_generate import mlx_generate_diffusion
from bench.sides import Inputs, Models

FORK = Path(__file__).resolve().parent.parent.parent / "ACE-Step-1.5"


class TimingDecoder:
    """Stands before a decoder, has each velocity computed at once and notes the seconds."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.seconds: list[float] = []

    def __call__(self, **inputs: Any) -> Any:
        mx.eval(inputs["hidden_states"])
        start = time.perf_counter()
        velocity, cache = self._decoder(**inputs)
        mx.eval(velocity)
        self.seconds.append(time.perf_counter() - start)
        return velocity, cache


def guided_run(decoder: Any, inputs: Inputs, steps: int) -> np.ndarray:
    """The loop with guidance 7; the latents."""
    result = mlx_generate_diffusion(
        decoder,
        inputs.encoder_hidden_states[:1],
        inputs.context_latents[:1],
        inputs.hidden_states[:1].shape,
        seed=0,
        guidance_scale=7.0,
        null_condition_emb_np=inputs.encoder_hidden_states[1:, :1],
        disable_tqdm=True,
        infer_steps=steps,
        is_turbo=False,
    )
    return result["target_latents"]


def run_figures(models: Models, inputs: Inputs, steps: int) -> dict[str, float]:
    """Of a run: `step`, the seconds of a later evaluation; `first_step` against it; `outside`, the share of the
    whole that is not spent in the decoder: schedule, guidance, conversions."""
    decoder = TimingDecoder(models.fast)
    start = time.perf_counter()
    guided_run(decoder, inputs, steps)
    whole = time.perf_counter() - start
    later = median(decoder.seconds[1:])
    return {
        "steps": steps,
        "step": later,
        "first_step": decoder.seconds[0] / later,
        "outside": 1 - sum(decoder.seconds) / whole,
    }


def import_seconds() -> float:
    """Of `import acestep.inference`, in a process of its own."""
    code = "import time; s = time.perf_counter(); import acestep.inference; print(time.perf_counter() - s)"
    done = subprocess.run([sys.executable, "-c", code], cwd=FORK, capture_output=True, text=True, check=True)
    return float(done.stdout)
