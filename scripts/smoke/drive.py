"""Runs of one checkout through its public API, in a process of its own, the model loaded once.

usage: python drive.py ROOT ORDER FOLDER PIPE LIFELINE

ROOT holds the `acestep` package to run, this project's fork or somebody's checkout. ORDER is JSON of what all runs
share; each line of standard input is JSON of what one run is asked. FOLDER receives a folder for each run, 0, 1 and
so on, with run.json, tensors.npz and the recorded steps, each followed by "done" on PIPE, a file descriptor on which
the progress is written, too; where a run fails, why is written on PIPE, which no full disk can keep from being read,
and the process ends. The process also ends with the one that holds LIFELINE open. Decoder evaluations are counted at
the decoders: neither the progress bar nor anything that the run says of itself is believed. The interpreter may be
another than the project's: nothing is needed of it but what the checkout needs.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
# for `smoke` and the harness of `patches`; main() puts the tree in their place
sys.path[:1] = [str(PROJECT / "scripts"), str(PROJECT)]
from patches.harness.arrays import as_array  # noqa: E402
from patches.harness.child import without_garbage_collection  # noqa: E402
from patches.harness.imports import hide_package  # noqa: E402
from patches.harness.network import refuse_network  # noqa: E402
from patches.harness.recorders import call_in_thread  # noqa: E402
from smoke import disk, encoders, lifeline, tree, watch  # noqa: E402

NEEDED = ("task_type", "instruction", "src_audio", "inference_steps", "guidance_scale", "shift")
BATCH_SIZE = 1  # a run a stem: each is counted and compared for itself
CONFIG = ("batch_size", "use_random_seed", "seeds")
PACKAGES = ("torch", "mlx", "transformers", "diffusers", "numpy")


Tell = Callable[[str, int, int], None]


def teller(pipe: int) -> Tell:
    """tell(part, done, of) writes a line on the pipe."""
    os.set_inheritable(pipe, False)
    return lambda part, done, of: write_line(pipe, [part, done, of])


def write_line(pipe: int, values: list[Any]) -> None:
    """A line of JSON; where nobody reads it any more, the process ends."""
    try:
        os.write(pipe, (json.dumps(values) + "\n").encode())
    except BrokenPipeError:
        os._exit(1)


def drive(order: dict[str, Any], folder: Path, tell: Tell) -> None:
    """Runs what standard input asks for on the `acestep` that is importable."""
    on_mlx = order["backend"] == "mlx"
    warned = tree.collect_warnings()
    if on_mlx and not tree.absent(["mlx"]):  # where it is absent, it is named with whatever else is
        tree.check_mlx()
    model_imports = tree.model_code_imports(Path(sys.path[0]))
    with without_garbage_collection():
        (handlers, inference), stubbed = tree.import_tree(
            ("acestep.handler", "acestep.inference"), besides=model_imports | ({"mlx"} if on_mlx else set())
        )
    notes = [f"{name} is not installed; soundfile read the context in its place" for name in stubbed]
    if on_mlx and (override := tree.override_mlx_available()):
        notes.append(override)

    handler = handlers.AceStepHandler()
    start = time.perf_counter()
    if not on_mlx:
        import_pytorch_parts()
    message, loaded = load(handler, order)
    load_seconds = time.perf_counter() - start
    if not loaded:
        raise tree.problem(message, tree.version_hint(model_imports))
    if getattr(handler, "use_mlx_vae", False):
        notes.append("the checkout's VAE ran in MLX")
    for note in (getattr(handler, "precision_note", None), getattr(handler, "low_memory_note", None)):
        if note:
            notes.append(note)

    steps = 0
    watched = watch.Watched(
        handler,
        BATCH_SIZE,
        on_mlx,
        lambda begun: tell("steps", begun - 1, steps),
        lambda: tell("decoding", 0, 0),
    )
    encodings = encoders.Encodings(handler)
    tell("loaded", 0, 0)
    for number, line in enumerate(sys.stdin):
        wanted = json.loads(line)
        steps = wanted["params"]["inference_steps"]
        tell("encoding", 0, 0)
        files = folder / str(number)
        files.mkdir()
        watched.start_over(files / "steps" if wanted["record"] else None)
        encodings.start_over()
        run = generate(handler, inference, watched, order | wanted, files / "tensors.npz")
        shared = {
            "mlx_active": "MLX DiT: Active" in message,
            "mlx_warning": next((line for line in reversed(warned) if "mlx" in line.lower()), None),
            "device": mlx_device() if on_mlx else str(handler.device),
            "dtype": getattr(handler, "precision", "float32"),
            "load_seconds": load_seconds,
            "encodings": encodings.counts(),
            "versions": versions(),
            "tf32": tf32() if on_mlx else "",
        }
        write_json(files / "run.json", {**shared, **run, "notes": notes + run["notes"]})
        tell("done", 0, 0)


def generate(
    handler: Any, inference: Any, watched: watch.Watched, order: dict[str, Any], file: Path
) -> dict[str, Any]:
    """One stem on the loaded handler, its tensors written to `file`; returns what was seen of it alone.

    A field that the run was not asked for is left at the tree's own default, unless --without switches it off.
    """
    instruction = handler.generate_instruction("lego", track_name=order["track"])
    off, notes = tree.switched_off(inference.GenerationParams, order["without"])
    wanted = {"instruction": instruction, **order["params"], **off}
    params, left_out = tree.known_fields(inference.GenerationParams, wanted, NEEDED)
    wanted = {name: order["config"][name] for name in CONFIG}
    config, _ = tree.known_fields(inference.GenerationConfig, wanted, CONFIG)
    language_model = None if "thinking" in order["without"] else watch.FakeLanguageModel()

    def call() -> Any:
        return inference.generate_music(handler, language_model, params, config)

    result = call_in_thread(call) if order["worker_thread"] else call()  # a thread, as upstream's UI and API
    if not result.success:
        problem = tree.problem(result.error or "")
        is_usage = type(getattr(result, "exception", None)).__name__ == "RequestError"
        raise tree.UsageError(str(problem)) if is_usage else problem

    (stem,) = result.audios
    samples = (
        stem["audio"] if "audio" in stem else stem["tensor"]
    )  # the fork makes a tensor only where it is read
    tensors = watched.tensors(result.extra_outputs, handler.model.null_condition_emb)
    save_arrays(file, tensors | {"stem": as_array(samples)})
    time_costs = result.extra_outputs["time_costs"]
    return {
        "timesteps": watched.requested.timesteps,
        "not_recorded": watched.requested.not_recorded,
        "torch_matmuls": watched.mlx.torch_matmuls,
        "not_by_mlx": watched.mlx.not_by_mlx,
        "torch_evaluations": len(watched.torch.timesteps),
        "mlx_failure": next(iter(watched.failures), None),
        "time_costs": {key: value for key, value in time_costs.items() if isinstance(value, (int, float))},
        "stem": {"sample_rate": stem["sample_rate"], **watched.levels(stem)},
        "prompt": watched.missing_from_prompt(
            [instruction, order["params"]["caption"], order["params"]["lyrics"]]
        ),
        "options": {
            "dcw": watched.dcw,
            "language_model": None if language_model is None else language_model.asked_for,
            "replaced_defaults": tree.replaced_defaults(params),
        },
        "notes": notes + left_out,
    }


def import_pytorch_parts() -> None:
    """What the fork's loader imports for PyTorch; where something is missing, the loader says so."""
    with without_garbage_collection(), contextlib.suppress(ImportError):
        importlib.import_module("acestep.models.pytorch.parts")


