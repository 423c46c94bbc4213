"""The same request in PyTorch, from the same tensors: diffusers' AceStepPipeline on the same weights.

In full: PyTorch runs every step, and the final latents are compared. Sampled: see `smoke.sampled`.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acestep.errors import RequestError
from acestep.models.checkpoint.quantization import stored_bits
from smoke.request import Request
from smoke.run import Run

if TYPE_CHECKING:
    import torch

FULL, SAMPLED, NONE = "full", "sampled", "none"
MODES = (FULL, SAMPLED, NONE)
DEVICES = ("cpu", "mps", "cuda")
INPUTS = ("noise", "context_latents", "encoder_hidden_states", "null_condition_emb")
# Of PyTorch on two CPU cores to MLX on the same, one step at width 2048 and 24 layers: 2.2 at either guidance.
SECONDS_FOR_A_STEP = 2.2


@dataclass(frozen=True)
class Comparison:
    """How runs are compared; None: full on the tiny checkpoint, else sampled. steps: how many are sampled."""

    mode: str | None = None
    steps: int = 3
    device: str = "cpu"

    def check(self) -> None:
        """RequestError, in one sentence, for the first thing that is wrong."""
        if self.mode is not None and self.mode not in MODES:
            raise RequestError(f"--compare is {self.mode!r}, expected {', '.join(MODES[:-1])} or {MODES[-1]}")
        if self.steps < 1:
            raise RequestError(f"--compare-steps is {self.steps}, expected a whole number of at least 1")
        if self.device not in DEVICES:
            raise RequestError(
                f"--compare-device is {self.device!r}, expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}"
            )

    def check_reference(self, checkpoint: Path) -> None:
        """RequestError where a checkpoint holds no weights that PyTorch could run for the comparison."""
        bits = None if self.mode == NONE else stored_bits(checkpoint)
        if bits is not None:
            raise RequestError(
                f"the decoder of {checkpoint} is stored in {bits} bits, which PyTorch does not read; give --compare "
                f"{NONE}, or the checkpoint that it was converted from with --dtype {bits}bit"
            )

    def chosen(self, tiny: bool) -> "Comparison":
        """With its mode, which depends on the checkpoint where none was given."""
        return replace(self, mode=self.mode or (FULL if tiny else SAMPLED))

    def evaluations(self, run: Run) -> int:
        """Of PyTorch's decoder, for one run."""
        if self.mode == NONE:
            return 0
        if self.mode == FULL or run.not_recorded is not None:
            return run.requested
        return len(sampled_steps(run.evaluated, self.steps))

    def expected_seconds(self, runs: Sequence[Run]) -> float:
        """By the runs' own time for a step; loading the weights is not in it."""
        return sum(SECONDS_FOR_A_STEP * self.evaluations(run) * run.seconds_a_step for run in runs)


@dataclass(frozen=True)
class Distances:
    """How far a run is from PyTorch; None: not compared.

    schedule: largest |difference| of the timesteps, infinite where their number differs; latents: relative L2,
    |a - b| / |b|, of the final latents; velocity: the largest relative L2 of the sampled evaluations, `sampled` their
    numbers from 0; update: the largest relative L2, over all steps, of the latents that follow from the latents and
    velocities of the step before; noise: largest |difference| to that of the seed; decoded: relative L2 of a part of
    the stem to the final latents decoded there; pytorch_timesteps: those that PyTorch's scheduler ran.
    """

    schedule: float
    latents: float | None = None
    velocity: float | None = None
    update: float | None = None
    noise: float | None = None
    decoded: float | None = None
    sampled: Sequence[int] = ()
    pytorch_timesteps: Sequence[float] = ()

    @property
    def largest(self) -> float:
        """Of all distances but the schedule's."""
        return max(
            (value for value in (self.latents, self.velocity, self.update) if value is not None), default=0.0
        )


