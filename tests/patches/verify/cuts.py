"""Edits that make a patched checkout run other steps than requested, each once taken for a success by reading alone.

Where the trace can name a line, that line ends in MARK.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from patches.verify.cases import FURTHER, Case
from tests.patches.mini_checkout import MiniCheckout

MARK = "# the cut"
Edit = Callable[[MiniCheckout], MiniCheckout]

COUNT = "    num_steps = len(t_schedule_list)\n"
FETCH = "    t_schedule_list = get_timestep_schedule(shift, timesteps, infer_steps=infer_steps, is_turbo=is_turbo)\n"
LOOP = "    for step_idx in range(num_steps):\n"
LINEAR = "        linear = [(infer_steps - i) / infer_steps for i in range(infer_steps)]\n"
CURRENT = "        current_t = t_schedule_list[step_idx]\n"
ENTRY = "        built.update(infer_steps=infer_steps, "
PASS = '                    infer_steps=generate_kwargs.get("infer_steps", 8),\n'
FORWARD = "            infer_steps=infer_steps,\n"
CALL_DIFFUSION = "                outputs = self._mlx_run_diffusion(\n"
CALL_GENERATE = "        done = mlx_generate_diffusion(\n"
STATES = "    states, context = "
CACHE = "    cache = MLXCrossAttentionCache()\n"


def _edit(site: str, *changes: tuple[str, str]) -> Edit:
    return lambda checkout: checkout.edited(site, *changes)


def _extend(site: str, more: str) -> Edit:
    return lambda checkout: checkout.extended(site, more)


def _cut_where(condition: str) -> Edit:
    return _edit("generate", (COUNT, f"{COUNT}    if {condition}:\n        num_steps = min(num_steps, 5)\n"))


def _wrap_decoder(body: str) -> Edit:
    """A class around the decoder, in generate."""
    wrapper = f"""\
class Wrapper:
    def __init__(self, decoder):
        self.decoder, self.calls, self.last = decoder, 0, None

    def __call__(self, **given):
        self.calls += 1
{body}


