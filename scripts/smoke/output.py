"""The folder of results: made at the end, whole, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from acestep.errors import RequestError


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out`; gone afterwards, and with it whatever was half-written."""
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and not out.is_dir():
            raise NotADirectoryError(f"{out} is a file")
        folder = Path(tempfile.mkdtemp(prefix=".lego_smoke-", dir=out if out.is_dir() else out.parent))
    except OSError as error:
        raise RequestError(
            f"--out {out} cannot be written ({error.strerror or error}); give a folder that can"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: the run was good and `out` is in it
                parent.rmdir()


def publish(results: Path, out: Path) -> None:
    """Moves every file of a finished session into `out`."""
    out.mkdir(exist_ok=True)
    for path in results.iterdir():
        path.replace(out / path.name)
