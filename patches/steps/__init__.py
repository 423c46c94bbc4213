"""The three patches that carry the requested number of steps to the MLX timestep schedule, one file each."""

from ..engine.series import Series
from . import diffusion, execute, format_0_1, generate
from .calls import failing

STEPS = Series(
    "steps",
    "the requested steps and custom timesteps of a base model reach the MLX loop",
    (execute.PATCH, diffusion.PATCH, generate.PATCH),
    older=format_0_1.originals,
    failing=failing,
)
