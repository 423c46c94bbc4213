"""The installed patch kit under the name that the scripts know; the kit itself is `acestep_lego_patches`."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "acestep_lego_patches")]
