"""LEGO stems for many songs, on this machine or on a Ray cluster. The same command goes on where it was stopped.

Exit status: 0 every song has its stems and every check holds; 1 some have not, each is named; 2 wrong usage or a wrong
manifest, nothing was run; 3 nothing can be run; 128 and more: stopped by a signal. Results that are there are kept.
"""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parent.parent
FORK = ROOT / "ACE-Step-1.5"
sys.path[:0] = [str(FORK), str(ROOT / "scripts"), str(ROOT)]
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

from smoke import stop  # noqa: E402
from smoke.terminal import prepare_streams  # noqa: E402

if __name__ == "__main__":
    prepare_streams()
    stop.session.name = "lego_batch"
    stop.session.listen()

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from acestep.errors import RequestError  # noqa: E402
from acestep.models.checkpoint.precision import AUTO  # noqa: E402
from batch.manifest import read_manifest  # noqa: E402
from command_line import DTYPE_HELP, BackendOption, CheckpointOption, DeviceOption, run_command  # noqa: E402
from smoke.checkout import located  # noqa: E402
from smoke.request import (  # noqa: E402
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_SEED,
    DEFAULT_SHIFT,
    DEFAULT_STEPS,
    DEFAULT_TRACK,
    Request,
)


def batch(
    manifest: Annotated[
        Path, typer.Argument(help="A song a line, .jsonl or .csv: context, tracks or layers, options.")
    ],
    checkpoint: CheckpointOption = None,
    backend: BackendOption = "mlx",
    device: DeviceOption = AUTO,
    dtype: Annotated[
        str,
        typer.Option(
            help=DTYPE_HELP,
            show_default="float32",
        ),
    ] = AUTO,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, or 'local' to start one here.", show_default="this process alone"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Models that are loaded on the cluster.", show_default="one a GPU or machine"
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the results, one below it for each song.")] = Path(
        "out/batch"
    ),
) -> int:
    """Makes the stems of every song in MANIFEST that has none yet."""
    if workers is not None and ray is None:
        raise RequestError("--workers is of a Ray cluster; give --ray local, or leave it out")
    shared = Request(
        context=Path(),
        checkpoint=located(checkpoint),
        track=DEFAULT_TRACK,
        steps=DEFAULT_STEPS,
        guidance_scale=DEFAULT_GUIDANCE_SCALE,
        shift=DEFAULT_SHIFT,
        seed=DEFAULT_SEED,
        backend=backend,
        device=device,
        dtype=dtype,
    )
    songs = read_manifest(manifest, shared)
    from batch.run import run_batch  # imports for seconds

    return run_batch(FORK, songs, out, Console(), ray, workers)


def main() -> int:
    """Every refusal is one sentence and an exit status; a bug keeps its traceback."""
    return run_command("lego_batch", batch)


if __name__ == "__main__":
    sys.exit(main())
