"""What decides the result of a run besides its options, by content: the context, the checkpoint and the code."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from smoke.machine import versions
from smoke.request import Request

MIB = 2**20
SAMPLE = 4096  # bytes read of each MiB of a large file
COMPUTED_WITH = ("mlx", "torch", "numpy")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Inputs:
    """Hashes, hexadecimal; code: of the `acestep` package that is run; versions: of what it is computed with; how: a
    checkout is run; threads: what decides how many a matmul is divided among, which changes its last digits."""

    context: str
    checkpoint: str
    code: str
    versions: Mapping[str, str]
    how: Mapping[str, Any] = field(default_factory=dict)
    threads: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, context: Path, checkpoint: Path, root: Path, how: Mapping[str, Any]) -> "Inputs":
        """root: the folder that holds the `acestep` package; how: further options of how it is run."""
        found = versions()
        return cls(
            file_hash(context),
            checkpoint_hash(checkpoint),
            code_hash(root),
            {name: found[name] for name in COMPUTED_WITH if name in found},
            how,
            threads(),
        )

    def of_stem(self, request: Request, heard: Path) -> str:
        """The hash of all that decides one stem; heard: the file that it is generated on."""
        asked = {
            name: value for name, value in request.to_json().items() if name not in ("context", "checkpoint")
        }
        everything = asdict(self) | {"request": asked, "heard": file_hash(heard)}
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def threads() -> dict[str, Any]:
    """The cores that this process may use and the variables that BLAS libraries read."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores} | {name: os.environ.get(name) for name in THREAD_VARIABLES}


def file_hash(path: Path) -> str:
    """SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """SHA-256 of the names and contents of all files of a folder."""
    total = hashlib.sha256()
    add_files(total, folder, folder.rglob("*"))
    return total.hexdigest()


def add_files(total: "hashlib._Hash", root: Path, files: Iterable[Path]) -> None:
    """Names below `root` and whole contents, in the order of the names."""
    for path in sorted(path for path in files if path.is_file()):
        total.update(f"{path.relative_to(root).as_posix()}\0{file_hash(path)}\0".encode())


def code_hash(root: Path) -> str:
    """SHA-256 of the names and contents of the Python files of an `acestep` package."""
    return _hash_of(
        (path.relative_to(root).as_posix(), path) for path in sorted(root.glob("acestep/**/*.py"))
    )


def checkpoint_hash(checkpoint: Path) -> str:
    """SHA-256 of the files of a checkpoint's parts: names, sizes, and of each file the first MiB and 4 KiB of every
    further MiB.

    A renamed, missing or additional file, another size, another header and any change of 1 MiB or more in a row are
    found; a smaller change in a large file is not found where it lies between the samples. The times of files are not
    looked at: a copy has the same hash.
    """
    from acestep.models.checkpoint.layout import find_layout

    parts = {
        folder: part for part, folder in vars(find_layout(checkpoint)).items()
    }  # several may share a folder
    return _hash_of(
        (f"{part}/{path.name}", path)
        for folder, part in parts.items()
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_file() and not path.name.startswith(".")
    )


def _hash_of(files: Iterable[tuple[str, Path]]) -> str:
    total = hashlib.sha256()
    for name, path in files:
        size = path.stat().st_size
        total.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        with path.open("rb", buffering=0) as file:
            total.update(file.read(MIB))
            for start in range(MIB, size, MIB):
                file.seek(start)
                total.update(file.read(SAMPLE))
    return total.hexdigest()