def sampled_steps(evaluated: int, count: int) -> list[int]:
    """`count` evaluations, evenly spaced from the first to the last; the middle one where one is asked for."""
    if count >= evaluated:
        return list(range(evaluated))
    if count == 1:
        return [evaluated // 2]
    return [round(i * (evaluated - 1) / (count - 1)) for i in range(count)]


def relative_l2(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """|a - b| / |b| in float64; infinite where the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def schedule_distance(a: list[float], b: list[float]) -> float:
    """Largest |difference|; infinite where the lengths differ."""
    if len(a) != len(b):
        return float("inf")
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


class Reference:
    """PyTorch's decoder of a checkpoint on a device; `at` is called with the number of its evaluations so far."""

    def __init__(self, request: Request, device: str, at: Callable[[int], None]) -> None:
        from acestep.models.checkpoint.config import read_config  # for seconds; --help needs none of it
        from acestep.models.pytorch.loading import load_decoder
        from acestep.models.pytorch.reference import load_reference_decoder

        if request.checkpoint is None:
            raise ValueError("the request names no checkpoint to load PyTorch's decoder from")
        self.device, self.checkpoint = device, request.checkpoint
        # A run of PyTorch's own decoder has PyTorch's own exp, too.
        load = load_decoder if request.backend == "torch" else load_reference_decoder
        self.decoder: Any = load(request.checkpoint, read_config(request.checkpoint)).to(device)
        evaluations = itertools.count()
        self.decoder.register_forward_pre_hook(lambda *_: at(next(evaluations)))
        self._given: dict[str, torch.Tensor] = {}
        self._asked: tuple[float, ...] = ()
        self._result: Any = None

    def full(self, request: Request, run: Run) -> Distances:
        """PyTorch runs all steps. A run with the very inputs of the one before is compared with the same result."""
        import torch

        from acestep.models.pytorch.loop import torch_generate_diffusion

        given = {name: run.to_torch(name).to(self.device) for name in INPUTS}
        asked = (request.steps, request.shift, request.guidance_scale)
        same = bool(self._given) and all(torch.equal(given[name], self._given[name]) for name in INPUTS)
        if not same or asked != self._asked:
            self._given, self._asked = given, asked
            self._result = torch_generate_diffusion(
                self.decoder,
                infer_steps=request.steps,
                shift=request.shift,
                guidance_scale=request.guidance_scale,
                disable_tqdm=True,
                noise=given["noise"],
                context_latents=given["context_latents"],
                encoder_hidden_states=given["encoder_hidden_states"],
                null_condition_emb=given["null_condition_emb"],
            )
        return Distances(
            schedule=schedule_distance(run.timesteps, self._result.timesteps),
            latents=relative_l2(run.to_torch("target_latents"), self._result.latents.cpu()),
            pytorch_timesteps=self._result.timesteps,
        )


def distances_to_pytorch(
    comparison: Comparison,
    requests: Sequence[Request],
    runs: Sequence[Run],
    wavs: Sequence[Path | None],
    at: Callable[[int], None] = lambda _: None,
) -> list[Distances]:
    """Of each run to PyTorch, from its own noise, context and encoder states; wavs: the stems, as far as written.

    Sampled, a run whose steps were not recorded is compared in full. A run that hides its inputs, or never evaluated
    its decoder, is infinitely far. `at` is called with the number of PyTorch's evaluations so far, of all together.
    """
    from patches.harness.child import without_garbage_collection

    with without_garbage_collection():
        import acestep.models.pytorch.loop
        import acestep.models.pytorch.reference  # noqa: F401
        from smoke.origin import decoded_distance, load_vae, noise_distance
        from smoke.sampled import sampled_distances

    reference = Reference(requests[0], comparison.device, at)
    vae = load_vae(reference.checkpoint) if any(wavs) else None
    distances = []
    for request, run, wav in zip(requests, runs, wavs, strict=True):
        if not all(name in run.tensors for name in INPUTS):
            distances.append(Distances(schedule=float("inf"), latents=float("inf")))
        elif comparison.mode == FULL or run.not_recorded is not None:
            distances.append(reference.full(request, run))
        else:
            distances.append(sampled_distances(reference, request, run, comparison.steps))
        distances[-1] = replace(
            distances[-1],
            noise=noise_distance(request, run) if "noise" in run.tensors else None,
            decoded=None if wav is None else decoded_distance(vae, run, wav),
        )
    return distances
