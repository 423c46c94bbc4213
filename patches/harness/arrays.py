"""Arrays of numpy, MLX and PyTorch as float32 arrays of numpy; nothing is imported that the caller has not loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def as_array(value: Any) -> np.ndarray:
    """An array of numpy or MLX or a PyTorch tensor, of any device and dtype, as a float32 array of its own memory."""
    import numpy as np

    if isinstance(value, np.ndarray):
        return np.array(value, dtype=np.float32)
    if hasattr(value, "detach"):
        return np.array(value.detach().float().cpu().numpy())
    import mlx.core as mx

    return np.array(value.astype(mx.float32))


def one_timestep(timestep: Any) -> float:
    """The float32 value that all rows of an evaluation have. Raises RuntimeError where they differ."""
    values = sorted(set(as_array(timestep).ravel().tolist()))
    if len(values) != 1:
        raise RuntimeError(f"one decoder evaluation was given several timesteps: {values}")
    return float(values[0])
