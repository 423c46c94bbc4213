"""Parts that are loaded when they are needed: the same stem, and no more in memory than is said."""

import gc
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from acestep.models.checkpoint import memory
from acestep.models.checkpoint.memory import weights_in_memory
from acestep.models.mlx.loaded_parts import LoadedParts


def load(root: Path, **options: Any) -> tuple[AceStepHandler, str]:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(root, device="cpu", **options)
    assert loaded, message
    return handler, message


def stem(handler: AceStepHandler, context: Path, track: str = "vocals") -> np.ndarray:
    instruction = handler.generate_instruction("lego", track)
    params = GenerationParams(
        src_audio=context, instruction=instruction, inference_steps=2, guidance_scale=4.0
    )
    result = generate_music(handler, None, params, GenerationConfig(use_random_seed=False, seeds=[1]))
    assert result.success, result.error
    audio: np.ndarray = result.audios[0]["audio"]
    return audio


def parts_of(handler: AceStepHandler) -> LoadedParts:
    return handler.vae._load.func.__self__


@pytest.fixture
def context(make_context: Callable[..., Path]) -> Path:
    return make_context(1.0)


def test_the_stem_is_the_same_bit_for_bit(
    tiny_root: Callable[..., Path], load_handler: Callable[..., Any], context: Path
) -> None:
    handler, message = load(tiny_root(), low_memory=True)
    for track in ("vocals", "drums", "vocals"):
        assert np.array_equal(stem(handler, context, track), stem(load_handler(), context, track))
    assert "Low memory (as requested): of " in message
    assert handler.low_memory_note[0].islower()


def test_no_more_is_in_memory_than_the_largest_part(
    tiny_root: Callable[..., Path], context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[list[str]] = []
    get = LoadedParts.get

    def noting(parts: LoadedParts, name: str) -> Any:
        part = get(parts, name)
        held.append(parts.names)
        return part

    monkeypatch.setattr(LoadedParts, "get", noting)
    handler, _ = load(tiny_root(), low_memory=True)
    largest = max(weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base").values())
    stem(handler, context)
    assert {name for names in held for name in names} == {
        "decoder",
        "vae",
        "condition encoder",
        "text encoder",
    }
    sizes = weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base")
    assert max(sum(sizes[name] for name in names) for names in held) == largest


def test_what_is_released_leaves_memory(tiny_root: Callable[..., Path], context: Path) -> None:
    handler, _ = load(tiny_root(), low_memory=True)
    decoder = weakref.ref(handler.mlx_decoder.reference)
    stem(handler, context)
    gc.collect()
    assert decoder() is None
    mx.clear_cache()
    whole, _ = load(tiny_root())
    assert parts_of(whole).names != parts_of(handler).names == ["vae"]


class TestByItself:
    """Where the memory check says that not all of it fits."""

    def available(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        monkeypatch.setattr(memory, "available_memory", lambda: size)
        monkeypatch.setattr(memory, "ACTIVATIONS", 0)

    def test_as_many_parts_as_fit_stay(
        self, tiny_root: Callable[..., Path], context: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base")
        self.available(monkeypatch, sum(sizes.values()) - 1)
        handler, message = load(tiny_root())
        assert " are available): of " in message
        stem(handler, context)
        assert {"decoder", "vae"} <= set(parts_of(handler).names) < set(sizes)

    def test_nothing_is_released_where_all_fit(
        self, tiny_root: Callable[..., Path], context: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base")
        self.available(monkeypatch, sum(sizes.values()))
        handler, message = load(tiny_root())
        stem(handler, context)
        assert set(parts_of(handler).names) == set(sizes)
        assert "memory" not in message

    @pytest.mark.parametrize("low_memory", [None, True, False])
    def test_too_little_for_the_largest_part_is_refused(
        self, tiny_root: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, low_memory: bool | None
    ) -> None:
        sizes = weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base")
        self.available(monkeypatch, max(sizes.values()) - 1)
        message, loaded = AceStepHandler().initialize_service(tiny_root(), low_memory=low_memory)
        assert not loaded
        alone = "its weights alone" if low_memory is False else "the weights of its decoder alone"
        assert f"of memory for {alone}" in message

    def test_false_loads_all_or_nothing(
        self, tiny_root: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = weights_in_memory(tiny_root() / "checkpoints/acestep-v15-base")
        self.available(monkeypatch, sum(sizes.values()) - 1)
        message, loaded = AceStepHandler().initialize_service(tiny_root(), low_memory=False)
        assert not loaded
        assert "for its weights alone" in message


def test_a_damaged_part_is_found_when_the_service_is_initialized(
    tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints")
    (tmp_path / "checkpoints/vae/diffusion_pytorch_model.safetensors").write_bytes(b"cut short")
    message, loaded = AceStepHandler().initialize_service(tmp_path, low_memory=True)
    assert not loaded
    assert "cannot be read" in message


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"low_memory": "yes"}, "low_memory is 'yes', expected True or False"),
        ({"low_memory": True, "use_mlx_dit": False}, "low_memory is for MLX"),
    ],
)
def test_refusals(tiny_root: Callable[..., Path], options: dict[str, Any], sentence: str) -> None:
    message, loaded = AceStepHandler().initialize_service(tiny_root(), **options)
    assert not loaded
    assert message.startswith(sentence)
