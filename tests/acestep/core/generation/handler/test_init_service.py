"""Loading: all of a checkpoint or a sentence, and then the handler is as it was."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acestep.core.generation.handler.device import resolve_device
from acestep.errors import BackendError
from acestep.handler import AceStepHandler
from acestep.models.mlx import why_mlx_is_unavailable

DIT, VAE, TEXT = "acestep-v15-base", "vae", "Qwen3-Embedding-0.6B"
FILES = [
    f"{DIT}/config.json",
    f"{DIT}/model.safetensors",
    f"{DIT}/silence_latent.pt",
    f"{VAE}/config.json",
    f"{VAE}/diffusion_pytorch_model.safetensors",
    f"{TEXT}/config.json",
    f"{TEXT}/model.safetensors",
    f"{TEXT}/tokenizer.json",
]


@pytest.fixture
def root(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A project root whose checkpoint a test may change."""
    shutil.copytree(tiny_root() / "checkpoints", tmp_path / "root" / "checkpoints")
    return tmp_path / "root"


def load(root: Path, **options: Any) -> tuple[str, bool, AceStepHandler]:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(root, **{"device": "cpu", **options})
    return message, loaded, handler


def state(handler: AceStepHandler) -> dict[str, Any]:
    """All but the lock, which each handler has for itself."""
    return {name: value for name, value in vars(handler).items() if name != "lock"}


def refusal(root: Path, **options: Any) -> str:
    """The message of a load that fails, and leaves the handler empty."""
    message, loaded, handler = load(root, **options)
    assert not loaded
    assert state(handler) == state(AceStepHandler())
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("use_mlx_dit", "active"),
    [(True, "MLX DiT: Active"), (False, "PyTorch DiT: Active")],
    ids=["mlx", "torch"],
)
def test_message_says_where_the_decoder_runs(root: Path, use_mlx_dit: bool, active: str) -> None:
    message, loaded, handler = load(root, use_mlx_dit=use_mlx_dit)
    assert loaded
    assert message == f"{DIT} is loaded. {active}. Every part runs on cpu."
    assert handler.use_mlx_dit == use_mlx_dit
    assert (handler.mlx_decoder is not None) == use_mlx_dit
    assert hasattr(handler.model, "decoder") != use_mlx_dit, "only one of the two is in memory"


def test_checkpoints_folder_may_be_named_by_the_environment(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACESTEP_CHECKPOINTS_DIR", str(root / "checkpoints"))
    assert load(tmp_path / "elsewhere")[1]


def test_shards_load(root: Path) -> None:
    dit = root / "checkpoints" / DIT
    tensors = load_file(dit / "model.safetensors")
    keys = sorted(tensors)
    for name, part in (("a.safetensors", keys[::2]), ("b.safetensors", keys[1::2])):
        save_file({key: tensors[key] for key in part}, dit / name)
    weight_map = {key: "ab"[i % 2] + ".safetensors" for i, key in enumerate(keys)}
    (dit / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (dit / "model.safetensors").unlink()
    assert load(root)[1]
    assert load(root, use_mlx_dit=False)[1]

    (dit / "b.safetensors").unlink()
    assert refusal(root) == (
        f"{dit / 'b.safetensors'} is missing, model.safetensors.index.json names it; copy the checkpoint again"
    )


@pytest.mark.parametrize("damage", ["removed", "cut_in_half", "emptied", "overwritten"])
@pytest.mark.parametrize("file", FILES)
def test_half_copied_checkpoint_is_a_sentence_that_names_the_file(root: Path, file: str, damage: str) -> None:
    path = root / "checkpoints" / file
    content = path.read_bytes()
    path.unlink()
    if damage != "removed":
        path.write_bytes(
            {"cut_in_half": content[: len(content) // 2], "emptied": b"", "overwritten": b"\x80<html>" * 99}[
                damage
            ]
        )
    message = refusal(root)
    assert str(path.parent) in message
    assert path.name in message
    assert re.search(r"(copied whole\?|; copy the checkpoint again)$", message)


def test_language_model_is_never_read(root: Path) -> None:
    shutil.rmtree(root / "checkpoints" / "acestep-5Hz-lm-1.7B")
    assert load(root)[1]


class TestRefusals:
    """Whole messages."""

    def test_missing_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "checkpoints" / DIT
        assert refusal(tmp_path) == (
            f"checkpoint folder {folder} does not exist; give one that holds config.json (upstream's layout) or "
            "model_index.json (diffusers')"
        )

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_turbo(self, tiny_root: Callable[..., Path], use_mlx_dit: bool) -> None:
        root = tiny_root("turbo")
        folder = root / "checkpoints" / "acestep-v15-turbo"
        assert refusal(root, config_path="acestep-v15-turbo", use_mlx_dit=use_mlx_dit) == (
            f"{folder} is a turbo model (is_turbo is true); LEGO was trained into the base models alone: "
            "give acestep-v15-base or another base model"
        )

    def test_model_kind_unsaid(self, root: Path) -> None:
        path = root / "checkpoints" / DIT / "config.json"
        config = json.loads(path.read_text())
        del config["is_turbo"]
        path.write_text(json.dumps(config))
        assert refusal(root).startswith(f"{path} does not say 'is_turbo'; ")

    def test_unread_part_of_another_model(self, root: Path) -> None:
        """Neither decoder nor encoder would have met this key."""
        path = root / "checkpoints" / DIT / "model.safetensors"
        save_file({**load_file(path), "lm_head.weight": torch.ones(1)}, path)
        assert "1 unexpected (lm_head.weight)" in refusal(root)
        assert "1 unexpected (lm_head.weight)" in refusal(root, use_mlx_dit=False)

    def test_mlx_that_cannot_be_imported(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """PyTorch is a choice, not a rescue."""
        monkeypatch.setitem(sys.modules, "mlx.core", None)
        why_mlx_is_unavailable.cache_clear()
        try:
            assert refusal(root) == (
                "MLX is not available on this machine (ModuleNotFoundError: import of mlx.core halted; None in "
                "sys.modules); install it (pip install mlx, on Linux 'mlx[cpu]') or choose PyTorch with "
                "use_mlx_dit=False"
            )
            assert load(root, use_mlx_dit=False)[1]
        finally:
            why_mlx_is_unavailable.cache_clear()

    def test_unknown_device(self, root: Path) -> None:
        assert refusal(root, device="tpu") == "device is 'tpu', expected auto, cpu, mps, cuda"

    def test_device_that_is_not_there(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert refusal(root, device="cuda", use_mlx_dit=False) == (
            "device 'cuda' is not available to PyTorch on this machine; use 'auto' or 'cpu'"
        )


def test_failed_load_leaves_what_was_loaded_before(root: Path, tmp_path: Path) -> None:
    _, loaded, handler = load(root)
    assert loaded
    before = dict(vars(handler))
    (root / "checkpoints" / TEXT / "tokenizer.json").unlink()  # the last thing to be read
    assert not handler.initialize_service(root, device="cpu", use_mlx_dit=False)[1]
    assert vars(handler) == before


class TestDevice:
    """'auto' takes the best that is there."""

    @pytest.mark.parametrize(
        ("cuda", "mps", "chosen"),
        [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
        ids=["cuda_first", "then_mps", "then_cpu"],
    )
    def test_auto(self, monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        assert resolve_device("auto") == chosen
        assert resolve_device(chosen) == chosen
        assert resolve_device("cpu") == "cpu"

    def test_named_device_is_not_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(BackendError, match="device 'mps' is not available"):
            resolve_device("mps")
