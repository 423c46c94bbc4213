"""What has to hold for a run to be called good, each with its own bound and sentence."""

import math
from dataclasses import dataclass

from smoke.compare import Distances
from smoke.run import Run

SCHEDULE_BOUND = 1e-6
LATENTS_BOUND = 2e-6
HALF_LATENTS_BOUND = 1e-2  # of float16 and bfloat16; the timesteps are float32 in any case
SILENCE_RMS = 1e-3  # -60 dBFS, before any gain: normalisation lifts a collapsed stem and hides it
CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `sentence` says what was found, whether it holds or not."""

    name: str
    holds: bool
    sentence: str


def latents_bound(run: Run) -> float:
    """How far a run's final latents may be from PyTorch's in float32."""
    return LATENTS_BOUND if run.dtype == "float32" else HALF_LATENTS_BOUND


def compared(what: str, distance: float, measure: str, bound: float) -> str:
    """How far something is from PyTorch's, or why that is not to be said in a number."""
    if math.isnan(distance):
        return f"{what} hold values that are not numbers, which are nowhere near PyTorch's"
    if math.isinf(distance):
        return f"{what} are of another length than PyTorch's"
    return f"{what} differ from PyTorch's by {distance:.1e}{measure}, at most {bound:.0e} is right"


def judge(run: Run, distances: Distances, samples: int) -> list[Check]:
    """Every check, in the order in which they are worth reading; `samples`: the context's at 48 kHz."""
    stem, bound = run.stem, latents_bound(run)
    dtype = "" if run.dtype == "float32" else f", computed in {run.dtype},"
    return [
        Check(
            "backend", run.fallback is None, run.fallback or "the backend that was asked for did the steps"
        ),
        Check(
            "steps",
            run.evaluated == run.asked,
            f"{run.asked} steps were asked for, the decoder was evaluated {run.evaluated} times",
        ),
        Check(
            "schedule",
            distances.schedule <= SCHEDULE_BOUND,
            compared("the timesteps", distances.schedule, "", SCHEDULE_BOUND),
        ),
        Check(
            "latents",
            distances.latents <= bound,
            compared(f"the final latents{dtype}", distances.latents, " (relative L2)", bound),
        ),
        Check(
            "length",
            stem["samples"] == samples,
            f"the stem has {stem['samples']} samples, the context {samples} at 48 kHz",
        ),
        Check(
            "sound",
            stem["rms"] >= SILENCE_RMS,
            f"the stem's root mean square before any gain is {stem['rms']:.1e} of full scale, "
            f"below {SILENCE_RMS:.0e} it is silent"
            if math.isfinite(stem["rms"])
            else "the stem holds samples that are not numbers; they are silence in stem.wav",
        ),
        Check(
            "clipping",
            stem["clipped"] <= CLIPPED_SHARE,
            f"{stem['clipped']:.2%} of the stem's samples are beyond full scale before any gain, "
            f"above {CLIPPED_SHARE:.1%} it is clipped",
        ),
    ]
