"""Counts what a checkout evaluates, with numpy in MLX's place and nothing of the patch kit.

For a process of its own (see fork_server.py): it replaces modules and runs code of the checkout.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

CHANNELS = 4
SHIFT = 3.0
SEED = 7


def requests(steps: Sequence[int], custom: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Base models: each request in order, guided, compiled, in a worker thread, in reverse order; one at another shift,
    one of real size. Turbo and a host without config: once."""
    single: list[dict[str, Any]] = [{"steps": count} for count in steps]
    single += [{"steps": 8, "timesteps": list(values)} for values in custom]
    others: list[dict[str, Any]] = [
        {"steps": 8},
        {"steps": max(steps)},
        {"steps": 8, "timesteps": list(custom[0])},
    ]
    planned = [{"model": "base", **request} for request in single]
    planned += [{"model": model, **request} for model in ("turbo", "no config") for request in others]
    for further in ({"guidance": 7.0}, {"compiled": True}, {"thread": True}, {"shift": 1.0}):
        planned += [{"model": "base", **request, **further} for request in single]
    planned += [
        {"model": "base", "steps": 27, "batch": 2, "frames": 1500},
        {"model": "base", "steps": 27, "shift": 2.5},
    ]
    return planned + [{"model": "base", **request} for request in single[::-1]]


def wanted(request: dict[str, Any]) -> list[float]:
    """The timesteps that a base model has to be evaluated at."""
    if request.get("timesteps") is not None:
        return [float(np.float32(t)) for t in request["timesteps"] if t != 0]
    n = request["steps"]
    shift = request.get("shift", SHIFT)
    return [shift * t / (1 + (shift - 1) * t) for t in ((n - i) / n for i in range(n))]


