"""One generation through a checkout's three files, on a host that may serve several."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch

from ..harness.fakes import (
    Payload,
    build_host,
    build_payload,
    call_by_name,
    class_with,
    make_host_decoder,
    raise_if_fake_lacks,
)
from ..harness.imports import describe, stub_missing
from ..harness.models import CHANNELS, TOKENS, BackendRecord
from ..harness.recorders import call_in_thread
from ..harness.request import INSTRUCTION
from .cases import Case, Observation
from .loop import RandomVelocityDecoder, latents_distance
from .trace import StepTrace

BUILD = "_build_service_generate_kwargs"
EXECUTE = "_execute_service_generate_diffusion"
RUN = "_mlx_run_diffusion"
LEGO_PROMPT = (
    f"# Instruction\n{INSTRUCTION}\n\n# Caption\na calm lead\n\n# Metas\n- bpm: 120\n<|endoftext|>\n"
)
ENCODER_WIDTH = 2048  # of base models


class Host:
    """A host of the checkout's own classes, for any number of runs."""

    def __init__(self, case: Case, files: dict[str, ModuleType]) -> None:
        execute, diffusion = class_with(files["execute"], EXECUTE), class_with(files["diffusion"], RUN)
        self.decoder = make_host_decoder(files["generate"].__name__)
        self.object = build_host(execute, diffusion, case.config, self.decoder, case.compiled)
        self.model = self.object.model

    def start(self, decoder: RandomVelocityDecoder, case: Case) -> None:
        """The next run: nothing of the one before is left in the fakes; the checkout's own attributes stay."""
        self.decoder.current = decoder
        self.object.silence_latent = self.object.silence_latent.new_zeros(1, case.frames, CHANNELS)
        self.model.record = BackendRecord()
        self.model.states = random_tensor(case.seed, 1, TOKENS + case.seed % 90, ENCODER_WIDTH)
        self.model.null_condition_emb = self.model.states[:, :1] + 1


class Run:
    """One case, run through the three files once; again where a module turns out to be missing on the way."""

    def __init__(self, case: Case, host: Host, trace: StepTrace | None = None) -> None:
        self.case = case
        self.trace = trace
        while True:
            self.decoder: RandomVelocityDecoder = RandomVelocityDecoder(
                case.seed, case.batch, case.velocity, trace, case.steady
            )
            host.start(self.decoder, case)
            self.returned: Any = None
            self.error: BaseException | None = None
            self._drive(host.object)
            swallowed = host.model.record.mlx_error
            raise_if_fake_lacks(host.object, self.error or swallowed)
            if not stub_missing(self.error or swallowed):
                break
        self.fallback = _reason(swallowed) if host.model.record.pytorch_ran else None

    def observation(self, reference: tuple[float, ...], unpatched: tuple[float, ...] | None) -> Observation:
        expected = reference if self.case.is_base else unpatched
        ran = self.error is None and self.fallback is None
        compared = ran and self.case.has_known_latents and expected is not None
        return Observation(
            evaluated=tuple(self.decoder.timesteps),
            guided=self.decoder.guided,
            reference=reference,
            unpatched=unpatched,
            latents=latents_distance(self.decoder, expected, self.returned)
            if compared and expected
            else None,
            fallback=self.fallback,
            error=None if self.error is None else describe(self.error),
        )

    def _drive(self, host: Any) -> None:
        if self.case.thread:
            call_in_thread(lambda: self._request(host))
        else:
            self._request(host)

    def _request(self, host: Any) -> None:
        try:
            if self.trace is None:
                self.returned = request_generation(host, self.case)["target_latents"]
            else:
                self.trace.run(lambda: request_generation(host, self.case))
        except BaseException as raised:  # also SystemExit: the checkout's end is not ours
            self.error = raised
        try:
            self.decoder.finish()
        except RuntimeError as raised:
            self.error = self.error or raised


def request_generation(host: Any, case: Case) -> dict[str, Any]:
    """Build the keyword arguments and execute them, as the application does. Returns the outputs."""
    seeds = case.noise or [case.seed + item for item in range(case.batch)]
    known: dict[str, Any] = {
        "payload": _payload(case),
        "seed_param": list(seeds),
        "infer_steps": case.steps,
        "guidance_scale": case.guidance_scale,
        "audio_cover_strength": 1.0,
        "cover_noise_strength": 0.0,
        "infer_method": "ode",
        "use_adg": False,
        "cfg_interval_start": 0.0,
        "cfg_interval_end": 1.0,
        "shift": case.shift,
        "timesteps": None if case.timesteps is None else list(case.timesteps),
        "sampler_mode": "euler",
        "velocity_norm_threshold": 0.0,
        "velocity_ema_factor": 0.0,
    }
    if not case.dcw:
        known["dcw_enabled"] = False
    known["generate_kwargs"] = call_by_name(getattr(host, BUILD), known)
    return call_by_name(getattr(host, EXECUTE), known)[0]


def _payload(case: Case) -> Payload:
    payload = build_payload(
        case.batch, case.frames, random_tensor(case.seed, case.batch, case.frames, CHANNELS)
    )
    if case.lego:
        start = case.frames // 2 if case.part else 0
        payload["chunk_mask"][:, :start] = 0
        payload |= {
            "text_inputs": [LEGO_PROMPT] * case.batch,
            "spans": [("repainting", start, case.frames)] * case.batch,
            "repaint_mask": payload["chunk_mask"][..., 0] > 0,
        }
    return payload


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    """Values of a known seed, as no zeros would be: a checkout may look at its conditions."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _reason(swallowed: BaseException | None) -> str:
    return "the MLX branch was not taken" if swallowed is None else describe(swallowed)
