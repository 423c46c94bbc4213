"""What has to hold for a run to be called good, each with its own bound and sentence."""

from dataclasses import dataclass

from smoke.compare import Distances
from smoke.run import Run

SCHEDULE_BOUND = 1e-6
LATENTS_BOUND = 2e-6
SILENCE_RMS = 1e-3  # -60 dBFS, before any gain: normalisation lifts a collapsed stem and hides it
CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `sentence` says what was found, whether it holds or not."""

    name: str
    holds: bool
    sentence: str


def judge(run: Run, distances: Distances) -> list[Check]:
    """Every check, in the order in which they are worth reading."""
    stem = run.stem
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
            f"the timesteps differ from PyTorch's by {distances.schedule:.1e}, at most {SCHEDULE_BOUND:.0e} is right",
        ),
        Check(
            "latents",
            distances.latents <= LATENTS_BOUND,
            f"the final latents differ from PyTorch's by {distances.latents:.1e} (relative L2), "
            f"at most {LATENTS_BOUND:.0e} is right",
        ),
        Check(
            "sound",
            stem["rms"] >= SILENCE_RMS,
            f"the stem's root mean square before any gain is {stem['rms']:.1e} of full scale, "
            f"below {SILENCE_RMS:.0e} it is silent",
        ),
        Check(
            "clipping",
            stem["clipped"] <= CLIPPED_SHARE,
            f"{stem['clipped']:.2%} of the stem's samples are beyond full scale before any gain, "
            f"above {CLIPPED_SHARE:.1%} it is clipped",
        ),
    ]
