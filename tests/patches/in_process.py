"""Runs the three files of a small checkout here, with arrays of numpy in MLX's place: quick, for many cases.

`patches.verify` is the real proof, on MLX and in a process of its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.patches.mini_checkout import DIT_MODEL

CUSTOM = [1.0 - 0.024 * i for i in range(40)]


@dataclass(frozen=True)
class Run:
    """The decoder's timesteps on MLX, or whether PyTorch was run instead."""

    timesteps: tuple[float, ...]
    fell_back: bool


def base_schedule(steps: int, shift: float = 3.0) -> tuple[float, ...]:
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float32)[:-1]
    return tuple((shift * t / (1 + (shift - 1) * t)).tolist())


def run(
    texts: Mapping[str, bytes], *, is_turbo: bool, steps: int, timesteps: list[float] | None = None
) -> Run:
    """One request through execute, diffusion and generate (sources as bytes). What they raise comes out."""
    with _loaded(texts) as (execute, diffusion):
        host_class = type(
            "Host", (execute, diffusion), {"_load_model_context": lambda *_: contextlib.nullcontext()}
        )
        host = host_class()
        seen: list[float] = []
        fallbacks: list[object] = []

        def decode(hidden_states: Any, timestep: Any, **given: Any) -> tuple[Any, Any]:
            seen.append(float(timestep[0]))
            return np.zeros_like(hidden_states), given.get("cache")

        def generate_audio(**kwargs: object) -> dict[str, object]:
            fallbacks.append(kwargs)
            return {"target_latents": None, "time_costs": {}}

        arrays = (torch.zeros(1, 2, 4), torch.ones(1, 2), torch.zeros(1, 3, 8))
        host.model = SimpleNamespace(
            prepare_condition=lambda **_: arrays,
            generate_audio=generate_audio,
        )
        host.__dict__.update(config=SimpleNamespace(is_turbo=is_turbo), mlx_decoder=decode, use_mlx_dit=True)
        host.__dict__.update(device="cpu", dtype=torch.float32)
        payload = {"src_latents": torch.zeros(1, 3, 4)}
        request = host._build_service_generate_kwargs(payload, [7], steps, 1.0, "ode", 3.0, timesteps)
        host._execute_service_generate_diffusion(payload, request, [7], "ode", 3.0, 1.0)
        return Run(tuple(seen), bool(fallbacks))


@contextlib.contextmanager
def _loaded(texts: Mapping[str, bytes]) -> Iterator[tuple[type, type]]:
    """The two mixins, from modules that are gone again afterwards."""
    mlx = ModuleType("mlx")
    core = ModuleType("mlx.core")
    random = SimpleNamespace(
        normal=lambda shape, key=None: np.zeros(shape, np.float32), key=lambda seed: seed
    )
    names = {
        "array": np.array,
        "full": lambda shape, value: np.full(shape, value, np.float32),
        "random": random,
    }
    core.__dict__.update(names)
    mlx.core = core  # type: ignore[attr-defined]
    loguru = ModuleType("loguru")
    quiet = SimpleNamespace(warning=lambda *_: None, info=lambda *_: None)
    loguru.logger = quiet  # type: ignore[attr-defined]
    packages = ("acestep", "acestep.models", "acestep.models.mlx")
    stand_ins = {name: ModuleType(name) for name in packages} | {
        "mlx": mlx,
        "mlx.core": core,
        "loguru": loguru,
    }
    for name in packages:
        stand_ins[name].__path__ = []
    before = {name: sys.modules.get(name) for name in (*stand_ins, *_ours())}
    sys.modules.update(stand_ins)
    try:
        _module("acestep.models.mlx.dit_model", DIT_MODEL.encode())
        generate = _module("acestep.models.mlx.dit_generate", texts["generate"])
        stand_ins["acestep.models.mlx"].dit_generate = generate  # type: ignore[attr-defined]
        diffusion = _module("diffusion", texts["diffusion"])
        execute = _module("execute", texts["execute"])
        yield execute.ServiceGenerateExecuteMixin, diffusion.DiffusionMixin
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _ours() -> tuple[str, ...]:
    return ("acestep.models.mlx.dit_model", "acestep.models.mlx.dit_generate", "diffusion", "execute")


def _module(name: str, source: bytes) -> Any:
    module = ModuleType(name)
    module.__package__ = name.rpartition(".")[0]
    sys.modules[name] = module
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)
    return module
