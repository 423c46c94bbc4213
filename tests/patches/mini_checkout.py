"""Small checkouts of our own writing: upstream's interface at the three sites, and nothing of its text.

`BEFORE` stands where upstream stood at 88c9f20 (no step count reaches the schedule), `FIXED` where it stands
since 82a5d84 (steps are threaded, the model kind is not), `PATCHED` is BEFORE with the three patches in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

EXECUTE = """\
import torch
from loguru import logger


class ServiceGenerateExecuteMixin:
    def _build_service_generate_kwargs(
        self, payload, seed_param, infer_steps, guidance_scale, infer_method, shift, timesteps
    ):
        built = {"src_latents": payload["src_latents"], "seed": seed_param, "infer_method": infer_method}
        built.update(infer_steps=infer_steps, diffusion_guidance_scale=guidance_scale, shift=shift)
        if timesteps is not None:
            built["timesteps"] = torch.tensor(timesteps, dtype=torch.float32)
        return built

    def _execute_service_generate_diffusion(
        self, payload, generate_kwargs, seed_param, infer_method, shift, audio_cover_strength
    ):
        with torch.inference_mode(), self._load_model_context("model"):
            states, mask, context = self.model.prepare_condition(src_latents=payload["src_latents"])
            if not (self.use_mlx_dit and self.mlx_decoder is not None):
                return self.model.generate_audio(**generate_kwargs), states, mask, context
            try:
                outputs = self._mlx_run_diffusion(
                    encoder_hidden_states=states,
                    encoder_attention_mask=mask,
                    context_latents=context,
                    src_latents=payload["src_latents"],
                    seed=seed_param,
                    infer_method=infer_method,
                    shift=shift,
                    timesteps=generate_kwargs.get("timesteps"),
                    audio_cover_strength=audio_cover_strength,
                )
            except Exception as problem:
                logger.warning("no luck on MLX: %s", problem)
                outputs = self.model.generate_audio(**generate_kwargs)
        return outputs, states, mask, context
"""

DIFFUSION = '''\
import torch

from acestep.models.mlx.dit_generate import mlx_generate_diffusion


class DiffusionMixin:
    def _mlx_run_diffusion(
        self,
        encoder_hidden_states,
        encoder_attention_mask,
        context_latents,
        src_latents,
        seed,
        infer_method: str = "ode",
        shift: float = 3.0,
        timesteps=None,
        audio_cover_strength: float = 1.0,
    ):
        """Hand the tensors to MLX as arrays."""
        done = mlx_generate_diffusion(
            mlx_decoder=self.mlx_decoder,
            encoder_hidden_states_np=encoder_hidden_states.numpy(),
            context_latents_np=context_latents.numpy(),
            src_latents_shape=tuple(src_latents.shape),
            seed=seed,
            infer_method=infer_method,
            shift=shift,
            timesteps=None if timesteps is None else timesteps.tolist(),
            compile_model=getattr(self, "mlx_dit_compiled", False),
        )
        latents = torch.from_numpy(done["target_latents"]).to(self.device, self.dtype)
        return {"target_latents": latents, "time_costs": done["time_costs"]}
'''

GENERATE = '''\
from typing import Optional

import numpy as np

TABLES = {s: [s * t / 8 / (1 + (s - 1) * t / 8) for t in range(8, 0, -1)] for s in (1.0, 2.0, 3.0)}
GRID = sorted({value for table in TABLES.values() for value in table})


def get_timestep_schedule(
    shift: float = 3.0,
    timesteps: Optional[list] = None,
):
    """Choose the timesteps as a turbo model wants them."""
    if timesteps is not None:
        asked = [t for t in timesteps if t > 0][:20]
        return [min(GRID, key=lambda g, t=t: abs(g - t)) for t in asked]
    return TABLES[min(TABLES, key=lambda s: abs(s - shift))]


def mlx_generate_diffusion(
    mlx_decoder,
    encoder_hidden_states_np,
    context_latents_np,
    src_latents_shape,
    seed=None,
    infer_method: str = "ode",
    shift: float = 3.0,
    timesteps: Optional[list] = None,
    compile_model: bool = False,
):
    """Walk from noise to latents."""
    import mlx.core as mx

    from .dit_model import MLXCrossAttentionCache

    states, context = mx.array(encoder_hidden_states_np), mx.array(context_latents_np)
    x = mx.random.normal(src_latents_shape, key=mx.random.key(seed[0]))
    levels = get_timestep_schedule(shift, timesteps)
    cache = MLXCrossAttentionCache()

    def velocity(x, t):
        return mlx_decoder(
            hidden_states=x,
            timestep=t,
            timestep_r=t,
            encoder_hidden_states=states,
            context_latents=context,
            cache=cache,
            use_cache=True,
        )[0]

    if compile_model:
        velocity = mx.compile(velocity)
    for now, then in zip(levels, [*levels[1:], 0.0]):
        x = x - velocity(x, mx.full((x.shape[0],), now)) * (now - then)
    return {"target_latents": np.array(x), "time_costs": {}}
'''

DIT_MODEL = "class MLXCrossAttentionCache:\n    pass\n"

# What an application's packages do on import; whoever runs them needs all of the application.
HEAVY_PACKAGE = (
    "import gradio_that_is_not_installed\n\nraise RuntimeError('the whole application was started')\n"
)

BASE_BRANCH = """\
    # A base model takes one decoder evaluation a step, as many as asked for; turbo keeps what follows.
    if not is_turbo and timesteps is not None:
        falling = [float(t) for t in timesteps]
        while falling and falling[-1] == 0:
            falling.pop()
        if not falling or not all(a >= b for a, b in zip([1.0] + falling, falling + [0.0])):
            raise ValueError(f"timesteps must fall from at most 1 to above 0, got {timesteps!r}")
        return falling
    if not is_turbo and infer_steps is not None:
        if not hasattr(infer_steps, "__index__") or infer_steps < 1:
            raise ValueError(f"infer_steps must be a whole number of at least 1, got {infer_steps!r}")
        linear = [(infer_steps - i) / infer_steps for i in range(infer_steps)]
        return [shift * t / (1.0 + (shift - 1.0) * t) for t in linear]
