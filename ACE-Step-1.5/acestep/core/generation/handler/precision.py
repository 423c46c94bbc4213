"""The precision of the torch backend: which of the half precisions the device computes in."""

import torch

from acestep.core.generation.handler.request_values import show
from acestep.errors import BackendError

# 'auto' is float32 but on CUDA, where it is the half precision that the hardware has.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def has_bfloat16() -> bool:
    """Whether the CUDA device computes in bfloat16 itself; PyTorch would also emulate it, many times slower."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def resolve_precision(precision: str, device: str) -> str:
    """The precision for a device, never 'auto'; BackendError where there is none such, or not in its hardware."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise BackendError(f"torch_precision is {show(precision)}, expected {', '.join(PRECISIONS)}")
    if device != "cuda":
        return "float32" if precision == "auto" else precision
    if precision == "auto":
        return "bfloat16" if has_bfloat16() else "float16"
    if precision == "bfloat16" and not has_bfloat16():
        major, minor = torch.cuda.get_device_capability()
        raise BackendError(
            f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}) has no bfloat16 in hardware; "
            f"use float16"
        )
    return precision


def precision_note(asked: str, precision: str, device: str) -> str | None:
    """Why 'auto' is float16 on a CUDA device, in one sentence; None where there is nothing to say."""
    if asked != "auto" or device != "cuda" or precision != "float16":
        return None
    major, minor = torch.cuda.get_device_capability()
    return (
        f"dtype auto is float16: {torch.cuda.get_device_name()} (compute capability {major}.{minor}) has no "
        f"bfloat16 in hardware; what exceeds float16's range is scaled by powers of two"
    )
