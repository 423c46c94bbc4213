"""Entry of the command `acestep-lego`: scripts/lego_smoke.py, of the installed copy or of the clone."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run() -> None:
    """Runs the script as if it were called by its path; it ends the process with its exit status."""
    root = HERE if (HERE / "scripts").is_dir() else HERE.parent.parent
    script = root / "scripts" / "lego_smoke.py"
    # As with `python scripts/lego_smoke.py`: its folder is the first entry of the import path.
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    run()
