"""Small checkouts of our own writing for three eras of upstream, with its names and parameters at each.

88c9f20: no step count reaches the schedule. 82a5d84: `infer_steps` is threaded, None by default. 8567e33: guidance in
the loop, and the parameters sampler_mode, velocity_*, dcw_* and retake_*.
"""

from __future__ import annotations

from tests.patches.mini_checkout import BEFORE, COMPILE_LINE, FIXED, MiniCheckout

_STEPS_NONE = ("    infer_steps: int = 8,\n", "    infer_steps: Optional[int] = None,\n")
THREADED = FIXED.edited("execute", ('.get("infer_steps", 8)', '.get("infer_steps")')).edited(
    "diffusion", _STEPS_NONE, ("import torch\n", "from typing import Optional\n\nimport torch\n")
)

# name, annotated default
_LATER = (
    ("guidance_scale", "float = 1.0"),
    ("sampler_mode", 'str = "euler"'),
    ("velocity_norm_threshold", "float = 0.0"),
    ("velocity_ema_factor", "float = 0.0"),
    ("dcw_enabled", "bool = True"),
    ("dcw_mode", 'str = "double"'),
    ("dcw_scaler", "float = 0.05"),
    ("retake_seed", "Optional[object] = None"),
    ("retake_variance", "float = 0.0"),
)


def _parameters(indent: str) -> str:
    return "".join(f"{indent}{name}: {default},\n" for name, default in _LATER)


def _passed(indent: str) -> str:
    return "".join(f"{indent}{name}={name},\n" for name, _ in _LATER)


_BUILT = "".join(f'        built["{name}"] = {name}\n' for name, _ in _LATER[1:])
_OUT_OF_EXECUTE = "".join(
    f'                    {name}=generate_kwargs.get("{name}", {default.partition(" = ")[2]}),\n'
    for name, default in _LATER[1:]
)

LATE = (
    THREADED.edited(
        "execute",
        ("import torch\n", "from typing import Optional\n\nimport torch\n"),
        (
            "shift, timesteps\n    ):\n",
            "shift, timesteps,\n" + _parameters("        ").split("\n", 1)[1] + "    ):\n",
        ),
        ("        return built\n", f"{_BUILT}        return built\n"),
        (
            "                    audio_cover_strength=audio_cover_strength,\n",
            "                    audio_cover_strength=audio_cover_strength,\n"
            '                    guidance_scale=generate_kwargs.get("diffusion_guidance_scale", 1.0),\n'
            "                    null_condition_emb=self.model.null_condition_emb,\n" + _OUT_OF_EXECUTE,
        ),
    )
    .edited(
        "diffusion",
        (
            "        audio_cover_strength: float = 1.0,\n",
            "        audio_cover_strength: float = 1.0,\n"
            "        null_condition_emb: Optional[torch.Tensor] = None,\n" + _parameters("        "),
        ),
        (
            COMPILE_LINE,
            COMPILE_LINE
            + "            null_condition_emb_np=None if null_condition_emb is None else null_condition_emb.numpy(),\n"
            + _passed("            "),
        ),
    )
    .edited(
        "generate",
        (
            "    compile_model: bool = False,\n",
            "    compile_model: bool = False,\n    null_condition_emb_np: Optional[np.ndarray] = None,\n"
            + _parameters("    "),
        ),
        (
            "    cache = MLXCrossAttentionCache()\n",
            "    if retake_seed is not None and retake_variance > 0:\n"
            "        other = mx.random.normal(src_latents_shape, key=mx.random.key(retake_seed))\n"
            "        x = x * (1 - retake_variance**2) ** 0.5 + other * retake_variance\n"
            "    guided = guidance_scale > 1.0 and null_condition_emb_np is not None\n"
            "    if guided:\n"
            "        null = mx.zeros_like(states) + mx.array(null_condition_emb_np)\n"
            "        states, context = mx.concatenate([states, null]), mx.concatenate([context, context])\n"
            "    cache = MLXCrossAttentionCache()\n",
        ),
        (
            "    for now, then in zip(levels, [*levels[1:], 0.0]):\n"
            "        x = x - velocity(x, mx.full((x.shape[0],), now)) * (now - then)\n",
            "\n"
            "    def predict(x, t):\n"
            "        if not guided:\n"
            "            return velocity(x, mx.full((x.shape[0],), t))\n"
            "        both = velocity(mx.concatenate([x, x]), mx.full((2 * x.shape[0],), t))\n"
            "        cond, uncond = both[: x.shape[0]], both[x.shape[0] :]\n"
            "        return cond + (guidance_scale - 1.0) * (cond - uncond)\n"
            "\n"
            "    average = None\n"
            "    for now, then in zip(levels, [*levels[1:], 0.0]):\n"
            "        v = predict(x, now)\n"
            '        if sampler_mode == "heun" and then > 0:\n'
            "            v = (v + predict(x - v * (now - then), then)) / 2\n"
            "        if velocity_ema_factor > 0:\n"
            "            average = v if average is None else average + velocity_ema_factor * (v - average)\n"
            "            v = average\n"
            "        x = x - v * (now - then)\n"
            "        if dcw_enabled:\n"
            "            x = x * (1 + dcw_scaler * then)\n",
        ),
    )
)

ERAS: dict[str, MiniCheckout] = {"88c9f20": BEFORE, "82a5d84": THREADED, "8567e33": LATE}
