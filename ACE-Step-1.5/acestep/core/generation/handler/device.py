"""The device that the torch backend runs on."""

from typing import Any

from acestep.core.generation.handler.request_values import show
from acestep.errors import BackendError

DEVICES = ("cpu", "mps", "cuda")


def check_device_name(device: Any) -> None:
    """BackendError for anything else than 'auto' and the names of PyTorch's devices."""
    if not isinstance(device, str) or device not in ("auto", *DEVICES):
        raise BackendError(f"device is {show(device)}, expected auto, {', '.join(DEVICES)}")


def resolve_device(device: Any) -> str:
    """PyTorch's device; 'auto' takes the first of cuda, mps, cpu that is there."""
    import torch

    check_device_name(device)
    there = {"cpu": True, "mps": torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[device]:
        raise BackendError(
            f"device {device!r} is not available to PyTorch on this machine; use 'auto' or 'cpu'"
        )
    return str(device)
