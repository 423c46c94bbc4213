"""The outcome of one check on one checkout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FINE, DEFECT, SKIPPED = "fine", "DEFECT", "skipped"


@dataclass(frozen=True)
class Finding:
    """`verdict` is FINE, DEFECT or SKIPPED. requested: what was asked of the checkout. observed: what it did, or for a
    skipped check the reason. where: the file to look at, with the function where it is known."""

    verdict: str
    requested: str
    observed: str
    where: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> Finding | None:
        """None for anything that `to_json` does not write: code of a checkout runs where it is written."""
        if not isinstance(data, dict) or data.keys() != cls.__dataclass_fields__.keys():
            return None
        if not all(isinstance(value, str) for value in data.values()):
            return None
        return cls(**data) if data["verdict"] in (FINE, DEFECT, SKIPPED) else None


def judged(is_defect: bool, requested: str, observed: str, where: str) -> Finding:
    return Finding(DEFECT if is_defect else FINE, requested, observed, where)


def skipped(reason: str) -> Finding:
    return Finding(SKIPPED, "", reason, "")
