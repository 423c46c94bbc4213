"""The benchmark: `stem` measures whole stems by part, `decoder` one guided decoder evaluation; sides take turns.

Exit status: 0 measured; 1 the sides do not agree; 2 wrong usage; 3 it cannot be done.
"""

import math
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ACE-Step-1.5"), str(ROOT / "scripts"), str(ROOT)]
os.environ["MLX_ENABLE_TF32"] = "0"  # before mlx is imported: the sides are to compute the same
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore", category=FutureWarning)

from blas import use_openblas  # noqa: E402

if __name__ == "__main__":
    BLAS_NOTE = use_openblas()  # before anything imports mlx

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

from acestep.errors import RequestError  # noqa: E402
from command_line import CheckpointOption, run_command  # noqa: E402
from smoke.folder import scratch_folder  # noqa: E402


def seconds_list(text: str) -> list[float]:
    """An option such as 5,30,120."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of seconds such as 5,30,120") from None
    if not all(0.04 <= value <= 600 for value in values):
        raise typer.BadParameter(f"{text!r}: each length is to be 0.04 to 600 seconds")
    return sorted(set(values))


def check_limit(limit: float | None) -> None:
    """RequestError for one that is infinite or no number."""
    if limit is not None and not math.isfinite(limit):
        raise RequestError(f"--limit is {limit}, expected a finite number of seconds")


def stem(
    checkpoint: CheckpointOption = None,
    checkout: Annotated[
        list[Path] | None,
        typer.Option(
            help="The root of an ACE-Step checkout whose MLX path is measured too; may be repeated."
        ),
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="The checkouts' interpreter.", show_default="its .venv, else this one")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="The length of the context.")] = 10.0,
    steps: Annotated[int, typer.Option(min=1, max=1000, help="Decoder evaluations.")] = 8,
    guidance_scale: Annotated[float, typer.Option(min=0, help="Above 1 runs APG.")] = 7.0,
    rounds: Annotated[int, typer.Option(min=1, help="Stems of each side, each in a new process.")] = 3,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Seconds after which a checkout's stem is stopped, loading aside.",
            show_default="none",
        ),
    ] = None,
    torch: Annotated[bool, typer.Option(help="Also diffusers' AceStepPipeline.")] = True,
    low_memory: Annotated[
        bool | None,
        typer.Option(
            help="Hold no more weights at once than the largest part has.", show_default="if needed"
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of this fork's matrices.")] = "float32",
    context: Annotated[
        Path, typer.Option(help="Audio, repeated or cut to the length.", show_default="scripts/smoke.wav")
    ] = ROOT / "scripts/smoke.wav",
    out: Annotated[Path, typer.Option(help="The folder for stems.json.")] = Path("out/bench"),
) -> int:
    """Times whole stems by part, with the peak memory of each: this fork, diffusers, checkouts."""
    from bench.stems import StemOrder, run_stems
    from smoke.checkout import Checkout, located
    from smoke.session import write_tiny

    check_limit(limit)
    checkouts = [Checkout(root, python) for root in checkout or []]
    order = StemOrder(
        checkpoint=located(checkpoint),
        context=context,
        seconds=seconds,
        steps=steps,
        guidance_scale=guidance_scale,
        rounds=rounds,
        checkouts=checkouts,
        limit=limit,
        torch=torch,
        low_memory=low_memory,
        dtype=dtype,
    )
    return run_stems(order, out, Console(), write_tiny)


def decoder(
    seconds: Annotated[
        str, typer.Option(help="Lengths of the context, with commas, 0.04 to 600 each.")
    ] = "5,30,120,240,600",
    trials: Annotated[int, typer.Option(min=1, help="Of each side at each length.")] = 7,
    limit: Annotated[float, typer.Option(help="Seconds at a length after which no round is begun.")] = 120.0,
    width: Annotated[int, typer.Option(min=128, help="The decoder's; the base model has 2048.")] = 2048,
    layers: Annotated[int, typer.Option(min=1, help="The base model has 24.")] = 2,
    encoder_length: Annotated[int, typer.Option(min=1, help="Of the conditions.")] = 500,
    sides: Annotated[str, typer.Option(help="Which of reference, fast, torch.")] = "reference,fast,torch",
    half: Annotated[bool, typer.Option(help="Also float16, at 30 s; slow on a CPU.")] = False,
    out: Annotated[Path, typer.Option(help="The folder for bench.json and bench.svg.")] = Path("out/bench"),
) -> int:
    """Times one guided evaluation of the decoder at several lengths, and what a run costs around it."""
    from bench.session import Order, run_bench

    check_limit(limit)
    if width % 128:
        raise RequestError(f"the width is {width}; give a multiple of 128")
    named = tuple(side.strip() for side in sides.split(","))
    order = Order(seconds_list(seconds), trials, limit, width, layers, encoder_length, named, half)
    # A folder that cannot be written is refused before anything is measured.
    with scratch_folder(out):
        return run_bench(order, out, Console(), BLAS_NOTE)


def main() -> int:
    """Every refusal is one sentence and an exit status; a bug keeps its traceback."""
    try:
        return run_command("bench_lego", stem, decoder)
    except KeyboardInterrupt:
        print("bench_lego: stopped; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