def agrees(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong, empty where nothing is: base models as requested, all others as `before`.

    A base request that PyTorch answers in a worker thread, without one evaluation on MLX, is no fault of the steps.
    """
    faults = []
    for old, new in zip(before, after, strict=True):
        request = new["request"]
        name = f"{request['model']} {request['steps']}/{len(request.get('timesteps') or [])}"
        if request["model"] != "base":
            if not _same(new["evaluated"], old["evaluated"]) or new["error"] or new["fell_back"]:
                faults.append(f"{name}: {len(old['evaluated'])} before, {len(new['evaluated'])} now")
            continue
        if request.get("thread") and new["fell_back"] and not new["evaluated"]:
            continue
        schedule = wanted(request)
        if new["error"] or new["fell_back"]:
            faults.append(f"{name}: {new['error'] or 'PyTorch ran'}")
        elif len(new["evaluated"]) != len(schedule):
            faults.append(f"{name}: {len(new['evaluated'])} evaluations")
        elif not _same(new["evaluated"], schedule):
            faults.append(f"{name}: other timesteps")
        elif not new["distance"] <= 2e-5:
            faults.append(f"{name}: latents {new['distance']:.2g} away")
    return faults


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= 1e-6 for a, b in zip(one, other, strict=True))


def count(root: str, planned: Sequence[dict[str, Any]], **further: Any) -> list[dict[str, Any]]:
    """Runs the requests in their order, those of one model on one host. `further`: arguments of the builder."""
    execute, diffusion = _modules(Path(root))
    hosts: dict[tuple[str, bool], Any] = {}
    runs = []
    for request in planned:
        key = request["model"], request.get("compiled", False)
        if key not in hosts:
            hosts[key] = _host(execute, diffusion, *key)
        runs.append(_run(hosts[key], request, further))
    return runs


class _Decoder:
    """Counts its evaluations, and returns velocities of a known random sequence, for both branches alike."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(SEED)
        self.start()

    def start(self, batch: int = 1) -> None:
        """Forgets the run before. `batch`: latents in each evaluation, guidance branches not counted."""
        self.batch = batch
        self.timesteps: list[float] = []
        self.velocities: list[np.ndarray] = []
        self.first: np.ndarray | None = None

    def __call__(self, hidden_states: Any, timestep: Any, *_: Any, **given: Any) -> tuple[Any, Any]:
        if self.first is None:
            self.first = np.array(hidden_states[: self.batch], dtype=np.float64)
        self.timesteps.append(float(timestep[0]))
        shape = (self.batch, *hidden_states.shape[1:])
        velocity = self._random.standard_normal(shape, dtype=np.float32)
        self.velocities.append(velocity)
        return np.concatenate([velocity] * (len(hidden_states) // self.batch)), given.get("cache")

    def distance(self, returned: Any) -> float | None:
        """Relative L2 distance of the returned latents from one Euler step for each evaluation."""
        if self.first is None or returned is None:
            return None
        x = self.first
        for velocity, now, then in zip(
            self.velocities, self.timesteps, [*self.timesteps[1:], 0.0], strict=True
        ):
            x = x - velocity.astype(np.float64) * (now - then)
        difference = np.linalg.norm(np.asarray(returned, dtype=np.float64) - x)
        return float(difference / (np.linalg.norm(x) or 1.0))


def _host(execute: type, diffusion: type, model: str, compiled: bool) -> Any:
    host: Any = type("Handler", (execute, diffusion), {"_load_model_context": _no_context})()
    host.fallbacks = []
    host.model = SimpleNamespace(
        prepare_condition=lambda src_latents, **_: (
            torch.zeros(len(src_latents), 2, 4),
            torch.ones(len(src_latents), 2),
            torch.zeros(*src_latents.shape[:2], 2 * CHANNELS),
        ),
        generate_audio=lambda **_: host.fallbacks.append(1) or {"target_latents": None, "time_costs": {}},
        null_condition_emb=torch.zeros(1, 1, 4),
    )
    host.__dict__.update(mlx_decoder=_Decoder(), use_mlx_dit=True, device="cpu", dtype=torch.float32)
    host.mlx_dit_compiled = compiled
    host.decoder = host.mlx_decoder
    if model != "no config":
        host.config = SimpleNamespace(is_turbo=model == "turbo")
    return host


def _run(host: Any, request: dict[str, Any], further: dict[str, Any]) -> dict[str, Any]:
    decoder = host.decoder
    errors: list[Any] = []
    returned: list[Any] = []
    batch, frames = request.get("batch", 1), request.get("frames", 3)
    decoder.start(batch)
    host.fallbacks.clear()
    seeds = [SEED + item for item in range(batch)]

    def generate() -> None:
        payload = {"src_latents": torch.zeros(batch, frames, CHANNELS)}
        try:
            kwargs = host._build_service_generate_kwargs(
                payload=payload,
                seed_param=seeds,
                infer_steps=request["steps"],
                guidance_scale=request.get("guidance", 1.0),
                infer_method="ode",
                shift=request.get("shift", SHIFT),
                timesteps=request.get("timesteps"),
                **further,
            )
            outputs = host._execute_service_generate_diffusion(
                payload=payload,
                generate_kwargs=kwargs,
                seed_param=seeds,
                infer_method="ode",
                shift=request.get("shift", SHIFT),
                audio_cover_strength=1.0,
            )[0]
            returned.append(outputs["target_latents"])
        except BaseException as error:
            errors.append(repr(error))

    if request.get("thread"):
        worker = threading.Thread(target=generate)
        worker.start()
        worker.join()
    else:
        generate()
    latents = returned[0] if returned else None
    return {
        "request": request,
        "evaluated": decoder.timesteps,
        "distance": decoder.distance(None if latents is None else latents.numpy()),
        "fell_back": bool(host.fallbacks),
        "error": errors[0] if errors else None,
    }


def _no_context(*_: Any) -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


def _modules(root: Path) -> tuple[type, type]:
    """The two mixins, imported from below `root`; no `__init__.py` runs."""
    sys.modules.update(_numpy_as_mlx())
    folders = ("core", "core/generation", "core/generation/handler", "models", "models/mlx")
    for name in ("acestep", *(f"acestep/{folder}" for folder in folders)):
        package = ModuleType(name.replace("/", "."))
        package.__path__ = [str(root / name)]
        sys.modules[package.__name__] = package
        parent, _, child = package.__name__.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, package)
    importlib.import_module("acestep.models.mlx.dit_generate")
    handler = "acestep.core.generation.handler"
    diffusion = importlib.import_module(f"{handler}.diffusion")
    execute = importlib.import_module(f"{handler}.service_generate_execute")
    return execute.ServiceGenerateExecuteMixin, diffusion.DiffusionMixin


def _numpy_as_mlx() -> dict[str, ModuleType]:
    core = ModuleType("mlx.core")
    random = SimpleNamespace(
        key=np.random.default_rng,
        normal=lambda shape, key: key.standard_normal(shape, dtype=np.float32),
    )
    core.__dict__.update(
        array=np.array,
        concatenate=np.concatenate,
        zeros_like=np.zeros_like,
        full=lambda shape, value: np.full(shape, value, np.float32),
        compile=lambda function: function,
        eval=lambda *_: None,
        random=random,
        float16=np.float16,
        float32=np.float32,
    )
    mlx, loguru = ModuleType("mlx"), ModuleType("loguru")
    mlx.core = core  # type: ignore[attr-defined]
    quiet = SimpleNamespace(warning=lambda *_: None, info=lambda *_: None, debug=lambda *_: None)
    loguru.logger = quiet  # type: ignore[attr-defined]
    return {"mlx": mlx, "mlx.core": core, "loguru": loguru}
