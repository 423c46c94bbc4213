"""Small patched checkouts of our own writing, one for each era of upstream, to be edited by the tests.

88c9f20: neither guidance nor sampler parameters. 82a5d84: guidance in the loop. 8567e33: sampler parameters, the model
evaluated by a helper function. All have the names and signatures of that era, and the three patches in.
"""

from __future__ import annotations

from tests.patches.mini_checkout import COMPILE_LINE, PATCHED, MiniCheckout

ERAS = ("88c9f20", "82a5d84", "8567e33")
PASSED = "                    audio_cover_strength=audio_cover_strength,\n"
TAKEN = "        audio_cover_strength: float = 1.0,\n"

SCHEDULE = """\
import numpy as np

TABLES = {s: [s * t / 8 / (1 + (s - 1) * t / 8) for t in range(8, 0, -1)] for s in (1.0, 2.0, 3.0)}
GRID = sorted({value for table in TABLES.values() for value in table})


def get_timestep_schedule(shift=3.0, timesteps=None, infer_steps=8, is_turbo=True):
    if not is_turbo and timesteps is not None:
        values = list(timesteps)
        while values and values[-1] == 0:
            values.pop()
        return values
    if not is_turbo:
        linear = [(infer_steps - i) / infer_steps for i in range(infer_steps)]
        return [shift * t / (1.0 + (shift - 1.0) * t) for t in linear]
    if timesteps is not None:
        kept = [t for t in timesteps if t > 0][:20]
        return [min(GRID, key=lambda g, t=t: abs(g - t)) for t in kept]
    return TABLES[min(TABLES, key=lambda s: abs(s - shift))]


def mlx_generate_diffusion(
    mlx_decoder,
    encoder_hidden_states_np,
    context_latents_np,
    src_latents_shape,
    seed=None,
    infer_method="ode",
    shift=3.0,
    timesteps=None,
    infer_steps=8,
    is_turbo=True,
    compile_model=False,
):
    import mlx.core as mx

    from .dit_model import MLXCrossAttentionCache

    states, context = mx.array(encoder_hidden_states_np), mx.array(context_latents_np)
    t_schedule_list = get_timestep_schedule(shift, timesteps, infer_steps=infer_steps, is_turbo=is_turbo)
    num_steps = len(t_schedule_list)
    xt = mx.random.normal(src_latents_shape, key=mx.random.key(max(seed[0], 0)))
    cache = MLXCrossAttentionCache()
"""

PLAIN_LOOP = """\

    def decode(xt, t):
        return mlx_decoder(
            hidden_states=xt,
            timestep=t,
            timestep_r=t,
            encoder_hidden_states=states,
            context_latents=context,
            cache=cache,
            use_cache=True,
        )[0]

    if compile_model:
        decode = mx.compile(decode)
    for step_idx in range(num_steps):
        current_t = t_schedule_list[step_idx]
        vt = decode(xt, mx.full((xt.shape[0],), current_t))
        if step_idx == num_steps - 1:
            xt = xt - vt * current_t
        else:
            xt = xt - vt * (current_t - t_schedule_list[step_idx + 1])
        mx.eval(xt)
    return {"target_latents": np.array(xt), "time_costs": {}}
"""

GUIDED_LOOP = """\
    batch = src_latents_shape[0]
    is_guided = guidance_scale > 1.0 and null_condition_emb_np is not None
    if is_guided:
        unconditional = mx.broadcast_to(mx.array(null_condition_emb_np), states.shape)
        states = mx.concatenate([states, unconditional], axis=0)
        context = mx.concatenate([context, context], axis=0)

    def decode(xt, t):
        return mlx_decoder(
            hidden_states=xt,
            timestep=t,
            timestep_r=t,
            encoder_hidden_states=states,
            context_latents=context,
            cache=cache,
            use_cache=not is_guided,
        )[0]

    if compile_model:
        decode = mx.compile(decode)
    for step_idx in range(num_steps):
        current_t = t_schedule_list[step_idx]
        x_in = mx.concatenate([xt, xt], axis=0) if is_guided else xt
        vt = decode(x_in, mx.full((x_in.shape[0],), current_t))
        if is_guided:
            vt = vt[:batch] + (guidance_scale - 1) * (vt[:batch] - vt[batch:])
        if step_idx == num_steps - 1:
            xt = xt - vt * current_t
        else:
            xt = xt - vt * (current_t - t_schedule_list[step_idx + 1])
        mx.eval(xt)
    return {"target_latents": np.array(xt), "time_costs": {}}
"""

GUIDANCE = (
    (
        PASSED,
        f'{PASSED}                    guidance_scale=generate_kwargs["diffusion_guidance_scale"],\n'
        "                    null_condition_emb=self.model.null_condition_emb,\n",
    ),
    (TAKEN, f"{TAKEN}        guidance_scale: float = 1.0,\n        null_condition_emb=None,\n"),
    (
        COMPILE_LINE,
        f"{COMPILE_LINE}            guidance_scale=guidance_scale,\n"
        "            null_condition_emb_np=None if null_condition_emb is None else null_condition_emb.numpy(),\n",
    ),
    (
        "    compile_model=False,\n",
        "    compile_model=False,\n    guidance_scale=1.0,\n    null_condition_emb_np=None,\n",
    ),
)


def patched(era: str) -> MiniCheckout:
    """The checkout of an era, with the patches in."""
    plain = MiniCheckout(PATCHED.execute, PATCHED.diffusion, SCHEDULE + PLAIN_LOOP)
    if era == "88c9f20":
        return plain
    arguments, parameters, into_generate, of_generate = GUIDANCE
    guided = MiniCheckout(PATCHED.execute, PATCHED.diffusion, SCHEDULE + GUIDED_LOOP)
    guided = guided.edited("execute", arguments).edited("diffusion", parameters, into_generate)
    guided = guided.edited("generate", of_generate)
    if era == "82a5d84":
        return guided
    guidance = 'guidance_scale=generate_kwargs["diffusion_guidance_scale"],\n'
    later = guided.edited("execute", (guidance, f'{guidance}                    sampler_mode="euler",\n'))
    later = later.edited(
        "diffusion",
        (
            "        guidance_scale: float = 1.0,\n",
            '        guidance_scale: float = 1.0,\n        sampler_mode="euler",\n',
        ),
        (
            "            guidance_scale=guidance_scale,\n",
            "            guidance_scale=guidance_scale,\n            sampler_mode=sampler_mode,\n",
        ),
    )
    return later.edited(
        "generate",
        ("    guidance_scale=1.0,\n", '    guidance_scale=1.0,\n    sampler_mode="euler",\n'),
        (
            "        vt = decode(x_in, mx.full((x_in.shape[0],), current_t))\n",
            "        vt, cache = _model_eval(x_in, current_t, cache)\n",
        ),
        (
            "    for step_idx in range(num_steps):\n",
            "    def _model_eval(x_input, t_val, step_cache):\n"
            "        return decode(x_input, mx.full((x_input.shape[0],), t_val)), step_cache\n\n"
            "    for step_idx in range(num_steps):\n",
        ),
    )


def at_import(code: str) -> MiniCheckout:
    """The checkout of 82a5d84, with `code` run when generate is imported."""
    return patched("82a5d84").edited("generate", ("import numpy as np\n", f"import numpy as np\n\n{code}\n"))
