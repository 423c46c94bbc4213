"""Loading a checkpoint."""

import importlib
import os
from pathlib import Path
from typing import Any

from acestep.core.generation.handler.device import check_device_name
from acestep.core.generation.handler.generate_music_request import check_flag
from acestep.core.generation.handler.request_values import show
from acestep.core.generation.handler.upstream_fields import LOADING_OFF_ONLY, check_off
from acestep.errors import AceStepError, BackendError, CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config
from acestep.models.checkpoint.memory import MemoryPlan, check_memory, plan_memory, weights_in_memory
from acestep.models.checkpoint.precision import FLOAT32, ON_MLX, Precision
from acestep.models.checkpoint.quantization import resolve_mlx_precision, stored_bits
from acestep.models.checkpoint.weights import check_weights, weight_sources
from acestep.models.mlx import why_mlx_is_unavailable
from acestep.models.parts import AudioVAE, ConditionModel, Parts, TextEncoder

TORCH_PACKAGES = ("torch", "diffusers", "transformers")


def checkpoints_folder(project_root: str | Path) -> Path:
    """ACESTEP_CHECKPOINTS_DIR where it is set, else checkpoints/ below the project root."""
    named = os.environ.get("ACESTEP_CHECKPOINTS_DIR")
    return Path(named or Path(project_root) / "checkpoints").expanduser()


def _checkpoint_folder(project_root: Any, config_path: Any) -> Path:
    for name, value in (("project_root", project_root), ("config_path", config_path)):
        if not isinstance(value, (str, os.PathLike)) or "\0" in str(value):
            raise CheckpointError(f"{name} is {show(value)}, expected a path")
    return checkpoints_folder(project_root) / config_path


def check_model_kind(config: ModelConfig, folder: Path) -> None:
    """CheckpointError for turbo."""
    if config.is_turbo:
        raise CheckpointError(
            f"{folder} is a turbo model (is_turbo is true); LEGO was trained into the base models alone: "
            f"give acestep-v15-base or another base model"
        )


def check_mlx(device: Any, precision: Any) -> None:
    """BackendError where MLX is not there or has no such precision, or where there is no such device at all."""
    reason = why_mlx_is_unavailable()
    if reason is not None:
        raise BackendError(
            f"MLX is not available on this machine ({reason}); install it (pip install mlx, on Linux 'mlx[cpu]') "
            f"or choose PyTorch with use_mlx_dit=False"
        )
    if not isinstance(precision, str) or precision not in ON_MLX:
        raise BackendError(f"mlx_precision is {show(precision)}, expected {', '.join(ON_MLX)}")
    check_device_name(device)


def check_torch() -> None:
    """BackendError where what the torch backend needs is not installed."""
    absent = []
    for name in TORCH_PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            absent.append(name)
    if absent:
        raise BackendError(
            f"PyTorch was chosen with use_mlx_dit=False, but {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not installed: pip install {' '.join(absent)}"
        )