def mlx_generate_diffusion(
"""
    return _edit(
        "generate",
        ("def mlx_generate_diffusion(\n", wrapper),
        (CACHE, f"{CACHE}    mlx_decoder = Wrapper(mlx_decoder)\n"),
    )


# The number of evaluations is wrong, and the trace names the line.
TRACED: dict[str, Edit] = {
    "clamped_number_of_steps": _edit(
        "generate", (COUNT, f"    num_steps = min(len(t_schedule_list), 8)  {MARK}\n")
    ),
    "clamped_in_the_request_builder": _edit(
        "execute", (ENTRY, f"        infer_steps = min(infer_steps, 8)  {MARK}\n{ENTRY}")
    ),
    "infer_steps_set_before_the_call": _edit(
        "execute",
        (
            "            if not (self.use_mlx_dit",
            f'            generate_kwargs["infer_steps"] = 8  {MARK}\n            if not (self.use_mlx_dit',
        ),
    ),
    "clamped_argument_of_the_call": _edit(
        "diffusion",
        (CALL_GENERATE, f"        done = mlx_generate_diffusion(  {MARK}\n"),
        (FORWARD, "            infer_steps=min(infer_steps, 8),\n"),
    ),
    "not_passed_by_execute": _edit(
        "execute", (PASS, ""), (CALL_DIFFUSION, CALL_DIFFUSION.replace("\n", f"  {MARK}\n"))
    ),
    "method_rebound_at_the_end": _extend(
        "diffusion",
        "_run = DiffusionMixin._mlx_run_diffusion\n\n\n"
        "def _eight(self, **given):\n"
        f'    given["infer_steps"] = 8  {MARK}\n'
        "    return _run(self, **given)\n\n\n"
        "DiffusionMixin._mlx_run_diffusion = _eight\n",
    ),
    "decorated_generate": _edit(
        "generate",
        (
            "def mlx_generate_diffusion(\n",
            "def limited(function):\n"
            "    def inner(*args, **kwargs):\n"
            f'        kwargs["infer_steps"] = min(kwargs["infer_steps"], 8)  {MARK}\n'
            "        return function(*args, **kwargs)\n\n"
            "    return inner\n\n\n"
            "@limited\n"
            "def mlx_generate_diffusion(\n",
        ),
    ),
    "second_definition_of_the_schedule": _extend(
        "generate",
        "def get_timestep_schedule(shift=3.0, timesteps=None, infer_steps=8, is_turbo=True):\n"
        f"    return TABLES[shift]  {MARK}\n",
    ),
    "schedule_replaced_by_its_half": _edit(
        "generate", (COUNT, f"    t_schedule_list = t_schedule_list[::2]  {MARK}\n{COUNT}")
    ),
    "half_the_number_of_steps": _edit(
        "generate", (COUNT, f"    num_steps = len(t_schedule_list) // 2  {MARK}\n")
    ),
    "left_by_break": _edit(
        "generate",
        (CURRENT, f"        if step_idx == 21:\n            break  {MARK}\n{CURRENT}"),
    ),
    "left_by_break_after_as_many_steps_as_a_pair_has_tensors": lambda checkout: checkout.edited(
        "diffusion",
        (CALL_GENERATE, f"        pair = encoder_hidden_states, context_latents\n{CALL_GENERATE}"),
    ).edited("generate", (CURRENT, f"        if step_idx == 2:\n            break  {MARK}\n{CURRENT}")),
    "left_by_break_after_as_many_steps_as_another_number_of_steps": _edit(
        "generate",
        (COUNT, f"{COUNT}    warm_up_steps = 2\n"),
        (CURRENT, f"        if step_idx == 2:\n            break  {MARK}\n{CURRENT}"),
    ),
    "loop_over_half": _edit("generate", (LOOP, f"    for step_idx in range(num_steps // 2):  {MARK}\n")),
    "loop_with_a_stride": _edit("generate", (LOOP, f"    for step_idx in range(0, num_steps, 2):  {MARK}\n")),
    "schedule_imported_from_elsewhere": _edit(
        "generate",
        (
            FETCH,
            "    from .dit_model import MLXCrossAttentionCache as _elsewhere\n\n"
            f"    t_schedule_list = [1 - i / 8 for i in range(8)]  {MARK}\n",
        ),
    ),
    "wrong_above_100": _edit(
        "generate",
        (LINEAR, f"        infer_steps = min(infer_steps, 100)  {MARK}\n{LINEAR}"),
    ),
    "only_guided_is_cut": _edit(
        "execute",
        (
            "            if not (self.use_mlx_dit",
            '            if generate_kwargs["diffusion_guidance_scale"] > 1:\n'
            f'                generate_kwargs["infer_steps"] = 8  {MARK}\n'
            "            if not (self.use_mlx_dit",
        ),
    ),
    "only_a_worker_thread_is_cut": _edit(
        "generate",
        (
            COUNT,
            f"{COUNT}    import threading\n\n"
            "    if threading.current_thread() is not threading.main_thread():\n"
            f"        num_steps = min(num_steps, 8)  {MARK}\n",
        ),
    ),
    "only_a_batch_is_cut": _edit(
        "generate",
        (COUNT, f"{COUNT}    if src_latents_shape[0] > 1:\n        num_steps = min(num_steps, 8)  {MARK}\n"),
    ),
    "only_long_latents_are_cut": _edit(
        "diffusion",
        (
            CALL_GENERATE,
            f"        if src_latents.shape[1] > 750:\n            infer_steps = min(infer_steps, 20)  {MARK}\n"
            + CALL_GENERATE,
        ),
    ),
    "only_shift_1_is_cut": _edit(
        "generate", (COUNT, f"{COUNT}    if shift == 1:\n        num_steps = min(num_steps, 8)  {MARK}\n")
    ),
    "only_a_compiled_step_is_cut": _edit(
        "generate", (COUNT, f"{COUNT}    if compile_model:\n        num_steps = min(num_steps, 8)  {MARK}\n")
    ),
}

# The number of evaluations is wrong; no single line of the checkout's data flow is to blame.
COUNTED: dict[str, Edit] = {
    "wrapper_skips_evaluations": _wrap_decoder(
        "        if self.calls % 2:\n            self.last = self.decoder(**given)\n        return self.last"
    ),
    "wrong_for_odd_counts": _edit("generate", (LINEAR, f"        infer_steps -= infer_steps % 2\n{LINEAR}")),
    "wrong_for_one_step": _edit("generate", (LINEAR, f"        infer_steps = max(infer_steps, 2)\n{LINEAR}")),
    "schedule_cached_by_the_wrong_key": _edit(
        "generate",
        (
            "    if not is_turbo:\n",
            "    if not is_turbo and (shift, is_turbo) in _CACHE:\n"
            "        return _CACHE[shift, is_turbo]\n"
            "    if not is_turbo:\n",
        ),
        (
            "        return [shift * t / (1.0 + (shift - 1.0) * t) for t in linear]\n",
            "        _CACHE[shift, is_turbo] = [shift * t / (1.0 + (shift - 1.0) * t) for t in linear]\n"
            "        return _CACHE[shift, is_turbo]\n",
        ),
        ("GRID = ", "_CACHE = {}\nGRID = "),
    ),
    "second_run_is_wrong": _edit(
        "generate",
        (
            COUNT,
            f"{COUNT}    _SEEN.append(num_steps)\n    if _SEEN.count(num_steps) > 1:\n        num_steps = 1\n",
        ),
        ("GRID = ", "_SEEN = []\nGRID = "),
    ),
    "largest_count_so_far": _edit(
        "generate",
        (LINEAR, f"        infer_steps = _MOST[0] = max(_MOST[0], infer_steps)\n{LINEAR}"),
        ("GRID = ", "_MOST = [0]\nGRID = "),
    ),
    "custom_timesteps_cut": _edit("generate", ("        return values\n", "        return values[:200]\n")),
    "only_the_real_handler_is_cut": _edit(
        "diffusion",
        (
            CALL_GENERATE,
            '        if type(self).__name__ == "AceStepHandler":\n            infer_steps = 8\n'
            + CALL_GENERATE,
        ),
    ),
    "only_an_mlx_module_is_cut": _cut_where("hasattr(mlx_decoder, 'parameters')"),
    "only_sounding_context_is_cut": _cut_where("context_latents_np[..., :64].any()"),
    "only_varied_encoder_states_are_cut": _cut_where("encoder_hidden_states_np.std() > 0"),
    "only_100_steps_are_cut": _cut_where("infer_steps == 100 and timesteps is None"),
    "only_long_latents_of_many_steps_are_cut": _cut_where(
        "src_latents_shape[1] > 200 and len(t_schedule_list) > 60"
    ),
    "only_ten_minutes_are_cut": _cut_where("src_latents_shape[1] > 2000"),
    "only_a_batch_of_4_is_cut": _cut_where("src_latents_shape[0] == 4"),
    "only_the_real_decoder_is_cut": _edit(
        "generate",
        (
            COUNT,
            f'{COUNT}    if repr(mlx_decoder).startswith("MLXDiTDecoder("):\n'
            "        num_steps = min(num_steps, 8)\n",
        ),
    ),
}

# The number of evaluations is right; what is done with them is not.
UNCOUNTED: dict[str, Edit] = {
    "few_custom_timesteps_moved_to_the_grid": _edit(
        "generate",
        (
            "        return values\n",
            "        if len(values) <= 20:\n"
            "            return [min(GRID, key=lambda g, t=t: abs(g - t)) for t in values]\n"
            "        return values\n",
        ),
    ),
    "wrapper_returns_the_last_velocity": _wrap_decoder(
        "        velocity = self.decoder(**given)\n"
        "        self.last = velocity if self.calls % 2 else self.last\n"
        "        return self.last"
    ),
    "wrapper_keeps_the_first_latents": _wrap_decoder(
        "        self.last = self.last if self.last is not None else given['hidden_states']\n"
        "        return self.decoder(**{**given, 'hidden_states': self.last})"
    ),
    "timesteps_differ_in_a_batch": _wrap_decoder(
        "        import mlx.core as mx\n\n"
        "        rows = mx.arange(given['timestep'].shape[0]) / 100\n"
        "        return self.decoder(**{**given, 'timestep': given['timestep'] - rows})"
    ),
    "timesteps_put_right_afterwards": _wrap_decoder(
        "        wrong = given['timestep'] / 2\n"
        "        velocity = self.decoder(**{**given, 'timestep': wrong})\n"
        "        wrong[:] = given['timestep']\n"
        "        return velocity"
    ),
    "latents_put_right_afterwards": _wrap_decoder(
        "        wrong = given['hidden_states'] / (1 if self.calls == 1 else 2)\n"
        "        velocity = self.decoder(**{**given, 'hidden_states': wrong})\n"
        "        wrong[:] = given['hidden_states']\n"
        "        return velocity"
    ),
    "first_velocity_reused": _edit(
        "generate",
        (
            "        if step_idx == num_steps - 1:\n",
            "        vt = first = vt if step_idx == 0 else first\n        if step_idx == num_steps - 1:\n",
        ),
    ),
    "last_step_not_applied": _edit(
        "generate", ("            xt = xt - vt * current_t\n", "            pass\n")
    ),
    "latents_of_an_earlier_step_returned": _edit(
        "generate",
        (
            "        mx.eval(xt)\n",
            "        mx.eval(xt)\n        kept = xt if step_idx <= num_steps // 2 else kept\n",
        ),
        ('{"target_latents": np.array(xt)', '{"target_latents": np.array(kept)'),
    ),
    "two_steps_at_once": _edit(
        "generate",
        (
            "            xt = xt - vt * (current_t - t_schedule_list[step_idx + 1])\n",
            "            if step_idx % 2 == 0:\n"
            "                xt = xt - vt * (current_t - t_schedule_list[min(step_idx + 2, num_steps - 1)])\n",
        ),
    ),
    "reversed_schedule": _edit("generate", (COUNT, f"    t_schedule_list = t_schedule_list[::-1]\n{COUNT}")),
    "schedule_without_shift": _edit(
        "generate",
        (
            "        return [shift * t / (1.0 + (shift - 1.0) * t) for t in linear]\n",
            "        return linear\n",
        ),
    ),
    "last_custom_timestep_moved": _edit(
        "generate", ("        return values\n", "        return [*values[:-1], values[-1] * 1.0001]\n")
    ),
}

ALL = {**TRACED, **COUNTED, **UNCOUNTED}

# How base cases are run, see plan_cases.
IN_ORDER, GUIDED, REAL_SIZE, REVERSED = "in order", "guidance 7", "batch of 2 at 60 s", "reverse order"
STEADY, SECOND_HALF, DCW = "the same velocity at each step", "the second half", "dcw by default"
RUNS = {
    IN_ORDER,
    GUIDED,
    "compiled",
    "worker thread",
    "shift 1",
    "shift 2.5",
    STEADY,
    SECOND_HALF,
    DCW,
    REAL_SIZE,
    REVERSED,
    FURTHER,
}


@dataclass(frozen=True)
class FoundBy:
    """Cases that find an edit: base models, run in one of `runs`, with one of `requests`."""

    runs: tuple[str, ...] = (IN_ORDER,)
    requests: tuple[str, ...] = ("27 steps",)

    def of(self, cases: list[Case]) -> list[Case]:
        """Those of `cases`, in their order; each of `runs` and `requests` has to be there."""
        found = [
            case
            for case in cases
            if "base" in case.model and case.run in self.runs and case.requested in self.requests
        ]
        assert {case.run for case in found} == set(self.runs)
        assert {case.requested for case in found} == set(self.requests)
        return found


FOUND_BY = dict.fromkeys(ALL, FoundBy()) | {
    "wrong_above_100": FoundBy(requests=("137 steps",)),
    "only_guided_is_cut": FoundBy((GUIDED,)),
    "only_a_worker_thread_is_cut": FoundBy(("worker thread",)),
    "only_a_batch_is_cut": FoundBy((REAL_SIZE,), ("50 steps",)),
    "only_long_latents_are_cut": FoundBy((REAL_SIZE,), ("50 steps",)),
    "only_shift_1_is_cut": FoundBy(("shift 1",)),
    "only_a_compiled_step_is_cut": FoundBy(("compiled",)),
    "wrong_for_one_step": FoundBy(requests=("1 step",)),
    "schedule_cached_by_the_wrong_key": FoundBy(requests=("8 steps", "27 steps")),
    "second_run_is_wrong": FoundBy((IN_ORDER, REVERSED)),
    "largest_count_so_far": FoundBy((REVERSED,), ("27 steps", "137 steps")),
    "custom_timesteps_cut": FoundBy(requests=("300 custom timesteps",)),
    "only_100_steps_are_cut": FoundBy((FURTHER,), ("100 steps",)),
    "only_long_latents_of_many_steps_are_cut": FoundBy((FURTHER,), ("64 steps", "80 steps", "128 steps")),
    "only_ten_minutes_are_cut": FoundBy((FURTHER,), ("10 steps",)),
    "only_a_batch_of_4_is_cut": FoundBy((FURTHER,), ("16 steps",)),
    "few_custom_timesteps_moved_to_the_grid": FoundBy((FURTHER,), ("4 custom timesteps",)),
    "timesteps_differ_in_a_batch": FoundBy((REAL_SIZE,), ("50 steps",)),
    "last_custom_timestep_moved": FoundBy(requests=("40 custom timesteps",)),
}


def _for_requests_like(site: str, before: str, condition: str) -> Edit:
    """infer_steps is less where a request meets the condition, which is looked at in front of a line of the site."""
    indent = before[: len(before) - len(before.lstrip())]
    cut = f"{indent}if {condition}:\n{indent}    infer_steps = min(infer_steps, 5)\n"
    return _edit(site, (before, cut + before))


def _for_payloads_like(condition: str) -> Edit:
    return _for_requests_like("execute", BUILD, condition)


BUILD = '        built = {"src_latents": payload["src_latents"], '
# Edits of 8567e33 that cut only what looks like a LEGO request to a published model.
LIKE_LEGO: dict[str, tuple[Edit, FoundBy]] = {
    "prompt": (
        _for_payloads_like("'track based on the audio context' in payload['text_inputs'][0]"),
        FoundBy((REVERSED,)),
    ),
    "span": (_for_payloads_like("payload['spans'][0][0] == 'repainting'"), FoundBy((REVERSED,))),
    "zeros_in_the_chunk_mask": (
        _for_payloads_like("(payload['chunk_mask'] == 0).any()"),
        FoundBy((SECOND_HALF,), ("50 steps",)),
    ),
    "model_version": (
        _for_requests_like("diffusion", CALL_GENERATE, "getattr(self.config, 'model_version', '') == 'base'"),
        FoundBy(),
    ),
    "size_of_xl": (
        _for_requests_like("diffusion", CALL_GENERATE, "getattr(self.config, 'hidden_size', 0) > 2048"),
        FoundBy((REAL_SIZE,), ("50 steps",)),
    ),
    "large_seed": (_for_requests_like("generate", FETCH, "seed[0] == 2**32 - 1"), FoundBy(("shift 1",))),
    "result_kept_by_seed": (
        _edit(
            "diffusion",
            (
                CALL_GENERATE,
                "        kept, key = self.__dict__.setdefault('kept', {}), str(seed)\n"
                f"        if key in kept:\n            return kept[key]\n{CALL_GENERATE}",
            ),
            ("        return {", "        return kept.setdefault(key, {"),
            ('done["time_costs"]}\n', 'done["time_costs"]})\n'),
        ),
        FoundBy(("shift 1",), ("8 steps", "50 steps")),
    ),
    "dcw_by_default": (
        lambda checkout: _for_payloads_like("dcw_enabled")(
            checkout.edited(
                "execute",
                (
                    "shift, timesteps\n    ):\n        built",
                    "shift, timesteps, dcw_enabled=True\n    ):\n        built",
                ),
            )
        ),
        FoundBy((DCW,), ("50 steps",)),
    ),
    "similar_velocities": (
        _wrap_decoder(
            """\
        if self.calls % 3 == 0 and self.last is not None and self.similar:
            self.similar = False
            return self.last
        made = self.decoder(**given)
        self.similar = self.last is not None and bool((made[0] == self.last[0]).all())
        self.last = made
        return made"""
        ),
        FoundBy((STEADY,), ("50 steps",)),
    ),
}
