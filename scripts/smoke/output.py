"""The folder of results: made at the end, whole, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from acestep.errors import RequestError
from smoke import stop


@contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out`; gone afterwards, and with it whatever was half-written."""
    made = [folder for folder in out.parents if not folder.exists()]
    created: list[Path] = []

    def clean() -> None:
        for path in created:
            shutil.rmtree(path, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # not empty: the run was good and `out` is in it
                parent.rmdir()

    with stop.session.undoing(clean):
        try:
            with stop.session.held():
                out.parent.mkdir(parents=True, exist_ok=True)
                if out.exists() and not out.is_dir():
                    raise NotADirectoryError(f"{out} is a file")
                beside = out if out.is_dir() else out.parent
                created.append(Path(tempfile.mkdtemp(prefix=".lego_smoke-", dir=beside)))
        except OSError as error:
            raise RequestError(
                f"--out {out} cannot be written ({error.strerror or error}); give a folder that can"
            ) from None
        yield created[0]


def publish(results: Path, out: Path) -> None:
    """Moves every file of a finished session into `out`; a signal finds none of them there, or all."""
    with stop.session.held():
        out.mkdir(exist_ok=True)
        for path in results.iterdir():
            path.replace(out / path.name)
        stop.session.kept = f"all is written, in {out}"
