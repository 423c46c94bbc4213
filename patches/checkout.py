"""Where a checkout keeps the three files, and which folder was meant if it is not the one given.

Nothing here reads more of a file than is needed to choose between the two homes that
`mlx_generate_diffusion` has had, and no link is followed out of the given root.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import FilesMissing, LeavesRoot, WrongFolder

EXECUTE = Path("acestep/core/generation/handler/service_generate_execute.py")
DIFFUSION = Path("acestep/core/generation/handler/diffusion.py")
GENERATE = Path("acestep/models/mlx/dit_generate.py")
GENERATE_EARLY = Path("acestep/mlx_dit/generate.py")  # until 88c9f20 (2026-02-16)

_DEPTH_BELOW = 3
_FOLDERS_LOOKED_AT = 2_000
_NOT_SEARCHED = {"node_modules", "site-packages", "__pycache__", "checkpoints", "venv"}


@dataclass(frozen=True)
class Checkout:
    """The three files of one checkout; paths begin with `root` and may contain links that stay inside it."""

    root: Path
    execute: Path
    diffusion: Path
    generate: Path

    def path(self, target: str) -> Path:
        """The file that a patch is for: "execute", "diffusion", "generate", "decoder", or a path below the root."""
        if target == "decoder":  # dit_model.py, model.py in the early home
            return self.generate.with_name(self.generate.name.replace("generate", "model"))
        path: Path = getattr(self, target, self.root / target)
        return path

    def name(self, path: Path) -> str:
        """`path` as it is shown to people and written into diffs: relative to the root, with slashes."""
        return path.relative_to(self.root).as_posix()


def locate(root: Path) -> Checkout:
    """Finds the three files under `root`.

    Raises:
        WrongFolder: `root` does not exist or does not hold acestep/; names the folder that was meant if one
            above or below can be seen.
        FilesMissing: acestep/ is there, one of the three files is not.
        LeavesRoot: one of the three is a link that leads out of `root`.
    """
    try:
        return _locate(root)
    except OSError as error:
        raise WrongFolder(
            f"{root}: expected the folder that holds acestep/, found one that cannot be read: {error.strerror}."
        ) from error


def _locate(root: Path) -> Checkout:
    if not root.is_dir():
        raise WrongFolder(f"{root}: expected the folder that holds acestep/, found {_kind(root)}.")
    if not (root / "acestep").is_dir():
        raise WrongFolder(f"{root}: expected the folder that holds acestep/, found none in it. {_hint(root)}")
    generate = _home_of_generate(root)
    missing = [path for path in (EXECUTE, DIFFUSION, generate) if not (root / path).is_file()]
    if missing:
        raise FilesMissing(_missing_message(root, missing))
    checkout = Checkout(root, root / EXECUTE, root / DIFFUSION, root / generate)
    for path in (checkout.execute, checkout.diffusion, checkout.generate):
        inside(root, path)
    return checkout


def inside(root: Path, path: Path) -> Path:
    """`path`, which is below `root` by its name. Raises LeavesRoot for a link that leads out of it."""
    target = path.resolve()
    if not target.is_relative_to(root.resolve()):
        raise LeavesRoot(
            f"{path.relative_to(root).as_posix()}: expected a file inside {root}, found a link that leads to "
            f"{target}. Name the checkout that really holds it, or put a copy in the link's place."
        )
    return path


def _kind(path: Path) -> str:
    if path.is_file():
        return "a file"
    return "a link to nothing" if path.is_symlink() else "nothing by that name"


def _home_of_generate(root: Path) -> Path:
    """Today's path, unless only the early one is there or it is the one that D imports."""
    if not (root / GENERATE_EARLY).is_file():
        return GENERATE
    if not (root / GENERATE).is_file():
        return GENERATE_EARLY
    diffusion = root / DIFFUSION
    text = diffusion.read_bytes() if diffusion.is_file() else b""
    return GENERATE_EARLY if b"mlx_dit.generate" in text and b"mlx.dit_generate" not in text else GENERATE


def _missing_message(root: Path, missing: list[Path]) -> str:
    names = ", ".join(path.as_posix() for path in missing)
    if GENERATE in missing:
        names = names.replace(GENERATE.as_posix(), f"{GENERATE} (early home: {GENERATE_EARLY})")
    return (
        f"{root}: expected the three files that the patches are for, found no {names}. "
        "They stand so since upstream's be99eb9 (2026-02-15): update the checkout, or let its installer "
        "finish if it fetches files later; a tree that merges its handlers into one file cannot be patched."
    )


def _hint(root: Path) -> str:
    above = [folder for folder in root.resolve().parents if _is_root(folder)]
    if above:
        return f"Did you mean {above[0]}?"
    below = sorted(_roots_below(root), key=lambda path: (len(path.parts), path))
    if len(below) == 1:
        return f"Did you mean {below[0]}?"
    if below:
        return "Did you mean one of " + ", ".join(str(path) for path in below) + "?"
    return "Give the root of an ACE-Step 1.5 checkout."


def _is_root(folder: Path) -> bool:
    return (folder / "acestep" / "core").is_dir() or (folder / "acestep" / "handler.py").is_file()


def _roots_below(root: Path) -> Iterator[Path]:
    """Checkouts at most three folders down (ACE-Step-1.5/, services/x/); links are not entered."""
    looked_at = 0
    for here, folders, _ in os.walk(root, followlinks=False):
        looked_at += 1
        path = Path(here)
        if path != root and _is_root(path):
            folders.clear()
            yield path
            continue
        deep = len(path.relative_to(root).parts) >= _DEPTH_BELOW or looked_at > _FOLDERS_LOOKED_AT
        folders[:] = [] if deep else [f for f in folders if not f.startswith(".") and f not in _NOT_SEARCHED]
