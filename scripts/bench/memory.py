"""Peak memory of one side at one length, in a process of its own: a peak cannot be taken back.

usage: python -m bench.memory SIDE WIDTH LAYERS ENCODER_LENGTH FRAMES PRECISION
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent.parent


def peak_memory(
    side: str, width: int, layers: int, encoder_length: int, frames: int, precision: str
) -> dict[str, Any]:
    """Bytes: `process` is the peak of a process that runs two steps, `weights` what mlx's arrays hold before,
    `step` and `run` their peaks in the second evaluation and in the whole run. PyTorch's side evaluates once and has
    `process` alone. Where the process died, `error` says how."""
    arguments = [side, *map(str, (width, layers, encoder_length, frames)), precision]
    paths = [str(SCRIPTS), str(SCRIPTS.parent / "ACE-Step-1.5")]
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"error": f"died with status {done.returncode}: {last[0]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


class PeakDecoder:
    """Stands before a decoder and notes what mlx's arrays held at most in each evaluation."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.peaks: list[int] = []

    def __call__(self, **inputs: Any) -> Any:
        import mlx.core as mx

        mx.eval(inputs["hidden_states"])
        mx.reset_peak_memory()
        velocity, cache = self._decoder(**inputs)
        mx.eval(velocity)
        self.peaks.append(mx.get_peak_memory())
        return velocity, cache


def start_peak_over() -> None:
    """From here on `peak_of_process` is of what follows; on macOS it stays that of the whole process."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_of_process() -> int:
    """Bytes that this process held at most. Linux's getrusage counts what its parent held when it was forked."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on macOS


def main(side: str, *sizes: str) -> None:
    """Runs in the process of its own and prints JSON."""
    import mlx.core as mx

    from bench.loop import guided_run
    from bench.sides import Inputs, Models, base_config, evaluations

    width, layers, encoder_length, frames = map(int, sizes[:4])
    models = Models(base_config(width, layers), sizes[4])
    inputs = Inputs.random(models.config, frames, encoder_length)
    figures: dict[str, int] = {}
    if side == "torch":
        evaluations(models, inputs, (side,))[side]()
    else:
        decoder = PeakDecoder(getattr(models, side))
        mx.clear_cache()
        figures["weights"] = mx.get_active_memory()
        guided_run(decoder, inputs, steps=2)
        figures |= {"step": decoder.peaks[-1], "run": max(*decoder.peaks, mx.get_peak_memory())}
    figures["process"] = peak_of_process()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
