"""Too little memory is a sentence with both figures, before anything is loaded."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from acestep.errors import CheckpointError
from acestep.handler import AceStepHandler
from acestep.models.checkpoint import memory
from acestep.models.checkpoint.memory import available_memory, check_memory, weights_in_memory
from acestep.models.checkpoint.precision import Precision
from acestep.models.mlx import parts as mlx_parts
from acestep.models.pytorch import parts as torch_parts
from tests.checkpoint_forms import DIT, read_all, recast, to_diffusers

MEMINFO = "MemTotal:       24684308 kB\nMemFree:         1009460 kB\nMemAvailable:   20011812 kB\n"
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                          200000.
Pages speculative:                         5000.
Pages throttled:                              0.
Pages wired down:                        150000.
"""
PARTS = {"decoder": 9_600_000_000, "condition encoder": 2_400_000_000, "vae": 700_000_000}


def numbers(tensors: dict[str, torch.Tensor], *prefixes: str) -> int:
    return sum(value.numel() for key, value in tensors.items() if key.startswith(prefixes))


def test_weights_are_counted_as_they_will_be_in_memory(
    tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    """Float32 whatever they are on disk; parts that LEGO never reads are not counted."""
    dit = tiny_root() / "checkpoints" / DIT
    tensors, beside = load_file(dit / "model.safetensors"), dit.parent
    want = {
        "decoder": 4 * numbers(tensors, "decoder."),
        "condition encoder": 4 * numbers(tensors, "encoder.", "null_condition_emb"),
        "vae": 4 * numbers(read_all(beside / "vae"), ""),
        "text encoder": 4 * numbers(read_all(beside / "Qwen3-Embedding-0.6B"), ""),
    }
    assert weights_in_memory(dit) == want
    half = {part: size if part == "vae" else size // 2 for part, size in want.items()}
    assert weights_in_memory(dit, Precision("float16")) == half
    shutil.copytree(beside, tmp_path / "checkpoints")
    recast(tmp_path, torch.bfloat16)
    assert weights_in_memory(tmp_path / "checkpoints" / DIT) == want


def test_diffusers_layout_weighs_the_same_and_its_silence(
    tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    dit = tiny_root() / "checkpoints" / DIT
    silence = 4 * 750 * 8
    got = weights_in_memory(to_diffusers(dit, tmp_path / "pipeline"))
    assert sorted(got.values()) == sorted(
        size + silence * (part == "condition encoder") for part, size in weights_in_memory(dit).items()
    )


class TestAvailable:
    """What the system says, by its own words."""

    def test_linux_counts_what_the_kernel_would_give_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(Path, "read_text", lambda path, **_: MEMINFO)
        assert available_memory() == 20_011_812 * 1024

    def test_macos_counts_free_speculative_and_inactive_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        done = subprocess.CompletedProcess(["vm_stat"], 0, stdout=VM_STAT)
        monkeypatch.setattr(subprocess, "run", lambda command, **_: done)
        assert available_memory() == 215_000 * 16384

    @pytest.mark.parametrize(
        ("system", "text"),
        [("linux", "MemFree: 1 kB\n"), ("darwin", "no such thing\n"), ("darwin", ""), ("win32", "")],
    )
    def test_unknown_where_the_system_does_not_say(
        self, monkeypatch: pytest.MonkeyPatch, system: str, text: str
    ) -> None:
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(Path, "read_text", lambda path, **_: text)
        done = subprocess.CompletedProcess(["vm_stat"], 0, stdout=text)
        monkeypatch.setattr(subprocess, "run", lambda command, **_: done)
        assert available_memory() is None

    def test_this_machine_says_something_plausible(self) -> None:
        """A figure in pages or kB would be far out."""
        there = available_memory()
        assert there is None or 50e6 < there < 20e12


class TestCheck:
    """Whole messages; the figures are given in."""

    @pytest.fixture(autouse=True)
    def _plenty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.there(host=99_000_000_000, gpu=99_000_000_000)

    def there(self, **sizes: int | None) -> None:
        names = {"host": "available_memory", "gpu": "available_cuda_memory"}
        for kind, size in sizes.items():
            self.monkeypatch.setattr(memory, names[kind], lambda size=size: size)

    def refusal(self, device: str, on_mlx: bool) -> str:
        with pytest.raises(CheckpointError) as refused:
            check_memory(Path("acestep-v15-base"), PARTS, device, on_mlx)
        return str(refused.value)

    @pytest.mark.parametrize("device", ["cpu", "mps"])
    def test_both_figures(self, device: str) -> None:
        self.there(host=12_000_000_000)
        assert self.refusal(device, True) == (
            "acestep-v15-base needs 12.7 GB of memory for its weights alone, 12.0 GB are available; "
            "close other programs or use a machine with more"
        )

    @pytest.mark.parametrize("size", [12_700_000_000, None], ids=["just_enough", "not_known"])
    def test_enough_or_unknown_goes_on(self, size: int | None) -> None:
        self.there(host=size)
        check_memory(Path("x"), PARTS, "mps", True)

    def test_on_cuda_the_largest_part_passes_through_the_machines_memory(self) -> None:
        self.there(host=9_600_000_000)
        check_memory(Path("x"), PARTS, "cuda", False)
        self.there(host=9_500_000_000)
        assert "needs 9.6 GB of memory for its weights alone, 9.5 GB are" in self.refusal("cuda", False)

    def test_on_cuda_all_that_is_pytorchs_has_to_fit_the_gpu(self) -> None:
        self.there(gpu=12_600_000_000)
        assert "needs 12.7 GB of GPU memory for its weights alone, 12.6 GB are" in self.refusal("cuda", False)
        self.there(gpu=3_100_000_000)
        check_memory(Path("x"), PARTS, "cuda", True)


@pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
def test_loading_is_refused_before_anything_is_loaded(
    tiny_root: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, use_mlx_dit: bool
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    loaded: list[str] = []
    for module in (mlx_parts, torch_parts):
        monkeypatch.setattr(module, "load_parts", lambda *_, module=module: loaded.append(module))
    handler = AceStepHandler()
    message, ok = handler.initialize_service(tiny_root(), device="cpu", use_mlx_dit=use_mlx_dit)
    assert not ok
    assert loaded == []
    folder = tiny_root() / "checkpoints" / DIT
    needed = "the weights of its decoder" if use_mlx_dit else "its weights"
    assert message.startswith(
        f"{folder} needs 0.0 GB of memory for {needed} alone, 0.0 GB are available; close "
    )
