"""One run of one source tree through its public API, in a process of its own.

usage: python drive.py ROOT ORDER FOLDER

ROOT holds the `acestep` package to run, ORDER is JSON that `smoke.run` makes. FOLDER receives run.json (written
last: where it is missing, the run died), tensors.safetensors and the stem. Decoder evaluations are counted at the
decoder: neither the progress bar nor anything that the run says of itself is believed.
"""

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

TENSORS = ("noise", "context_latents", "encoder_hidden_states", "null_condition_emb", "target_latents")


class CountingDecoder:
    """Stands where the handler has its MLX decoder; passes every call on and notes its t."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.timesteps: list[float] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.timesteps.append(float(kwargs["timestep"][0].item()))
        return self._decoder(*args, **kwargs)


def count_torch_calls(decoder: Any) -> list[float]:
    """Hooks PyTorch's decoder; the list that is returned grows by t with every evaluation."""
    timesteps: list[float] = []

    def note(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        timesteps.append(float(kwargs["timestep"][0]))

    decoder.register_forward_pre_hook(note, with_kwargs=True)
    return timesteps


def drive(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Runs the order on the `acestep` that is importable; returns what run.json holds."""
    from acestep.handler import AceStepHandler
    from acestep.inference import GenerationConfig, GenerationParams, generate_music

    handler = AceStepHandler()
    start = time.perf_counter()
    checkpoint, on_mlx = Path(order["checkpoint"]), order["backend"] == "mlx"
    os.environ["ACESTEP_CHECKPOINTS_DIR"] = str(checkpoint.parent)
    message, loaded = handler.initialize_service(
        project_root=str(checkpoint.parent.parent),
        config_path=checkpoint.name,
        device=order["device"],
        use_mlx_dit=on_mlx,
    )
    if not loaded:
        return {"error": message}
    load_seconds = time.perf_counter() - start
    if on_mlx:
        handler.mlx_decoder = CountingDecoder(handler.mlx_decoder)
        counted = handler.mlx_decoder.timesteps
    else:
        counted = count_torch_calls(handler.model.decoder)

    instruction = handler.generate_instruction("lego", track_name=order["track"])
    result = generate_music(
        handler,
        None,
        GenerationParams(instruction=instruction, **order["params"]),
        GenerationConfig(**order["config"]),
        save_dir=folder,
    )
    if not result.success:
        return {"error": result.error, "evaluated": len(counted)}
    save_tensors(result.extra_outputs, folder / "tensors.safetensors")
    (stem,) = result.audios
    return {
        "error": None,
        "evaluated": len(counted),
        "timesteps": counted,
        "device": mlx_device() if on_mlx else handler.device,
        "load_seconds": load_seconds,
        "time_costs": result.extra_outputs["time_costs"],
        "stem": {key: stem[key] for key in ("path", "peak", "rms", "clipped", "gain")},
    }


def mlx_device() -> str:
    """Where MLX computes, e.g. 'gpu'."""
    import mlx.core as mx

    return str(mx.default_device().type).rpartition(".")[2]


def save_tensors(outputs: dict[str, Any], path: Path) -> None:
    """What both backends can be compared on, float32."""
    from safetensors.torch import save_file

    save_file({name: outputs[name].detach().float().cpu().contiguous() for name in TENSORS}, path)


def main(root: str, order: str, folder: str) -> int:
    """Exit status 0 where run.json was written, whatever it says."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # torch on weight_norm, at every load of a VAE
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.path[0] = root  # in place of this script's own folder
    outcome = drive(json.loads(order), Path(folder))
    (Path(folder) / "run.json").write_text(json.dumps(outcome), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
