"""Timestep schedule and denoising loop of the MLX path."""

import time
from typing import Any

import numpy as np
from tqdm import tqdm

# A turbo model knows these three shifts alone, eight steps each. Which values it was distilled on follows from
# the shift transform, and every custom timestep is moved to the nearest of them.
VALID_SHIFTS = [1.0, 2.0, 3.0]
TURBO_STEPS = 8
MAX_TURBO_TIMESTEPS = 20
SHIFT_TIMESTEPS = {
    shift: [shift * k / (TURBO_STEPS + (shift - 1.0) * k) for k in range(TURBO_STEPS, 0, -1)]
    for shift in VALID_SHIFTS
}
VALID_TIMESTEPS = sorted({t for table in SHIFT_TIMESTEPS.values() for t in table}, reverse=True)


def get_timestep_schedule(
    shift: float = 3.0,
    timesteps: list[float] | None = None,
    # LEGO patch (generate) 1 of 4
    infer_steps: int = 8,
    is_turbo: bool = True,
) -> list[float]:
    """The falling values of t, one decoder evaluation each; the terminal 0 is not among them.

    Base: as many values as steps were asked for, linspace from 1 to 0 under the shift transform, or the custom
    timesteps as they are, trailing zeros aside. Turbo: the table of the nearest valid shift, or the custom
    timesteps, at most 20, each moved to the nearest valid value.
    Raises ValueError where a base model is asked for no whole number of steps or for timesteps that do not fall.
    """
    # LEGO patch (generate) 2 of 4: a base model takes the requested steps.
    if not is_turbo and timesteps is not None:
        custom = [float(t) for t in timesteps]
        while custom and custom[-1] == 0:
            custom.pop()
        bounds = [1.0, *custom, 0.0]
        falls = all(a >= b for a, b in zip(bounds, bounds[1:]))
        if not custom or not falls:
            raise ValueError(f"timesteps must fall to 0, got {custom}")
        return custom
    if not is_turbo and infer_steps is not None:
        if not hasattr(infer_steps, "__index__") or infer_steps < 1:
            raise ValueError(f"infer_steps must be >= 1, got {infer_steps!r}")
        # The values of torch.linspace: from both ends, with a float32 step.
        i, n = np.arange(infer_steps), int(infer_steps)
        step = float(np.float32(1 / n))
        t = np.where(i < (n + 1) // 2, 1 - step * i, step * (n - i))
        t = t.astype(np.float32)
        return (float(shift) * t / (1 + (float(shift) - 1) * t)).tolist()

    asked = list(timesteps or [])
    while asked and asked[-1] == 0:
        asked.pop()
    if asked:
        return [nearest(VALID_TIMESTEPS, t) for t in asked[:MAX_TURBO_TIMESTEPS]]
    return list(SHIFT_TIMESTEPS[nearest(VALID_SHIFTS, shift)])


def nearest(values: list[float], wanted: float) -> float:
    """The value with the smallest distance; the first of two that are equally near."""
    return min(values, key=lambda value: abs(value - wanted))


def draw_noise(seed: int | list[int] | None, shape: tuple[int, ...], step: int = 0) -> Any:
    """Noise [batch, frames, channels], float32; a list holds one seed for each item of the batch.

    step: 0 is what a run starts from; an SDE run draws anew after each of its steps, 1 after the first.
    """
    import mlx.core as mx

    if isinstance(seed, list):
        if len(seed) != shape[0]:
            raise ValueError(
                f"{len(seed)} seeds were given for a batch of {shape[0]}; give one for each item"
            )
        return mx.concatenate([draw_noise(item, (1, *shape[1:]), step) for item in seed])
    # A key is 64 bits, a seed 32: each step of each seed has a key of its own.
    return mx.random.normal(shape, key=None if seed is None else mx.random.key(seed + (step << 32)))


def mlx_generate_diffusion(
    mlx_decoder: Any,
    encoder_hidden_states_np: np.ndarray,
    context_latents_np: np.ndarray,
    src_latents_shape: tuple[int, ...],
    seed: int | list[int] | None = None,
    infer_method: str = "ode",
    shift: float = 3.0,
    timesteps: list[float] | None = None,
    guidance_scale: float = 1.0,
    null_condition_emb_np: np.ndarray | None = None,
    cfg_interval_start: float = 0.0,
    cfg_interval_end: float = 1.0,
    disable_tqdm: bool = False,
    # LEGO patch (generate) 3 of 4
    infer_steps: int = 8,
    is_turbo: bool = True,
) -> dict[str, Any]:
    """Denoises from t = 1 to 0 with one decoder evaluation a step; under guidance one covers both branches.

    Arrays are float32: encoder_hidden_states_np [batch, encoder length, width], context_latents_np [batch, frames,
    128], null_condition_emb_np [1, 1, width]; src_latents_shape is (batch, frames, 64). Guidance acts at a
    guidance_scale above 1, in the steps with cfg_interval_start <= t <= cfg_interval_end. infer_method "ode" follows
    the velocity; "sde" goes to the predicted end of the way each time, then back to the next t with new noise.
    Returns target_latents and noise as arrays [batch, frames, 64], the timesteps that ran, time_costs in seconds.
    """
    import mlx.core as mx

    from .dit_model import MLXCrossAttentionCache
    from .guidance import AdaptiveProjectedGuidance

    if infer_method not in ("ode", "sde"):
        raise ValueError(f"infer_method is {infer_method!r}, expected 'ode' or 'sde'")
    if context_latents_np.shape[:2] != tuple(src_latents_shape[:2]):
        raise ValueError(
            f"context_latents_np holds {context_latents_np.shape[:2]} (batch, frames), src_latents_shape says "
            f"{tuple(src_latents_shape[:2])}; both are to be the same"
        )
    if guidance_scale > 1.0 and null_condition_emb_np is None:
        raise ValueError(f"guidance_scale is {guidance_scale}, which needs null_condition_emb_np; it is None")

    total_start = time.perf_counter()
    t_schedule = get_timestep_schedule(
        # LEGO patch (generate) 4 of 4, was: (shift, timesteps)
        shift,
        timesteps,
        infer_steps=infer_steps,
        is_turbo=is_turbo,
    )
    noise = draw_noise(seed, src_latents_shape)
    context = mx.array(context_latents_np)
    states = mx.array(encoder_hidden_states_np)
    branches = {False: (states, context, MLXCrossAttentionCache(t_schedule))}
    guide = None
    if null_condition_emb_np is not None and guidance_scale > 1.0:
        null = mx.broadcast_to(mx.array(null_condition_emb_np), states.shape)
        both_states, both_contexts = mx.concatenate([states, null]), mx.concatenate([context, context])
        branches[True] = (both_states, both_contexts, MLXCrossAttentionCache(t_schedule, guided=True))
        guide = AdaptiveProjectedGuidance(guidance_scale)

    def predict(x: Any, t: float) -> Any:
        """The velocity at t, guided where the interval asks for it."""
        guided = guide is not None and cfg_interval_start <= t <= cfg_interval_end
        branch_states, branch_context, cache = branches[guided]
        batch = mx.concatenate([x, x]) if guided else x
        t_batch = mx.full((batch.shape[0],), t)
        velocity, _ = mlx_decoder(
            hidden_states=batch,
            timestep=t_batch,
            timestep_r=t_batch,
            encoder_hidden_states=branch_states,
            context_latents=branch_context,
            cache=cache,
            use_cache=True,
        )
        return guide(*mx.split(velocity, 2)) if guide is not None and guided else velocity

    x = noise
    mx.eval(x, context)
    diffusion_start = time.perf_counter()
    steps = list(zip(t_schedule, [*t_schedule[1:], 0.0], strict=True))
    for step, (t, t_next) in enumerate(tqdm(steps, desc="MLX DiT diffusion", disable=disable_tqdm), start=1):
        velocity = predict(x, t)
        if infer_method == "ode" or t_next == 0.0:
            x = x - velocity * (t - t_next)
        else:  # noised to the very t that the decoder is told next, the shifted one
            x = t_next * draw_noise(seed, src_latents_shape, step) + (1 - t_next) * (x - velocity * t)
        mx.eval(x)
    diffusion_seconds = time.perf_counter() - diffusion_start

    return {
        "target_latents": np.array(x),
        "noise": np.array(noise),
        "timesteps": t_schedule,
        "time_costs": {
            "diffusion_time_cost": diffusion_seconds,
            "diffusion_per_step_time_cost": diffusion_seconds / len(t_schedule),
            "total_time_cost": time.perf_counter() - total_start,
        },
    }
