"""A .pt file read and written without PyTorch: the same numbers, and nothing run that the file asks for."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acestep.errors import CheckpointError
from acestep.models.checkpoint.torch_file import read_torch_tensor, write_torch_tensor
from tests.parity_helper import assert_equal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_numbers_are_pytorchs(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save(tensor, tmp_path / "t.pt")
    got = read_torch_tensor(tmp_path / "t.pt", 100)
    assert got.dtype == "float32"
    assert_equal(got, tensor.float())


def test_a_view_is_read_as_it_is_seen(tmp_path: Path) -> None:
    view = torch.arange(24.0).reshape(4, 6)[1:, ::2].T
    torch.save(view, tmp_path / "t.pt")
    assert_equal(read_torch_tensor(tmp_path / "t.pt", 100), view)


@pytest.mark.parametrize("shape", [(1, 8, 750), (3,), ()], ids=str)
def test_a_written_tensor_is_read_by_pytorch_and_here(tmp_path: Path, shape: tuple[int, ...]) -> None:
    tensor = np.random.default_rng(0).standard_normal(shape, np.float32)
    first, second = tmp_path / "t.pt", tmp_path / "second" / "t.pt"
    second.parent.mkdir()
    write_torch_tensor(first, np.asarray(tensor))
    write_torch_tensor(second, np.asarray(tensor))
    loaded = torch.load(first, weights_only=True)
    assert loaded.dtype == torch.float32
    assert loaded.is_contiguous()
    assert_equal(loaded, tensor)
    assert_equal(read_torch_tensor(first, 1000), tensor)
    assert first.read_bytes() == second.read_bytes()


class _Command:
    def __reduce__(self) -> Any:
        return os.mkdir, ("made-by-the-pickle",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param({"a": torch.zeros(2)}, "it holds dict", id="dict"),
        pytest.param(torch.zeros(2, dtype=torch.int64), "it asks for torch.LongStorage", id="integers"),
        pytest.param(_Command(), "it asks for posix.mkdir", id="command"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, monkeypatch: Any, content: Any, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "t.pt")
    with pytest.raises(CheckpointError) as refused:
        read_torch_tensor(tmp_path / "t.pt", 100)
    assert str(refused.value) == (
        f"{tmp_path / 't.pt'} holds something else than a tensor of floating-point numbers ({reason}); "
        "copy the checkpoint again"
    )
    assert not Path("made-by-the-pickle").exists()


def test_shape_beyond_the_numbers_is_refused(tmp_path: Path) -> None:
    torch.save(torch.zeros(4), tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "t.pt", "w") as short,
    ):
        for name in whole.namelist():
            short.writestr(name, b"\0" * 8 if name.endswith("data/0") else whole.read(name))
    with pytest.raises(CheckpointError, match="its shape is larger than its data"):
        read_torch_tensor(tmp_path / "t.pt", 100)


@pytest.mark.parametrize("content", [b"", b"not a zip archive", pickle.dumps([1.0])])
def test_other_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"t\.pt cannot be read .*copy the checkpoint again"):
        read_torch_tensor(tmp_path / "t.pt", 100)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"t\.pt is missing; is the checkpoint copied whole\?"):
        read_torch_tensor(tmp_path / "t.pt", 100)
