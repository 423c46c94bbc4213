"""One LEGO stem on one side, in a process of its own: the seconds and the peak memory of each of its parts.

usage: python stem_child.py ORDER

ORDER is JSON: `side` (fork, checkout or torch), `root` (the folder that holds the `acestep` package), `checkpoint`,
`context`, `steps`, `guidance_scale`, `options` (more that the handler's loader is given), `limit` (seconds after which
the stem is stopped, loading aside, or null). The last line of standard output is JSON. A checkout runs under its own
interpreter: nothing is needed of it but what the checkout needs.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(PROJECT / "scripts"), str(PROJECT)]
from bench.memory import peak_of_process, start_peak_over  # noqa: E402
from patches.harness.child import without_garbage_collection  # noqa: E402
from patches.harness.network import refuse_network  # noqa: E402
from smoke import tree  # noqa: E402

LOAD = "load"
CONTEXT, TEXT, CONDITIONS, STEPS, DECODE = "VAE encode", "text", "conditions", "steps", "VAE decode"
PARTS = (LOAD, CONTEXT, TEXT, CONDITIONS, STEPS, DECODE)
# What does a part, on this fork's handler and on upstream's at any of its versions: those that are there.
OF_HANDLER = {
    "_encode_audio_to_latents": CONTEXT,
    "tiled_encode": CONTEXT,
    "infer_text_embeddings": TEXT,
    "infer_lyric_embeddings": TEXT,
    "_prepare_text_conditioning_inputs": TEXT,
    "_mlx_run_diffusion": STEPS,
    "_decode_generate_music_pred_latents": DECODE,
}
PROGRESS_BAR_OFF = {"disable": True}


class PartClock:
    """The seconds and the peak memory of the parts whose functions it watches."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.parts: dict[str, dict[str, float]] = {}
        self.running: str | None = None

    def measure(self, part: str, call: Callable[[], Any]) -> Any:
        """The call's result; what it calls in its turn belongs to the same part."""
        if self.running is not None:
            return call()
        self.running = part
        start_peak_over()
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.running = None
            found = self.parts.setdefault(part, {"seconds": 0.0, "peak": 0})
            found["seconds"] += time.perf_counter() - start
            found["peak"] = max(found["peak"], peak_of_process())

    def watch(self, owner: Any, method: str, part: str) -> None:
        """From here on each call of owner.method is measured, where there is such a method."""
        original = getattr(owner, method, None)
        if original is None:
            return

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.measure(part, lambda: original(*args, **kwargs))

        setattr(owner, method, watched)


def stop_after(limit: float, clock: PartClock, notes: list[str]) -> threading.Timer:
    """From now on the process has so many seconds; then it says where it was, and ends. Cancel it in time."""

    def stop() -> None:
        found = {"parts": {}, "seconds": time.perf_counter() - clock.start, "notes": notes}
        stopped = {"stopped_after": limit, "stopped_in": clock.running or "between two parts"}
        print(json.dumps({**found, **stopped, "peak": peak_of_process()}), flush=True)
        os._exit(0)  # what runs in other threads cannot be stopped otherwise

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    return timer


