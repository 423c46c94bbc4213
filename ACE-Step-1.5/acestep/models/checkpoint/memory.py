"""Whether a checkpoint's weights fit, asked before they are loaded: a machine that runs full answers nothing more."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acestep.errors import CheckpointError
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import FLOAT32, Precision, bits_of
from acestep.models.checkpoint.weights import (
    DECODER_PREFIX,
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    UNUSED_PREFIXES,
    read_sizes,
    sizes_of_checkpoint,
    weight_files,
)

DECODER, CONDITION_ENCODER, VAE, TEXT_ENCODER = "decoder", "condition encoder", "vae", "text encoder"
# Bytes that a request takes beside the weights: the VAE's tiles, the decoder's activations for minutes of audio.
ACTIVATIONS = 10**9


@dataclass(frozen=True)
class MemoryPlan:
    """sizes: bytes of each part's weights; limit: bytes of weights held at once, None: all of them; note: a sentence
    where there is a limit."""

    sizes: Mapping[str, int]
    limit: int | None = None
    note: str = ""


def weights_in_memory(folder: Path, precision: Precision = FLOAT32) -> dict[str, int]:
    """The bytes that each part of a checkpoint takes once loaded in a precision, by the headers of its files."""
    layout = find_layout(folder)
    decoder, encoder = 0.0, 0
    sizes = sizes_of_checkpoint(folder)
    for name, size in sizes.items():
        if name.startswith(DECODER_PREFIX):
            decoder += decoder_bytes(name, sizes, precision)
        elif not name.startswith(UNUSED_PREFIXES):
            encoder += size * precision.encoder_bytes
    parts = {DECODER: round(decoder), CONDITION_ENCODER: encoder}
    for part, of_part, stem, a_number in (
        (VAE, layout.vae, DIFFUSERS_STEM, FLOAT32.encoder_bytes),
        (TEXT_ENCODER, layout.text_encoder, TRANSFORMERS_STEM, precision.encoder_bytes),
    ):
        parts[part] = a_number * sum(sum(read_sizes(path).values()) for path in weight_files(of_part, stem))
    return parts


def decoder_bytes(name: str, sizes: Mapping[str, int], precision: Precision) -> float:
    """Of one of the decoder's weights; the scales and biases of one that is stored quantised are counted with it."""
    layer, _, kind = name.rpartition(".")
    if kind in ("scales", "biases"):
        return 0.0
    name = name.removeprefix(DECODER_PREFIX)
    bits = precision.bits if f"{layer}.scales" in sizes else None
    numbers = sizes[f"{layer}.{kind}"] * (1 if bits is None else 32 // bits_of(name, bits))
    return numbers * precision.decoder_bytes(name)


def _of_linux(meminfo: str) -> int | None:
    """MemAvailable of /proc/meminfo: what is free and what the kernel would give back."""
    found = [line.split() for line in meminfo.splitlines() if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _of_macos(vm_stat: str) -> int | None:
    """What `vm_stat` counts as free, speculative and inactive, in pages of the size that its first line names."""
    first, _, rest = vm_stat.partition("\n")
    size = next((word for word in first.split() if word.isdigit()), None)
    pages = {
        name: int(count.strip(" ."))
        for name, _, count in (line.partition(":") for line in rest.splitlines())
        if name in ("Pages free", "Pages speculative", "Pages inactive")
    }
    return int(size) * sum(pages.values()) if size and len(pages) == 3 else None


def available_memory() -> int | None:
    """Bytes that a program can still take on this machine; None where the system does not say."""
    try:
        if sys.platform == "linux":
            return _of_linux(Path("/proc/meminfo").read_text(encoding="ascii"))
        if sys.platform == "darwin":
            return _of_macos(subprocess.run(["vm_stat"], capture_output=True, text=True, check=True).stdout)
    except (OSError, ValueError, subprocess.CalledProcessError):
        pass
    return None


def available_cuda_memory() -> int | None:
    """Bytes that are free on the GPU that PyTorch uses."""
    import torch

    return int(torch.cuda.mem_get_info()[0])


def gigabytes(size: int) -> str:
    """'1.4 GB', of 10^9 bytes."""
    return f"{size / 1e9:.1f} GB"


def check_memory(folder: Path, parts: Mapping[str, int], device: str, on_mlx: bool) -> None:
    """CheckpointError, with what is needed and what there is, where the parts of `weights_in_memory` do not fit.

    On CUDA a part passes through the machine's memory to stay in the GPU's, the MLX decoder stays in the machine's.
    """
    needs = [("memory", sum(parts.values()), available_memory)]
    if device == "cuda":
        on_gpu = sum(size for part, size in parts.items() if not (on_mlx and part == DECODER))
        needs = [
            ("memory", max(parts.values()), available_memory),
            ("GPU memory", on_gpu, available_cuda_memory),
        ]
    for kind, needed, available in needs:
        there = available()
        if there is not None and there < needed:
            raise CheckpointError(
                f"{folder} needs {gigabytes(needed)} of {kind} for its weights alone, {gigabytes(there)} are "
                f"available; close other programs or use a machine with more"
            )


def plan_memory(folder: Path, parts: Mapping[str, int], low_memory: bool | None) -> MemoryPlan:
    """Which parts of `weights_in_memory` are held at once on MLX; CheckpointError where there is not enough memory.

    low_memory True: no more than the largest part takes; False: all; None: all where they fit, else as many as do.
    """
    total, largest, there = sum(parts.values()), max(parts.values()), available_memory()
    if low_memory is False or (low_memory is None and (there is None or total <= there)):
        check_memory(folder, parts, "cpu", on_mlx=True)
        return MemoryPlan(parts)
    if there is not None and there < largest:
        name = max(parts, key=lambda part: parts[part])
        raise CheckpointError(
            f"{folder} needs {gigabytes(largest)} of memory for the weights of its {name} alone, {gigabytes(there)} "
            f"are available; close other programs, choose a smaller mlx_precision or use a machine with more"
        )
    limit = largest if low_memory or there is None else max(largest, there - ACTIVATIONS)
    why = "as requested" if low_memory else f"{gigabytes(there or 0)} are available"
    return MemoryPlan(
        parts,
        limit,
        f"low memory ({why}): of {gigabytes(total)} of weights at most {gigabytes(limit)} are held at once, and each "
        f"request loads the parts that were released before it",
    )
