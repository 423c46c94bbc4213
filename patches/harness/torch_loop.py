"""The denoising loop of a checkout's own PyTorch model, run alone with a given velocity in place of the decoder.

The loop is the method `generate_audio` of the model class. It runs on an instance that was never initialised, with
fakes for the decoder and for the conditions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from .fakes import build_payload, call_by_name
from .imports import CannotProbe, describe, import_file, stub_missing
from .loops import COND, UNCOND, LoopRecord, Velocity
from .models import CHANNELS, TOKENS, WIDTH

MODEL_FOLDER = Path("acestep/models/base")
METHOD, GUIDANCE = "generate_audio", "diffusion_guidance_scale"
FRAMES = 128


class TorchLoop:
    """`generate_audio` of the checkout's base model. Raises CannotProbe where there is none."""

    def __init__(self, root: Path) -> None:
        files = sorted((root / MODEL_FOLDER).glob("modeling_*.py"))
        if not files:
            raise CannotProbe(f"it has no PyTorch model in {MODEL_FOLDER}")
        module = import_file(root, files[0])
        kinds = [k for k in vars(module).values() if isinstance(k, type) and METHOD in vars(k)]
        if not kinds:
            raise CannotProbe(f"{files[0].name} does not define {METHOD}")
        self.kind, self.file = kinds[0], files[0].name

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(inspect.signature(getattr(self.kind, METHOD)).parameters)

    def run(
        self, velocity: Velocity, *, frames: int = FRAMES, guidance_scale: float = 1.0, **kwargs: Any
    ) -> LoopRecord:
        """One run with `kwargs` on top of neutral values. Raises CannotProbe where the loop raises."""
        record = LoopRecord()

        def conditions(**_: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            states = torch.full((1, TOKENS, WIDTH), COND)
            return states, torch.ones(1, TOKENS), torch.zeros(1, frames, 2 * CHANNELS)

        null = torch.full((1, 1, WIDTH), UNCOND)
        fakes = {
            "decoder": _Decoder(record, velocity),
            "prepare_condition": staticmethod(conditions),
            "null_condition_emb": null,
            "encoder": SimpleNamespace(null_condition_emb=null),  # where some checkouts keep it
            "config": None,
        }
        model: Any = object.__new__(type(self.kind.__name__, (self.kind,), fakes))
        torch.manual_seed(0)  # SDE draws from torch's global generator
        latents = torch.zeros(1, frames, CHANNELS)
        defaults = {
            **build_payload(),
            "src_latents": latents,
            "chunk_masks": torch.ones_like(latents),
            "is_covers": torch.zeros(1, dtype=torch.bool),
            "silence_latent": latents,
            "seed": [7],
            "infer_method": "ode",
            "shift": 3.0,
            # the parameter's name until 7ee27ec; later states let it win where both are given
            "diffusion_guidance_sale"
            if "diffusion_guidance_sale" in self.parameters
            else GUIDANCE: guidance_scale,
            "cfg_interval_start": 0.0,
            "cfg_interval_end": 1.0,
            "use_progress_bar": False,
            "disable_tqdm": True,
            "dcw_enabled": False,
        }
        while True:
            try:
                result = _call(getattr(model, METHOD), {**defaults, **kwargs})
                break
            except Exception as error:
                if not stub_missing(error):
                    raise CannotProbe(f"PyTorch's loop raises {describe(error)}") from error
        record.end = torch.as_tensor(result["target_latents"]).detach()
        return record


class _Decoder:
    """A class, since a function would become a method of the model; some checkouts read its config."""

    config = SimpleNamespace(in_channels=3 * CHANNELS, audio_acoustic_hidden_dim=CHANNELS, patch_size=2)
    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, record: LoopRecord, velocity: Velocity) -> None:
        self.record, self.velocity = record, velocity

    def __call__(self, hidden_states: torch.Tensor, timestep: torch.Tensor, *_: Any, **kwargs: Any) -> Any:
        states = hidden_states.detach().clone()
        t = float(timestep.flatten()[0])
        made = self.record.evaluate(self.velocity, states, t, kwargs.get("encoder_hidden_states"))
        return made, kwargs.get("past_key_values")


def _call(loop: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
    """All of `kwargs` where the loop takes any keyword, as upstream's executor calls it; else those it knows."""
    kinds = [parameter.kind for parameter in inspect.signature(loop).parameters.values()]
    return loop(**kwargs) if inspect.Parameter.VAR_KEYWORD in kinds else call_by_name(loop, kwargs)