class InitServiceMixin:
    """Fills a handler from a checkpoint."""

    model: ConditionModel | None
    config: ModelConfig | None
    mlx_decoder: Any
    vae: AudioVAE | None
    text_encoder: TextEncoder | None
    text_tokenizer: Any
    use_mlx_dit: bool
    precision: str
    precision_note: str | None
    device: str
    low_memory_note: str

    def initialize_service(
        self,
        project_root: str | Path,
        config_path: str = "acestep-v15-base",
        device: str = "auto",
        use_flash_attention: bool = False,
        compile_model: bool = False,
        offload_to_cpu: bool = False,
        offload_dit_to_cpu: bool = False,
        quantization: str | None = None,
        prefer_source: str | None = None,
        use_mlx_dit: bool = True,
        vae_checkpoint: str | None = None,
        mlx_precision: str = "auto",
        torch_precision: str = "float32",
        low_memory: bool | None = None,
    ) -> tuple[str, bool]:
        """Loads checkpoints/{config_path}, strictly.

        The folder is a DiT folder of upstream's, the VAE and the text encoder beside it, or an AceStepPipeline's.
        use_mlx_dit: everything runs on MLX, else on PyTorch; whichever it is, it is the only one.
        device: PyTorch's; MLX computes on its default device.
        mlx_precision: of the matmuls of decoder, text encoder and condition encoder on MLX; float16 and bfloat16 need
        half the memory. Norms, modulation, what is between the matmuls and the VAE are float32 in any case. '8bit' and
        '4bit': the decoder's weights are quantised in groups of 64 while they are loaded, the encoders are float16.
        'auto' is float32, or what the decoder is stored in.
        torch_precision: likewise on PyTorch; 'auto' is float32, on CUDA the half precision that its hardware has.
        low_memory: on MLX; True: no more weights are in memory than those of the largest part; False: all are, or
        nothing is loaded; None: as many as fit. What is not in memory is loaded when it is needed, and the stems are
        the same, bit for bit.
        The other parameters are upstream's and have upstream's positions: they are refused unless they are off,
        prefer_source has no effect because nothing is downloaded.
        Returns a sentence and whether all is loaded; where it is not, the handler is as it was before.
        """
        given = {
            "use_flash_attention": use_flash_attention,
            "compile_model": compile_model,
            "offload_to_cpu": offload_to_cpu,
            "offload_dit_to_cpu": offload_dit_to_cpu,
            "quantization": quantization,
            "vae_checkpoint": vae_checkpoint,
        }
        try:
            for name, (accepted, what) in LOADING_OFF_ONLY.items():
                check_off(name, given[name], accepted, what)
            return self._load(
                _checkpoint_folder(project_root, config_path),
                device,
                check_flag("use_mlx_dit", use_mlx_dit),
                mlx_precision,
                torch_precision,
                None if low_memory is None else check_flag("low_memory", low_memory),
            )
        except AceStepError as error:
            return str(error).encode("utf-8", "backslashreplace").decode("utf-8"), False
        except Exception as error:  # whatever a damaged file leads a library to is an answer, not a raise
            return (
                f"the checkpoint cannot be loaded ({show(error)}); copy it again",
                False,
            )

    def _load(
        self,
        folder: Path,
        device: Any,
        use_mlx_dit: bool,
        mlx_precision: Any,
        torch_precision: Any,
        low_memory: bool | None,
    ) -> tuple[str, bool]:
        config = read_config(folder)
        check_model_kind(config, folder)
        if use_mlx_dit:
            parts, device, precision, note = _load_on_mlx(folder, config, device, mlx_precision, low_memory)
        elif low_memory:
            raise BackendError("low_memory is for MLX; leave it out, or choose MLX with use_mlx_dit=True")
        else:
            parts, device, precision = _load_on_torch(folder, config, device, torch_precision)
            note = ""

        # All is there: from here on nothing fails, and before here nothing was changed.
        self.config, self.device, self.precision = config, device, precision
        self.precision_note = None if use_mlx_dit else _note(torch_precision, precision, device)
        self.model, self.vae, self.mlx_decoder = parts.model, parts.vae, parts.mlx_decoder
        self.text_encoder, self.text_tokenizer = parts.text_encoder, parts.tokenizer
        self.use_mlx_dit, self.low_memory_note = use_mlx_dit, note
        active = "MLX DiT: Active" if use_mlx_dit else "PyTorch DiT: Active"
        message = f"{folder.resolve().name} is loaded. {active}. Every part runs on {device}."
        return f"{message} {note[0].upper()}{note[1:]}." if note else message, True


def _load_on_mlx(
    folder: Path, config: ModelConfig, device: Any, precision: Any, low_memory: bool | None
) -> tuple[Parts, str, str, str]:
    """The parts, MLX's device, the precision and the note of the memory plan; the imports are here, for a machine
    without mlx."""
    check_mlx(device, precision)
    resolved = resolve_mlx_precision(precision, folder)
    plan: MemoryPlan = plan_memory(folder, weights_in_memory(folder, resolved), low_memory)
    check_values_of(folder, on_mlx=True)
    import mlx.core as mx

    from acestep.models.mlx.parts import load_parts

    device = mx.default_device().type.name
    return load_parts(folder, config, resolved, plan), device, resolved.name, plan.note


def _load_on_torch(folder: Path, config: ModelConfig, device: Any, precision: Any) -> tuple[Parts, str, str]:
    """The parts, PyTorch's device and the precision; the imports are here, for a machine without PyTorch."""
    check_torch()
    from acestep.core.generation.handler.device import resolve_device
    from acestep.core.generation.handler.precision import resolve_precision
    from acestep.models.pytorch.parts import load_parts

    device = resolve_device(device)
    precision = resolve_precision(precision, device)
    # PyTorch's parts are converted once they are loaded, on their way to the GPU where there is one.
    in_memory = Precision(precision) if device == "cuda" else FLOAT32
    check_memory(folder, weights_in_memory(folder, in_memory), device, on_mlx=False)
    check_values_of(folder, on_mlx=False)
    return load_parts(folder, config, device, precision), device, precision


def _note(asked: str, precision: str, device: str) -> str | None:
    """`precision_note`; the import is here, for a machine without PyTorch."""
    from acestep.core.generation.handler.precision import precision_note

    return precision_note(asked, precision, device)


def check_values_of(folder: Path, on_mlx: bool) -> None:
    """CheckpointError where the weights of decoder or condition encoder hold values that no model has."""
    for path, _ in weight_sources(folder):
        check_weights(path, is_quantised=on_mlx and stored_bits(folder) is not None)