def handler_stem(order: dict[str, Any], clock: PartClock) -> list[str]:
    """A stem through the public API of this fork or of a checkout, on MLX; returns notes."""
    checkpoint = Path(order["checkpoint"])
    os.environ["ACESTEP_CHECKPOINTS_DIR"] = str(checkpoint.parent)
    # Upstream gives up after 600 s, which its VAE on a CPU can need alone.
    os.environ.setdefault("ACESTEP_GENERATION_TIMEOUT", "86400")
    (handlers, inference), stubs = tree.import_tree(("acestep.handler", "acestep.inference"), {"mlx"})
    notes = [f"{name} is not installed; soundfile read the context in its place" for name in stubs]
    if override := tree.override_mlx_available():
        notes.append(override)
    handler = handlers.AceStepHandler()
    message, loaded = clock.measure(
        LOAD,
        lambda: handler.initialize_service(
            project_root=str(checkpoint.parent.parent),
            config_path=checkpoint.name,
            device="cpu",
            use_mlx_dit=True,
            **order["options"],
        ),
    )
    if not loaded or "MLX DiT: Active" not in message:
        raise tree.problem(message)
    if getattr(handler, "use_mlx_vae", False):
        notes.append("the checkout's VAE ran in MLX")
    for method, part in OF_HANDLER.items():
        clock.watch(handler, method, part)
    clock.watch(handler.model, "prepare_condition", CONDITIONS)
    params, _ = tree.known_fields(
        inference.GenerationParams,
        {
            "task_type": "lego",
            "instruction": handler.generate_instruction("lego", track_name="vocals"),
            "src_audio": order["context"],
            "inference_steps": order["steps"],
            "guidance_scale": order["guidance_scale"],
            "shift": 1.0,
            "thinking": False,
            "use_cot_metas": False,
            "use_cot_caption": False,
            "use_cot_language": False,
            "dcw_enabled": False,
        },
        (),
    )
    config, _ = tree.known_fields(
        inference.GenerationConfig, {"batch_size": 1, "use_random_seed": False, "seeds": [42]}, ()
    )
    timer = stop_after(order["limit"], clock, notes) if order["limit"] is not None else None
    result = inference.generate_music(handler, None, params, config)
    if timer is not None:
        timer.cancel()
    if not result.success:
        raise tree.problem(result.error or "")
    if "dit_encoder_time_cost" in result.extra_outputs["time_costs"]:
        raise tree.TreeError("MLX was requested, and the checkout ran its steps in PyTorch")
    return notes


def torch_stem(order: dict[str, Any], clock: PartClock) -> list[str]:
    """A stem by diffusers' AceStepPipeline, PyTorch on the CPU, float32; returns notes."""
    with without_garbage_collection():
        import soundfile
        import torch
        from diffusers import AceStepPipeline, FlowMatchEulerDiscreteScheduler
        from transformers import PreTrainedTokenizerFast

        from acestep.models.checkpoint.config import read_config
        from acestep.models.checkpoint.layout import find_layout
        from acestep.models.pytorch.loading import (
            load_condition_encoder,
            load_decoder,
            load_text_encoder,
            load_vae,
        )

    folder = Path(order["checkpoint"])
    layout, config = find_layout(folder), read_config(folder)

    def load() -> Any:
        return AceStepPipeline(
            load_vae(layout.vae, config),
            load_text_encoder(layout.text_encoder, config),
            PreTrainedTokenizerFast.from_pretrained(layout.tokenizer),
            load_decoder(folder, config),
            load_condition_encoder(folder, config),
            FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
        )

    pipeline = clock.measure(LOAD, load)
    pipeline.set_progress_bar_config(**PROGRESS_BAR_OFF)
    clock.watch(pipeline, "prepare_src_latents", CONTEXT)
    clock.watch(pipeline, "encode_prompt", TEXT)
    clock.watch(pipeline.condition_encoder, "forward", CONDITIONS)
    clock.watch(pipeline.transformer, "forward", STEPS)
    clock.watch(pipeline.vae, "decode", DECODE)
    samples, _ = soundfile.read(order["context"], dtype="float32", always_2d=True)
    with torch.inference_mode():
        pipeline(
            prompt="",
            lyrics="",
            vocal_language="unknown",
            task_type="lego",
            track_name="vocals",
            src_audio=torch.from_numpy(samples.T.copy()),
            num_inference_steps=order["steps"],
            guidance_scale=order["guidance_scale"],
            shift=1.0,
            generator=torch.Generator().manual_seed(42),
        )
    return ["the guidance between the steps is not in their seconds"]


def main(text: str) -> int:
    """Exit status 1 where there is no stem, with the reason as the last line of standard error."""
    order = json.loads(text)
    warnings.simplefilter("ignore")
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    sys.path[:2] = [order["root"]]
    tree.collect_warnings()
    refuse_network("the benchmark downloads nothing; put the checkpoint in place first")
    clock = PartClock()
    stem = torch_stem if order["side"] == "torch" else handler_stem
    try:
        notes = stem(order, clock)
    except tree.TreeError as error:
        print(error, file=sys.stderr)
        return 1
    total = time.perf_counter() - clock.start
    print(json.dumps({"parts": clock.parts, "seconds": total, "notes": notes}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
