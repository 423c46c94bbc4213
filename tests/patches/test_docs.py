"""The tables of the pages on the patch kit name what the kit has, in its order."""

from __future__ import annotations

import re
from pathlib import Path

from patches.doctor.registry import CHECKS
from patches.lego import LEGO
from patches.steps import STEPS

DOCS = Path(__file__).parents[2] / "docs"


def first_column(page: str, head: str) -> list[str]:
    """The names in the first column of the table whose first line begins with `head`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    tables = [table for table in re.findall(r"(?m)(?:^\|.*\n)+", text) if table.startswith(f"| {head} |")]
    return [name for table in tables for name in re.findall(r"(?m)^\| `([^`]+)` \|", table)]


def test_table_of_the_doctor_holds_every_check() -> None:
    assert first_column("doctor.md", "check") == [check.name for check in CHECKS]


def test_tables_of_the_patches_hold_both_series() -> None:
    assert first_column("patches.md", "patch") == [patch.name for patch in (*STEPS.patches, *LEGO.patches)]
