"""The child process: runs a checkout's three files with fakes and records what the decoder gets.

Started by `verify_checkout` alone, through `harness.process.run_module`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..harness.child import Reply, serve
from ..harness.imports import CannotProbe, describe, import_file, stub_missing
from .cases import Case, Observation
from .schedules import reference_schedule, unpatched_schedule

if TYPE_CHECKING:
    from .loop import RandomVelocityDecoder
    from .trace import StepTrace

BUILD = "_build_service_generate_kwargs"
EXECUTE = "_execute_service_generate_diffusion"
RUN = "_mlx_run_diffusion"


def main() -> None:
    serve(answer)


def answer(request: dict[str, Any], reply: Reply) -> None:
    try:
        reply(probe(request))
    except CannotProbe as reason:
        reply({"cannot": str(reason)})


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Run all cases of a request. Raises CannotProbe where the checkout cannot be run at all."""
    require("mlx", "numpy", "torch")
    cases = [Case.from_json(case) for case in request["cases"]]
    references = [reference_schedule(case) for case in cases]  # before any code of the checkout runs
    found = versions()
    do_not_compile()
    files = import_three(Path(request["root"]), {name: Path(request[name]) for name in FILES})
    observations = observe_all(cases, references, files)
    return {
        "versions": found,
        "observations": [asdict(observation) for observation in observations],
        "cut": trace_cut(Path(request["root"]), cases, observations, files),
    }


FILES = ("generate", "diffusion", "execute")  # in this order: packages that D imports from are bare by then


def import_three(root: Path, paths: dict[str, Path]) -> dict[str, ModuleType]:
    """The checkout's three modules by site."""
    return {name: import_file(root, paths[name]) for name in FILES}


def require(*packages: str) -> None:
    """Raise CannotProbe, with what to install, unless each of `packages` can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        # on Linux, mlx by itself comes without anything to compute with
        names = ["'mlx[cpu]'" if (name, sys.platform) == ("mlx", "linux") else name for name in missing]
        raise CannotProbe(
            f"its three files need what is not installed here: {', '.join(missing)}; "
            f"run: {sys.executable} -m pip install {' '.join(names)}"
        )


def versions() -> dict[str, str]:
    """Of the libraries that the proof rests on."""
    import mlx.core as mx
    import torch

    return {"mlx": str(getattr(mx, "__version__", "?")), "torch": torch.__version__}


def do_not_compile() -> None:
    """Replace mx.compile: a compiled step calls the decoder once, while it is traced; uncompiled, each time."""
    import mlx.core as mx

    def uncompiled(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    vars(mx)["compile"] = uncompiled


def observe_all(
    cases: list[Case], references: list[tuple[float, ...]], files: dict[str, ModuleType]
) -> list[Observation]:
    """Run the cases in their order, those of one model kind on one host: an application has one for all requests.

    The checkout's own schedule is asked last: asked in between, it could change what a cache in it holds.
    """
    hosts: dict[Any, Host] = {}
    runs = []
    for case in cases:
        key = (case.model, case.compiled)
        if key not in hosts:
            hosts[key] = Host(case, files)
        runs.append(Run(case, hosts[key]))
    unpatched = {key: unpatched_schedule(case, files["generate"]) for key, case in _distinct(cases).items()}
    return [
        run.observation(reference, unpatched[_schedule_key(case)])
        for case, run, reference in zip(cases, runs, references, strict=True)
    ]


def _distinct(cases: list[Case]) -> dict[Any, Case]:
    return {_schedule_key(case): case for case in cases}


def _schedule_key(case: Case) -> tuple[Any, ...]:
    return case.steps, case.shift, case.timesteps, case.config is None


class Host:
    """A host of the checkout's own classes, for any number of runs."""

    def __init__(self, case: Case, files: dict[str, ModuleType]) -> None:
        from ..harness.fakes import CountingDecoder, HostDecoder, build_host, class_with

        execute, diffusion = class_with(files["execute"], EXECUTE), class_with(files["diffusion"], RUN)
        self.decoder = HostDecoder(CountingDecoder())
        self.object = build_host(execute, diffusion, case.config, self.decoder, case.compiled)
        self.model = self.object.model

    def start(self, decoder: RandomVelocityDecoder, frames: int) -> None:
        """The next run: nothing of the one before is left in the fakes; the checkout's own attributes stay."""
        from ..harness.fakes import CHANNELS

        self.decoder.current = decoder
        self.object.silence_latent = self.object.silence_latent.new_zeros(1, frames, CHANNELS)
        self.model.start(decoder.batch, frames)