def load(handler: Any, order: dict[str, Any]) -> tuple[str, bool]:
    """Loads the checkpoint of the order; returns the tree's message and whether it says that all is loaded."""
    checkpoint = Path(order["checkpoint"])
    os.environ["ACESTEP_CHECKPOINTS_DIR"] = str(checkpoint.parent)
    known = inspect.signature(handler.initialize_service).parameters
    message, loaded = handler.initialize_service(
        project_root=str(checkpoint.parent.parent),
        config_path=checkpoint.name,
        device=order["device"],
        use_mlx_dit=order["backend"] == "mlx",
        **{name: value for name, value in order["loading"].items() if name in known},
    )
    return message, loaded


def mlx_device() -> str:
    """Where MLX computes, e.g. 'gpu'."""
    import mlx.core as mx

    return str(mx.default_device().type).rpartition(".")[2]


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays by name, in numpy's own format."""
    import numpy as np

    np.savez(path, **arrays)


def versions() -> dict[str, str]:
    """Of what the run was computed with, as far as it is installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def tf32() -> str:
    """Whether MLX's float32 matmuls may be computed in TF32, where the device has it, which loses half the digits."""
    setting = os.environ.get("MLX_ENABLE_TF32")
    return (
        "off"
        if setting == "0"
        else f"on ({'the default' if setting is None else f'MLX_ENABLE_TF32={setting}'})"
    )


def place(error: Exception) -> str:
    """Where in the tree an error came from."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        _, found, inside = frame.filename.rpartition("/acestep/")
        if found:
            return f" in acestep/{inside}, line {frame.lineno}"
    return ""


def write_json(path: Path, value: Any) -> None:
    """Plain values."""
    path.write_text(json.dumps(value), encoding="utf-8")


def main(root: str, order: str, folder: str, pipe: str, lifeline_pipe: str) -> int:
    """Exit status 0 where every run was done or the pipe was told why not."""
    lifeline.die_with_parent(int(lifeline_pipe))
    warnings.simplefilter("ignore")  # of libraries, on one another, at every import
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for library in ("TRANSFORMERS", "DIFFUSERS"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    sys.path[:2] = [root]
    hide_package("patches")  # the checkout may have a module of that name
    refuse_network("the smoke run downloads nothing; put the checkpoint in place first")
    try:
        drive(json.loads(order), Path(folder), teller(int(pipe)))
    except KeyboardInterrupt:  # the terminal sent it to the parent as well, which says what was kept
        return 130
    except tree.TreeError as error:
        problem, is_usage = disk.full_disk(error) or str(error), isinstance(error, tree.UsageError)
    except Exception as error:
        is_usage = False
        problem = disk.full_disk(error) or f"the run failed{place(error)} ({watch.first_line(error)})"
    else:
        return 0
    write_line(int(pipe), ["failed", problem, is_usage])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
