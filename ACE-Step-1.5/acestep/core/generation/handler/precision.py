"""Half precision for the decoder on PyTorch: which of the two the device computes in, and how it is put on."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from acestep.core.generation.handler.request_values import show
from acestep.errors import BackendError

# 'auto' is float32 but on CUDA, where it is the half precision that the hardware has.
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
ENDS = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)


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


def halve(decoder: Any, precision: str, device: str) -> None:
    """The decoder's large products are computed in `precision` from here on, and their matrices are kept in it.

    Norms, tables, timesteps, both ends of the decoder and the latents between the steps stay float32: they are
    small, and there it matters.
    """
    dtype: torch.dtype = getattr(torch, precision)
    modules: list[Any] = list(decoder.modules())
    for module in modules:
        if type(module) is torch.nn.Linear:
            module.to(dtype)
        elif type(module) in ENDS:
            module.forward = _in_autocast(module.forward, device, None)
    decoder.forward = _in_autocast(decoder.forward, device, dtype)


def _in_autocast(plain: Callable[..., Any], device: str, dtype: torch.dtype | None) -> Callable[..., Any]:
    """A forward under autocast, or, without a dtype, out of it and given float32."""

    @functools.wraps(plain)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if dtype is None:
            args = tuple(value.float() for value in args)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            return plain(*args, **kwargs)

    return forward