class Run:
    """One case, run through the three files once; again where a module turns out to be missing on the way."""

    def __init__(self, case: Case, host: Host, trace: StepTrace | None = None) -> None:
        from ..harness.fakes import raise_if_fake_lacks
        from .loop import RandomVelocityDecoder

        self.case = case
        self.trace = trace
        while True:
            self.decoder: RandomVelocityDecoder = RandomVelocityDecoder(case.seed, case.batch, trace)
            host.start(self.decoder, case.frames)
            self.returned: Any = None
            self.error: BaseException | None = None
            self._drive(host.object)
            swallowed = host.model.swallowed
            raise_if_fake_lacks(host.object, self.error or swallowed)
            if not stub_missing(self.error or swallowed):
                break
        self.fallback = _reason(swallowed) if host.model.fell_back else None

    def observation(self, reference: tuple[float, ...], unpatched: tuple[float, ...] | None) -> Observation:
        from .loop import latents_distance

        expected = reference if self.case.is_base else unpatched
        compared = self.error is None and self.fallback is None and expected is not None
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
        if not self.case.thread:
            self._request(host)
            return
        worker = threading.Thread(target=self._request, args=(host,))
        worker.start()
        worker.join()

    def _request(self, host: Any) -> None:
        try:
            if self.trace is None:
                self.returned = request_generation(host, self.case)["target_latents"]
            else:
                self.trace.run(lambda: request_generation(host, self.case))
        except BaseException as raised:  # also SystemExit: the checkout's end is not ours
            self.error = raised


def request_generation(host: Any, case: Case) -> dict[str, Any]:
    """Build the keyword arguments and execute them, as the application does. Returns the outputs."""
    from ..harness.fakes import build_payload, call_by_name

    payload = build_payload(case.batch, case.frames)
    known: dict[str, Any] = {
        "payload": payload,
        "seed_param": [case.seed + item for item in range(case.batch)],
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
        "dcw_enabled": False,
    }
    known["generate_kwargs"] = call_by_name(getattr(host, BUILD), known)
    return call_by_name(getattr(host, EXECUTE), known)[0]


def trace_cut(
    root: Path, cases: list[Case], observations: list[Observation], files: dict[str, ModuleType]
) -> list[str]:
    """Where the steps are cut, in words; empty where no base case ran on MLX with another count than requested."""
    from .trace import StepTrace

    wrong = [
        (case, seen)
        for case, seen in zip(cases, observations, strict=True)
        if case.is_base and not (seen.error or seen.fallback) and len(seen.evaluated) != len(seen.reference)
    ]
    if not wrong:
        return []
    case, seen = min(wrong, key=_trace_order)
    name = "infer_steps" if case.timesteps is None else "timesteps"
    trace = StepTrace(root, name, len(seen.reference), len(seen.evaluated))
    run = Run(case, Host(case, files), trace)
    lines = [f"cut: {trace.cut}"] if trace.cut else []
    if len(run.decoder.timesteps) == len(seen.reference):
        lines.append(
            f"Run once more, {case.requested} were evaluated as requested: it depends on what ran before."
        )
    kind = f"{case.requested} ({case.run})" if case.run else case.requested
    return [*lines, f"on the way, {kind}: {trace.seen}"]


def _trace_order(failing: tuple[Case, Observation]) -> tuple[Any, ...]:
    """Steps first; small counts could be mistaken for any other small number, large ones take long."""
    case, count = failing[0], len(failing[1].reference)
    return case.timesteps is not None, not 20 <= count <= 200, count


def _reason(swallowed: BaseException | None) -> str:
    return "the MLX branch was not taken" if swallowed is None else describe(swallowed)
