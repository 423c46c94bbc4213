"""Half precision of the PyTorch decoder: chosen by asking the device, near float32, the schedule untouched."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acestep.core.generation.handler.precision import precision_note, resolve_precision
from acestep.errors import BackendError
from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from tests.parity_helper import relative_l2


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """gpu(bfloat16): from here on PyTorch answers for a GPU with or without it; emulated, it always is there."""

    def answer(bfloat16: bool) -> None:
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or bfloat16
        )
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0) if bfloat16 else (7, 5))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")

    return answer


@pytest.mark.parametrize(("bfloat16", "chosen"), [(True, "bfloat16"), (False, "float16")])
def test_cuda_is_asked_what_its_hardware_has(gpu: Callable[..., None], bfloat16: bool, chosen: str) -> None:
    gpu(bfloat16)
    assert resolve_precision("auto", "cuda") == chosen
    assert resolve_precision("float32", "cuda") == "float32"


def test_auto_says_why_it_is_float16(gpu: Callable[..., None]) -> None:
    gpu(bfloat16=False)
    assert precision_note("auto", resolve_precision("auto", "cuda"), "cuda") == (
        "dtype auto is float16: Some GPU (compute capability 7.5) has no bfloat16 in hardware; what exceeds float16's "
        "range is scaled by powers of two"
    )
    assert precision_note("float16", "float16", "cuda") is None
    assert precision_note("auto", "float32", "cpu") is None
    gpu(bfloat16=True)
    assert precision_note("auto", resolve_precision("auto", "cuda"), "cuda") is None


def test_bfloat16_that_would_be_emulated_is_refused(gpu: Callable[..., None]) -> None:
    gpu(bfloat16=False)
    with pytest.raises(BackendError) as caught:
        resolve_precision("bfloat16", "cuda")
    assert str(caught.value) == "Some GPU (compute capability 7.5) has no bfloat16 in hardware; use float16"


def test_elsewhere_it_is_float32_unless_asked_for() -> None:
    assert resolve_precision("auto", "cpu") == "float32"
    assert resolve_precision("float16", "mps") == "float16"


def test_unknown_precision_is_refused(tiny_root: Callable[..., Path]) -> None:
    answer = AceStepHandler().initialize_service(tiny_root(), use_mlx_dit=False, torch_precision="int8")
    assert answer == ("torch_precision is 'int8', expected auto, float32, bfloat16, float16", False)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_half_run_is_near_the_whole_one_at_the_same_timesteps(
    precision: str, tiny_root: Callable[..., Path], torch_handler: Any, make_context: Callable[..., Path]
) -> None:
    half = AceStepHandler()
    message, loaded = half.initialize_service(
        tiny_root(), device="cpu", use_mlx_dit=False, torch_precision=precision
    )
    assert loaded, message
    assert half.precision == precision
    for part in (half.model.decoder, half.model.encoder, half.text_encoder.encoder):
        of_matrices = {value.dtype for value in part.parameters() if value.dim() == 2}
        of_others = {value.dtype for value in part.parameters() if value.dim() != 2}
        assert (of_matrices, of_others) == ({getattr(torch, precision)}, {torch.float32})

    def outputs(handler: AceStepHandler) -> dict[str, Any]:
        params = GenerationParams(src_audio=str(make_context(1.0)), inference_steps=9, guidance_scale=7.0)
        result = generate_music(handler, None, params, GenerationConfig(use_random_seed=False, seeds=[1]))
        assert result.success, result.error
        return result.extra_outputs

    whole, near = outputs(torch_handler), outputs(half)
    assert near["timesteps"] == whole["timesteps"]
    a, b = near["target_latents"], whole["target_latents"]
    assert a.dtype == np.float32
    assert 0 < relative_l2(a, b) < 1e-2