"""


def edit(text: str, *changes: tuple[str, str]) -> str:
    """`text` with each (old, new) carried out; every `old` has to be there exactly once."""
    for old, new in changes:
        assert text.count(old) == 1, f"{text.count(old)} times in the source: {old!r}"
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class MiniCheckout:
    """The texts of the three files, and where the third one stands."""

    execute: str = EXECUTE
    diffusion: str = DIFFUSION
    generate: str = GENERATE
    generate_path: str = "acestep/models/mlx/dit_generate.py"

    def write(self, root: Path) -> Path:
        """Lay the checkout out below `root` (made if missing), among packages that nobody should import."""
        handler = "acestep/core/generation/handler"
        files = {
            f"{handler}/service_generate_execute.py": self.execute,
            f"{handler}/diffusion.py": self.diffusion,
            self.generate_path: self.generate,
            str(Path(self.generate_path).with_name("dit_model.py")): DIT_MODEL,
            "acestep/__init__.py": "",
            f"{handler}/__init__.py": HEAVY_PACKAGE,
            str(Path(self.generate_path).with_name("__init__.py")): HEAVY_PACKAGE,
        }
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="")
        return root

    def edited(self, site: str, *changes: tuple[str, str]) -> MiniCheckout:
        """This checkout with `edit` carried out on one of its texts: execute, diffusion or generate."""
        return replace(self, **{site: edit(getattr(self, site), *changes)})

    def extended(self, site: str, more: str) -> MiniCheckout:
        """This checkout with `more` at the end of one of its texts."""
        return replace(self, **{site: f"{getattr(self, site)}\n\n{more}"})


STEPS_IN_EXECUTE = (
    '                    timesteps=generate_kwargs.get("timesteps"),\n',
    '                    timesteps=generate_kwargs.get("timesteps"),\n'
    '                    infer_steps=generate_kwargs.get("infer_steps", 8),\n',
)
STEPS_INTO_DIFFUSION = (
    "        audio_cover_strength: float = 1.0,\n",
    "        audio_cover_strength: float = 1.0,\n        infer_steps: int = 8,\n",
)
COMPILE_LINE = '            compile_model=getattr(self, "mlx_dit_compiled", False),\n'
STEPS_LINE = "            infer_steps=infer_steps,\n"
KIND = 'getattr(self, "config", None) is None or getattr(self.config, "is_turbo", False)'
STEPS_OUT_OF_DIFFUSION = (COMPILE_LINE, COMPILE_LINE + STEPS_LINE)
KIND_OUT_OF_DIFFUSION = (STEPS_LINE, f"{STEPS_LINE}            is_turbo={KIND},\n")
PATCHES_IN_GENERATE = (
    (
        "    timesteps: Optional[list] = None,\n):\n",
        "    timesteps: Optional[list] = None,\n    infer_steps: int = 8,\n    is_turbo: bool = True,\n):\n",
    ),
    (
        "    compile_model: bool = False,\n",
        "    compile_model: bool = False,\n    infer_steps: int = 8,\n    is_turbo: bool = True,\n",
    ),
    ("(shift, timesteps)\n", "(shift, timesteps, infer_steps=infer_steps, is_turbo=is_turbo)\n"),
    ('turbo model wants them."""\n', f'turbo model wants them."""\n{BASE_BRANCH}'),
)
UPSTREAM_FIX_IN_GENERATE = (
    (
        "    timesteps: Optional[list] = None,\n):\n",
        "    timesteps: Optional[list] = None,\n    infer_steps: Optional[int] = None,\n):\n",
    ),
    (
        "    compile_model: bool = False,\n",
        "    compile_model: bool = False,\n    infer_steps: Optional[int] = None,\n",
    ),
    ("(shift, timesteps)\n", "(shift, timesteps, infer_steps=infer_steps)\n"),
    (
        "    return TABLES[",
        "    if infer_steps is not None:\n"
        "        straight = [1 - i / infer_steps for i in range(infer_steps)]\n"
        "        return [shift * t / (1 + (shift - 1) * t) for t in straight]\n"
        "    return TABLES[",
    ),
)

BEFORE = MiniCheckout()
FIXED = MiniCheckout(
    edit(EXECUTE, STEPS_IN_EXECUTE),
    edit(DIFFUSION, STEPS_INTO_DIFFUSION, STEPS_OUT_OF_DIFFUSION),
    edit(GENERATE, *UPSTREAM_FIX_IN_GENERATE),
)
PATCHED = MiniCheckout(
    edit(EXECUTE, STEPS_IN_EXECUTE),
    edit(DIFFUSION, STEPS_INTO_DIFFUSION, STEPS_OUT_OF_DIFFUSION, KIND_OUT_OF_DIFFUSION),
    edit(GENERATE, *PATCHES_IN_GENERATE),
)
