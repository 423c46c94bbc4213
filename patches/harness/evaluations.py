"""The evaluations of a decoder, real or fake: how many, at which t, and what the first was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arrays import as_array

if TYPE_CHECKING:
    import numpy as np

INPUTS = ("hidden_states", "encoder_hidden_states", "context_latents")
HIDDEN = "the decoder's velocities are out of sight inside a compiled function"


class Calls:
    """The evaluations of one decoder: their t in order, and the inputs of the first.

    A batch of twice `batch_size` holds uncond behind cond; `first` has cond.
    With a folder to record in, FOLDER/0.npy and so on hold float32 [2 or 3, batch, frames, channels]: latents,
    velocity of cond and, where there is one, of uncond. not_recorded: why there are none, else None.
    torch_matmuls, not_by_mlx: of an MLX decoder, the matmuls that PyTorch did and the evaluations whose velocity MLX
    did not compute from the latents.
    """

    def __init__(self, batch_size: int, tell: Callable[[int], None] = lambda _: None) -> None:
        self._batch_size = batch_size
        self._tell = tell
        self._folder: Path | None = None
        self.inside = False
        self.start_over(None)

    def start_over(self, folder: Path | None) -> None:
        """Forgets the run before; `folder` is made and receives the steps of the next."""
        self.timesteps: list[float] = []
        self.first: dict[str, np.ndarray] = {}
        self.torch_matmuls = 0
        self.not_by_mlx = 0
        self.not_recorded: str | None = None
        self._folder = folder
        if folder is not None:
            folder.mkdir()

    def begin(self, inputs: Mapping[str, Any]) -> None:
        """An evaluation with these inputs begins; t is NaN where it cannot be seen."""
        if not self.timesteps:
            seen = {name: as_array(inputs[name]) for name in INPUTS if name in inputs}
            self.first = {name: array[: self._batch_size] for name, array in seen.items()}
        t = inputs.get("timestep")
        self.timesteps.append(math.nan if t is None else float(as_array(t).reshape(-1)[0]))
        self._tell(len(self.timesteps))

    def end(self, inputs: Mapping[str, Any], velocity: Any) -> None:
        """The evaluation that began last returned `velocity`, None where that cannot be seen."""
        if self._folder is None or self.not_recorded is not None:
            return
        if velocity is None or "hidden_states" not in inputs:
            self.not_recorded = HIDDEN
            return
        import numpy as np

        latents, velocities, size = as_array(inputs["hidden_states"]), as_array(velocity), self._batch_size
        branches = [velocities[start : start + size] for start in range(0, len(velocities), size)]
        try:
            np.save(
                self._folder / f"{len(self.timesteps) - 1}.npy", np.stack([latents[:size], *branches[:2]])
            )
        except (OSError, ValueError) as error:  # a full disk; shapes that are no latents and velocities
            self.not_recorded = str(error)
