"""The probe process: run a checkout's three files with stand-ins and tell what the decoder saw.

Started by `patches.verify` alone, as a process of its own. Reads one JSON request on standard input, answers
with one JSON object on the standard output that it was born with; what the checkout prints goes to standard
error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from ..harness.imports import CannotProbe, describe, import_file, stub_missing
from .cases import Case, Observation

BUILD = "_build_service_generate_kwargs"
EXECUTE = "_execute_service_generate_diffusion"
RUN = "_mlx_run_diffusion"


def main() -> None:
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    try:
        answer = probe(request)
    except CannotProbe as reason:
        answer = {"cannot": str(reason)}
    json.dump(answer, answer_to)
    answer_to.flush()
    sys.stderr.flush()
    os._exit(0)  # a checkout's threads and exit hooks have no say in this


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Run all cases of a request; raise CannotProbe where the checkout cannot be run at all."""
    require("mlx", "numpy", "torch")
    cases = [Case.from_json(case) for case in request["cases"]]
    references = [reference_schedule(case) for case in cases]  # before any code of the checkout runs
    root = Path(request["root"])
    generate, diffusion, execute = (
        import_file(root, Path(request[name])) for name in ("generate", "diffusion", "execute")
    )
    _count_compiled_calls_too()
    observations = [
        observe(case, reference, execute, diffusion, generate)
        for case, reference in zip(cases, references, strict=True)
    ]
    return {
        "versions": versions(),
        "observations": [asdict(observation) for observation in observations],
    }


def require(*packages: str) -> None:
    """CannotProbe, with what to install, unless each of `packages` can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        # on Linux, mlx by itself comes without anything to compute with
        names = ["'mlx[cpu]'" if (name, sys.platform) == ("mlx", "linux") else name for name in missing]
        raise CannotProbe(
            f"its three files need what is not installed here: {', '.join(missing)}; "
            f"run: {sys.executable} -m pip install {' '.join(names)}"
        )


def versions() -> dict[str, str]:
    """Of what the proof rests on."""
    import mlx.core as mx
    import torch

    return {"mlx": str(getattr(mx, "__version__", "?")), "torch": torch.__version__}


def _count_compiled_calls_too() -> None:
    """A compiled step calls the decoder once, while it is traced; uncompiled, each evaluation is seen."""
    import mlx.core as mx

    def uncompiled(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        return function

    vars(mx)["compile"] = uncompiled


def reference_schedule(case: Case) -> tuple[float, ...]:
    """The decoder's timesteps on PyTorch's side, in float32; see Observation.reference."""
    import torch

    if case.timesteps is not None:
        values = torch.tensor(case.timesteps, dtype=torch.float32).tolist()
        while values and values[-1] == 0:
            values.pop()
        return tuple(values)
    if not isinstance(case.steps, int) or case.steps < 1:
        return ()
    t = torch.linspace(1.0, 0.0, case.steps + 1, dtype=torch.float32)
    return tuple((case.shift * t / (1 + (case.shift - 1) * t))[:-1].tolist())


def observe(
    case: Case,
    reference: tuple[float, ...],
    execute: ModuleType,
    diffusion: ModuleType,
    generate: ModuleType,
) -> Observation:
    """Drive one case through the three sites, stubbing modules that turn out to be missing on the way."""
    from ..harness.fakes import build_host, class_with, refuse_blame

    while True:
        host = build_host(class_with(execute, EXECUTE), class_with(diffusion, RUN), case.config)
        error: Exception | None = None
        try:
            _drive(host, case)
        except Exception as raised:
            error = raised
        refuse_blame(host, error or host.model.swallowed)
        if not stub_missing(error or host.model.swallowed):
            break
    return Observation(
        evaluated=tuple(host.mlx_decoder.timesteps),
        guided=host.mlx_decoder.guided,
        reference=reference,
        unpatched=unpatched_schedule(case, generate),
        fallback=_reason(host.model.swallowed) if host.model.fell_back else None,
        error=None if error is None else describe(error),
    )


def _reason(swallowed: BaseException | None) -> str:
    return "the MLX branch was not taken" if swallowed is None else describe(swallowed)


def _drive(host: Any, case: Case) -> None:
    from ..harness.fakes import BATCH, build_payload, call_by_name

    payload = build_payload()
    asked: dict[str, Any] = {
        "payload": payload,
        "seed_param": [0] * BATCH,
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
    asked["generate_kwargs"] = call_by_name(getattr(host, BUILD), asked)
    call_by_name(getattr(host, EXECUTE), asked)


def unpatched_schedule(case: Case, generate: ModuleType) -> tuple[float, ...] | None:
    """What the checkout's schedule gives to a caller that does not name the model kind.

    A checkout whose own default is a base model is asked for turbo's list by name, except where the host has
    no `config` to say so.
    """
    import inspect

    import torch

    from ..harness.fakes import call_by_name

    schedule = getattr(generate, "get_timestep_schedule", None)
    if schedule is None:
        raise CannotProbe(f"{generate.__name__} does not define get_timestep_schedule")
    asked: dict[str, Any] = {"shift": case.shift, "infer_steps": case.steps, "timesteps": None}
    if case.timesteps is not None:
        asked["timesteps"] = torch.tensor(case.timesteps, dtype=torch.float32).tolist()
    is_turbo = inspect.signature(schedule).parameters.get("is_turbo")
    to_be_told = [inspect.Parameter.empty] + ([] if case.config is None else [False])
    if is_turbo is not None and is_turbo.default in to_be_told:
        asked["is_turbo"] = True
    try:
        values = list(call_by_name(schedule, asked))
    except Exception:
        return None
    return tuple(torch.tensor(values, dtype=torch.float32).tolist())


if __name__ == "__main__":
    main()
