"""Loading a checkpoint."""

import os
from pathlib import Path
from typing import Any

import torch

from acestep.core.generation.handler.generate_music_request import check_flag
from acestep.core.generation.handler.precision import halve, resolve_precision
from acestep.core.generation.handler.request_values import show
from acestep.core.generation.handler.upstream_fields import LOADING_OFF_ONLY, check_off
from acestep.errors import AceStepError, BackendError, CheckpointError
from acestep.models.base.modeling_acestep_v15_base import AceStepConditionGenerationModel
from acestep.models.checkpoints import (
    load_condition_encoder,
    load_decoder,
    load_text_encoder,
    load_vae,
)
from acestep.models.config import ModelConfig, read_config
from acestep.models.layout import find_layout
from acestep.models.memory import FLOAT32, check_memory, weights_in_memory
from acestep.models.mlx import why_mlx_is_unavailable
from acestep.models.weights import check_weights, weight_sources

DEVICES = ("cpu", "mps", "cuda")


def checkpoints_folder(project_root: str | Path) -> Path:
    """ACESTEP_CHECKPOINTS_DIR where it is set, else checkpoints/ below the project root."""
    named = os.environ.get("ACESTEP_CHECKPOINTS_DIR")
    return Path(named or Path(project_root) / "checkpoints").expanduser()


def _checkpoint_folder(project_root: Any, config_path: Any) -> Path:
    for name, value in (("project_root", project_root), ("config_path", config_path)):
        if not isinstance(value, (str, os.PathLike)) or "\0" in str(value):
            raise CheckpointError(f"{name} is {show(value)}, expected a path")
    return checkpoints_folder(project_root) / config_path


def resolve_device(device: str) -> str:
    """The device for PyTorch's parts; 'auto' takes the first of cuda, mps, cpu that is there."""
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if isinstance(device, str) and device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not isinstance(device, str) or device not in DEVICES:
        raise BackendError(f"device is {show(device)}, expected auto, {', '.join(DEVICES)}")
    if not there[device]:
        raise BackendError(
            f"device {device!r} is not available to PyTorch on this machine; use 'auto' or 'cpu'"
        )
    return device


def check_model_kind(config: ModelConfig, folder: Path) -> None:
    """CheckpointError for turbo."""
    if config.is_turbo:
        raise CheckpointError(
            f"{folder} is a turbo model (is_turbo is true); LEGO was trained into the base models alone: "
            f"give acestep-v15-base or another base model"
        )


def check_mlx(precision: str) -> None:
    """BackendError where MLX is not there or has no such precision."""
    reason = why_mlx_is_unavailable()
    if reason is not None:
        raise BackendError(
            f"MLX is not available on this machine ({reason}); install it (pip install mlx, on Linux 'mlx[cpu]') "
            f"or choose PyTorch with use_mlx_dit=False"
        )
    from acestep.models.mlx.dit_convert import PRECISIONS

    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise BackendError(f"mlx_precision is {show(precision)}, expected {', '.join(PRECISIONS)}")


def load_mlx_decoder(folder: Path, config: ModelConfig, precision: str) -> Any:
    """The fast decoder in MLX; the imports are here, for a machine without it."""
    from acestep.models.mlx.dit_convert import convert_and_load
    from acestep.models.mlx.dit_fast import MLXFastDecoder
    from acestep.models.mlx.dit_model import MLXDiTDecoder
    from acestep.models.mlx.streams import reused_stream

    with reused_stream():
        decoder = MLXDiTDecoder.from_config(config)
        convert_and_load(folder, decoder, precision)
        return MLXFastDecoder(decoder)


def load_torch_decoder(folder: Path, config: ModelConfig, precision: str, device: str) -> Any:
    """The decoder in PyTorch on a device."""
    decoder = load_decoder(folder, config)
    if precision != "float32":
        halve(decoder, precision, device)
    return decoder.to(device)


class InitServiceMixin:
    """Fills a handler from a checkpoint."""

    model: AceStepConditionGenerationModel | None
    config: ModelConfig | None
    mlx_decoder: Any
    vae: Any
    text_encoder: Any
    text_tokenizer: Any
    use_mlx_dit: bool
    precision: str
    device: str
    dtype: torch.dtype

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
        mlx_precision: str = "float32",
        torch_precision: str = "float32",
    ) -> tuple[str, bool]:
        """Loads checkpoints/{config_path}, strictly, in float32 but for the decoder where that is asked for.

        The folder is a DiT folder of upstream's, the VAE and the text encoder beside it, or an AceStepPipeline's.
        use_mlx_dit: the decoder runs on MLX, else on PyTorch; whichever it is, it is the only one.
        mlx_precision: of the MLX decoder's large products; float16 and bfloat16 need half the memory.
        torch_precision: likewise of the PyTorch decoder's; 'auto' is float32, on CUDA the half that its hardware has.
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
                resolve_device(device),
                check_flag("use_mlx_dit", use_mlx_dit),
                mlx_precision,
                torch_precision,
            )
        except AceStepError as error:
            return str(error).encode("utf-8", "backslashreplace").decode("utf-8"), False
        except Exception as error:  # whatever a damaged file leads a library to is an answer, not a raise
            return (
                f"the checkpoint cannot be loaded ({show(error)}); copy it again",
                False,
            )

    def _load(
        self, folder: Path, device: str, use_mlx_dit: bool, mlx_precision: str, torch_precision: str
    ) -> tuple[str, bool]:
        layout, config = find_layout(folder), read_config(folder)
        check_model_kind(config, folder)
        if use_mlx_dit:
            check_mlx(mlx_precision)
        precision = mlx_precision if use_mlx_dit else resolve_precision(torch_precision, device)
        half = precision != "float32"
        # PyTorch's decoder is halved once it is loaded, on its way to the GPU where there is one.
        decoder_bytes = FLOAT32 // (2 if half and (use_mlx_dit or device == "cuda") else 1)
        check_memory(folder, weights_in_memory(folder, decoder_bytes), device, use_mlx_dit)
        for path, _ in weight_sources(folder):
            check_weights(path)
        # The largest part last: what the libraries hold twice while they load is gone by then.
        text_encoder, tokenizer = load_text_encoder(layout.text_encoder, config, layout.tokenizer)
        text_encoder, vae = text_encoder.to(device), load_vae(layout.vae, config).to(device)
        encoder = load_condition_encoder(folder, config).to(device)
        decoder = None if use_mlx_dit else load_torch_decoder(folder, config, precision, device)
        mlx_decoder = load_mlx_decoder(folder, config, precision) if use_mlx_dit else None

        # All is there: from here on nothing fails, and before here nothing was changed.
        self.config, self.device, self.dtype = config, device, torch.float32
        self.model = AceStepConditionGenerationModel(config, encoder, decoder)
        self.vae, self.text_encoder, self.text_tokenizer = vae, text_encoder, tokenizer
        self.use_mlx_dit, self.mlx_decoder, self.precision = use_mlx_dit, mlx_decoder, precision
        active = "MLX DiT: Active" if use_mlx_dit else "PyTorch DiT: Active"
        return f"{folder.resolve().name} is loaded. {active}. PyTorch's parts run on {device}.", True
