"""Edits that change, or seem to change, how many steps a checkout runs, and harmless ones beside them.

They are in shapes/*.txt, one edit after the other, as people make them by hand:

    ## NAME
    cuts                    what the independent count says after `apply`: "cuts", or "keeps the steps"
    @ diffusion             a place in a file, as in a diff: context, "-" lines and "+" lines
    @ generate, end         "+" lines at the end (or the start) of a file
    @ new PATH              a new file

The second line may add the eras of upstream that an edit fits ("only 8567e33"), and that `apply` refuses it
("refused", or "refused 88c9f20" in one era alone).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILES = {
    "execute": "acestep/core/generation/handler/service_generate_execute.py",
    "diffusion": "acestep/core/generation/handler/diffusion.py",
    "generate": "acestep/models/mlx/dit_generate.py",
    "decoder": "acestep/models/mlx/dit_model.py",
}
ALL_ERAS = ("88c9f20", "82a5d84", "8567e33")


@dataclass(frozen=True)
class Change:
    """One part of an edit. where: "", "start", "end" or "new". old: lines that have to be there exactly once."""

    path: str
    where: str
    old: str
    new: str

    def edited(self, text: str) -> str:
        if self.where == "start":
            return self.new + text
        if self.where == "end":
            return f"{text}\n\n{self.new}"
        if self.where == "new":
            return self.new
        found = len(re.findall(rf"(?m)^{re.escape(self.old)}", text))
        assert found == 1, f"{found} times in {self.path}: {self.old}"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Shape:
    """One edit. keeps: base models still run as requested after `apply`, and all others as before. eras: those that
    it fits. refused: those where `apply` refuses it."""

    name: str
    keeps: bool
    eras: tuple[str, ...]
    refused: tuple[str, ...]
    changes: tuple[Change, ...]
    crlf: bool = False

    def edit(self, root: Path) -> None:
        """Carry the edit out on the checkout below `root`."""
        for change in self.changes:
            path = root / change.path
            before = path.read_bytes().decode() if path.exists() else ""
            path.write_bytes(change.edited(before).encode())
        for path in root.rglob("*.py") if self.crlf else ():
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _read(path: Path) -> list[Shape]:
    return [_shape(text) for text in re.split(r"(?m)^## ", path.read_text(encoding="utf-8"))[1:]]


def _shape(text: str) -> Shape:
    head, *parts = re.split(r"(?m)^@ ", text.rstrip("\n") + "\n")
    name, line = head.rstrip("\n").split("\n")
    first, *further = line.split(", ")
    assert first in ("cuts", "keeps the steps"), line
    words = {words[0]: tuple(words[1:]) for words in (part.split() for part in further)}
    eras = words.pop("only", ALL_ERAS)
    refused = words.pop("refused", None)
    assert not words, line
    return Shape(
        name,
        first != "cuts",
        eras,
        () if refused is None else refused or eras,
        tuple(map(_change, parts)),
    )


def _change(text: str) -> Change:
    head, *lines = text.splitlines()
    place, _, where = head.partition(", ")
    if place.startswith("new "):
        place, where = place.removeprefix("new "), "new"
    kept = [line for line in lines if line]  # a blank line only ends an edit
    old = "".join(f"{line[1:]}\n" for line in kept if line[0] in " -")
    new = "".join(f"{line[1:]}\n" for line in kept if line[0] in " +")
    return Change(FILES.get(place, place), where, old, new)


CRLF = Shape("harmless: CRLF", True, ALL_ERAS, (), (), crlf=True)
SHAPES = (
    *(shape for path in sorted(Path(__file__).with_name("shapes").glob("*.txt")) for shape in _read(path)),
    CRLF,
)
