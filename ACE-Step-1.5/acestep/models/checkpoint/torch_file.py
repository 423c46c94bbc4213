"""A tensor in a .pt file, read and written without PyTorch.

torch.save writes a zip archive: data.pkl, a pickle that describes the tensor, and data/0, its numbers. Of the pickle
nothing is run but what makes a tensor of those; whatever else it asks for is refused.
"""

import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from acestep.errors import CheckpointError

STORAGES = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8", "BFloat16Storage": "<u2"}


class _Refused(Exception):
    """The pickle asks for something else than a tensor."""


def _rebuild_tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """What torch._utils._rebuild_tensor_v2 makes."""
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or min(shape, default=1) < 1 or last >= storage.size:
        raise _Refused("its shape is larger than its data")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [step * storage.itemsize for step in stride], writeable=False
    )


class _TensorUnpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, description: zipfile.Path, folder: PurePosixPath) -> None:
        super().__init__(description.open("rb"))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise _Refused(f"it asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, dtype, key, *_ = pid
        return np.frombuffer(self._archive.read(str(self._folder / "data" / key)), dtype)


def read_torch_tensor(path: Path, limit: int) -> np.ndarray:
    """The one tensor that a .pt file holds, float32; CheckpointError where it cannot be read or holds anything else.

    limit: no axis is read beyond it; an expanded tensor may claim to have any number of entries.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if PurePosixPath(name).name == "data.pkl"]
            if len(names) != 1:
                raise _Refused("it was not written by torch.save")
            description = zipfile.Path(archive, names[0])
            tensor = _TensorUnpickler(archive, description, PurePosixPath(names[0]).parent).load()
            if not isinstance(tensor, np.ndarray):
                raise _Refused(f"it holds {type(tensor).__name__}")
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint copied whole?") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
    except Exception as error:  # whatever the bytes led the unpickler to
        reason = str(error) if isinstance(error, _Refused) else type(error).__name__
        raise CheckpointError(
            f"{path} holds something else than a tensor of floating-point numbers ({reason}); copy the checkpoint again"
        ) from None
    tensor = tensor[tuple(slice(limit) for _ in tensor.shape)]
    if tensor.dtype == np.uint16:  # bfloat16 is the upper half of a float32
        return (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.astype(np.float32)


def write_torch_tensor(path: Path, tensor: np.ndarray) -> None:
    """A float32 tensor as torch.save writes it; the same numbers, the same bytes."""
    records = {
        "data.pkl": _describe_tensor(tensor.shape),
        "byteorder": b"little",
        "data/0": tensor.astype("<f4").tobytes(),
        "version": b"3\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(
                zipfile.ZipInfo(f"{path.stem}/{name}"), content
            )  # dated 1980, whenever it is written


def _describe_tensor(shape: tuple[int, ...]) -> bytes:
    """The pickle of a contiguous float32 tensor, opcode by opcode: pickle.dumps would import PyTorch to name it."""

    def name(module: str, attribute: str) -> bytes:
        return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()

    def text(value: str) -> bytes:
        return pickle.BINUNICODE + len(value).to_bytes(4, "little") + value.encode()

    def number(value: int) -> bytes:
        return pickle.BININT + value.to_bytes(4, "little")

    def row(*items: bytes) -> bytes:
        return pickle.MARK + b"".join(items) + pickle.TUPLE

    strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    storage = row(
        text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(math.prod(shape))
    )
    hooks = name("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = row(
        storage + pickle.BINPERSID,
        number(0),  # where it starts in the storage
        row(*map(number, shape)),
        row(*map(number, strides)),
        pickle.NEWFALSE,  # requires_grad
        hooks,
    )
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return pickle.PROTO + b"\x02" + rebuild + arguments + pickle.REDUCE + pickle.STOP
