"""What has to hold for a run to pass, each with its own bound and sentence."""

import math
from dataclasses import dataclass

from acestep.models.checkpoint.precision import HALF_DTYPES, QUANTISED
from smoke.compare import Distances
from smoke.run import Run

SCHEDULE_BOUND = 1e-6
LATENTS_BOUND = 2e-6
NOISE_BOUND = 1e-4  # another device's normal distribution may differ in the last digits
DECODED_BOUND = 5e-2  # tiles, half precision and MLX's VAE are closer; another stem is around 1
UPDATE_BOUND = 5e-7  # the update is computed in float32 in any case
# Of latents and velocities, relative L2. Measured on tiny random weights, 8 and 50 steps, guidance 1 and 7, both
# shapes: float16 4.7e-4 to 8.1e-4, bfloat16 4.8e-3 to 7.1e-3 (8 times as coarse), 8 bits 1.1e-2 to 1.7e-2, 4 bits
# 1.0e-1 to 1.9e-1; with activations as large as those of real weights float16 1.3e-3, bfloat16 9.6e-3.
PRECISION_BOUNDS = {"float32": LATENTS_BOUND, "float16": 3e-3, "bfloat16": 2e-2, "8bit": 5e-2, "4bit": 4e-1}
PROMPT_HOLDS = "the text encoder was given the instruction, the caption and the lyrics"
FINDING_HOLDS = {
    "context": "the context audio reached the decoder",
    "dcw": "the wavelet correction (DCW) is off",
    "thinking": "no audio codes are requested of a language model",
}
PYTORCH = "PyTorch's"
SILENCE_RMS = 1e-3  # -60 dBFS, before any gain: normalisation lifts a collapsed stem and hides it
CLIPPED_SHARE = 1e-3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `sentence` says what was found, whether it holds or not."""

    name: str
    holds: bool
    sentence: str


@dataclass(frozen=True)
class Stage:
    """A part of the computation: how far it is from PyTorch's, and up to where that is right."""

    name: str
    title: str
    what: str
    measure: str
    distance: float
    bound: float
    meaning: str
    reference: str = PYTORCH
    is_of_precision: bool = False  # the bound is one of PRECISION_BOUNDS

    @property
    def holds(self) -> bool:
        """False for NaN, too."""
        return self.distance <= self.bound

    def sentence(self, dtype: str) -> str:
        """What was found, or why that is not to be said in a number."""
        half = f", computed in {dtype}," if self.is_of_precision and dtype in HALF_DTYPES else ""
        if math.isnan(self.distance):
            return f"{self.what} contain NaN where {self.reference} do not"
        if math.isinf(self.distance):
            return f"{self.what} have another length than {self.reference}, or were never seen"
        if self.is_of_precision and dtype in QUANTISED:
            return f"{self.what} are {quantised(dtype, self)} to {self.reference} in float32"
        measure = "" if self.name in ("schedule", "noise") else f" ({self.measure})"
        return (
            f"{self.what}{half} differ from {self.reference} by {self.distance:.1e}{measure}, "
            f"at most {self.bound:.0e} is right"
        )


def quantised(dtype: str, stage: Stage) -> str:
    """What a quantised decoder is never to be called without: its distance and the bound of it."""
    return f"quantised, {QUANTISED[dtype]} bits: relative L2 {stage.distance:.1e} (bound {stage.bound:.0e})"


def verdict_on_quantised(run: Run, distances: Distances | None) -> str:
    """`quantised` of a run for the line of its verdict, "" where the decoder is not; not compared, the bits alone."""
    if run.dtype not in QUANTISED:
        return ""
    found = [] if distances is None else [stage for stage in stages(run, distances) if stage.is_of_precision]
    return quantised(run.dtype, found[0]) if found else f"quantised, {QUANTISED[run.dtype]} bits"


def stages(run: Run, distances: Distances) -> list[Stage]:
    """What was compared with PyTorch."""
    bound = PRECISION_BOUNDS[run.dtype]
    found = [
        Stage(
            "schedule", "schedule", "the timesteps", "largest difference", distances.schedule, SCHEDULE_BOUND,
            "the values of t that the decoder was evaluated at, against those of PyTorch's scheduler",
        )
    ]  # fmt: skip
    if distances.latents is not None:
        found.append(
            Stage(
                "latents", "final latents", "the final latents", "relative L2", distances.latents,
                bound, "what the stem is decoded from, against a run of all steps in PyTorch from the same noise",
                is_of_precision=True,
            )
        )  # fmt: skip
    if distances.velocity is not None:
        steps = ", ".join(str(step + 1) for step in distances.sampled)
        found.append(
            Stage(
                "velocity", f"velocity at {'step' if len(distances.sampled) == 1 else 'steps'} {steps}",
                "the decoder's velocities", "relative L2, largest", distances.velocity,
                bound, "what the decoder returned at these steps, against PyTorch's decoder given the same latents",
                is_of_precision=True,
            )
        )  # fmt: skip
    if distances.update is not None:
        found.append(
            Stage(
                "update", "guidance and update at every step", "the latents after a step", "relative L2, largest",
                distances.update, UPDATE_BOUND,
                "the latents of each step, against PyTorch's guidance and Euler step on the run's own velocities",
            )
        )  # fmt: skip
    if distances.noise is not None:
        found.append(
            Stage(
                "noise", "noise", "the values of the noise", "largest difference", distances.noise, NOISE_BOUND,
                "what the first step was given, against the noise of the requested seed", "those of the seed",
            )
        )  # fmt: skip
    if distances.decoded is not None:
        found.append(
            Stage(
                "decoding", "stem", "the stem's samples", "relative L2 of a part", distances.decoded, DECODED_BOUND,
                "a part of the stem, against the final latents decoded by the VAE in PyTorch",
                "what the final latents decode to",
            )
        )  # fmt: skip
    return found


def judge(run: Run, distances: Distances | None, samples: int) -> list[Check]:
    """Every check, in the order in which they are worth reading; `samples`: the context's at 48 kHz.

    distances: None where the run was not compared.
    """
    stem = run.stem
    compared = [] if distances is None else stages(run, distances)
    return [
        Check(
            "backend", run.fallback is None, run.fallback or "the backend that was requested did the steps"
        ),
        Check(
            "steps",
            run.evaluated == run.requested,
            f"{run.requested} steps were requested, the decoder was evaluated {run.evaluated} times",
        ),
        *([] if run.prompt is None else [Check("prompt", not run.prompt, run.prompt or PROMPT_HOLDS)]),
        *(Check(name, not problem, problem or FINDING_HOLDS[name]) for name, problem in run.findings.items()),
        *(Check(stage.name, stage.holds, stage.sentence(run.dtype)) for stage in compared),
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
            else "the stem contains NaN; those samples are silence in the file",
        ),
        Check(
            "clipping",
            stem["clipped"] <= CLIPPED_SHARE,
            f"{stem['clipped']:.2%} of the stem's samples are beyond full scale before any gain, "
            f"above {CLIPPED_SHARE:.1%} it is clipped",
        ),
    ]
