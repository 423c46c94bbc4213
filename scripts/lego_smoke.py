"""The smoke run: a context audio in, a LEGO stem out, its decoder evaluations counted and compared with PyTorch.

Exit status: 0 PASS; 1 FAIL, each failed check is named; 2 wrong usage, nothing was run; 3 the run or the comparison
could not be done; 128 and more: stopped by a signal. Stems that were finished are kept in any case.
"""

import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parent.parent
FORK = ROOT / "ACE-Step-1.5"
sys.path[:0] = [str(FORK), str(ROOT / "scripts"), str(ROOT)]
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)  # torch on weight_norm, at every load of a VAE

from smoke import stop  # noqa: E402
from smoke.terminal import prepare_streams  # noqa: E402

if __name__ == "__main__":
    prepare_streams()
    stop.session.listen()  # before the imports that take a second

import typer  # noqa: E402
from rich.console import Console  # noqa: E402

import patches  # noqa: E402
from acestep.core.generation.handler.request_values import show  # noqa: E402
from acestep.models.checkpoint.precision import AUTO  # noqa: E402
from command_line import DTYPE_HELP, BackendOption, CheckpointOption, DeviceOption, run_command  # noqa: E402
from smoke.again import read_earlier  # noqa: E402
from smoke.compare import DEVICES, MODES  # noqa: E402
from smoke.options import Options  # noqa: E402
from smoke.request import (  # noqa: E402
    ALL_TRACKS,
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_SEED,
    DEFAULT_SHIFT,
    DEFAULT_STEPS,
    DEFAULT_TRACK,
)
from smoke.session import run_smoke  # noqa: E402
from smoke.session_file import read_tables  # noqa: E402
from smoke.tree import SWITCHES  # noqa: E402


def whole(text: str) -> int:
    """An option that counts."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{show(text)} is not a whole number") from None


def number(text: str) -> float:
    """An option that measures."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{show(text)} is not a number") from None


def print_version(wanted: bool) -> None:
    """Prints the version, which is the patch kit's too, and ends the command."""
    if wanted:
        print(f"acestep-lego {patches.__version__}")
        raise typer.Exit


def smoke(
    ctx: typer.Context,
    again: Annotated[
        str | None,
        typer.Option(
            help="An earlier run to repeat, with the options that are given besides: its folder, its report.json, or "
            "'latest'. One that was stopped goes on where it was.",
            show_default="none",
        ),
    ] = None,
    context: Annotated[
        Path, typer.Option(help="The audio that the stem is to fit.", show_default="scripts/smoke.wav")
    ] = ROOT / "scripts/smoke.wav",
    track: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of the 12 LEGO tracks, several if given again, or {ALL_TRACKS}.",
            show_default=DEFAULT_TRACK,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="A track, several if given again: each is generated on the context and the layers before it.",
            show_default="none",
        ),
    ] = None,
    session: Annotated[
        Path | None,
        typer.Option(
            help="Layers from a TOML file, each with its own caption, seed, range and so on; see docs/stems.md."
        ),
    ] = None,
    gain_db: Annotated[
        float,
        typer.Option(parser=number, help="Of each layer in the mix that the next ones are generated on."),
    ] = 0.0,
    steps: Annotated[
        list[int] | None,
        typer.Option(
            parser=whole,
            help="Decoder evaluations to run, 1 to 1000. Given again, each track once for each.",
            show_default=str(DEFAULT_STEPS),
        ),
    ] = None,
    guidance_scale: Annotated[
        list[float] | None,
        typer.Option(
            parser=number,
            help="Above 1 runs APG, 1 is off. Given again, each track once for each.",
            show_default=f"{DEFAULT_GUIDANCE_SCALE:g}",
        ),
    ] = None,
    shift: Annotated[
        list[float] | None,
        typer.Option(
            parser=number,
            help="Of the timestep schedule, 1 is none. Given again, each track once for each.",
            show_default=f"{DEFAULT_SHIFT:g}",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            parser=whole,
            help="The noise; the same seed, the same stem. Given again, each track once for each.",
            show_default=str(DEFAULT_SEED),
        ),
    ] = None,
    caption: Annotated[str, typer.Option(help="What the stem is to sound like.")] = "",
    lyrics: Annotated[str, typer.Option(help="Words for a vocal stem.")] = "",
    bpm: Annotated[int | None, typer.Option(parser=whole, help="Beats a minute, 30 to 300.")] = None,
    key: Annotated[str, typer.Option(help="Such as 'C major'.")] = "",
    start: Annotated[
        float, typer.Option(parser=number, help="Second from which the stem is generated.")
    ] = 0.0,
    end: Annotated[float, typer.Option(parser=number, help="Second up to which, -1 is the end.")] = -1.0,
    checkpoint: CheckpointOption = None,
    backend: BackendOption = "mlx",
    device: DeviceOption = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help=DTYPE_HELP,
            show_default="float32; torch on cuda: bfloat16, float16 where its hardware lacks that",
        ),
    ] = AUTO,
    low_memory: Annotated[
        bool | None,
        typer.Option(
            help="On mlx: hold no more weights at once than the largest part has.", show_default="if needed"
        ),
    ] = None,
    before: Annotated[
        bool | None,
        typer.Option(
            help="Also run the fork without the patches.", show_default="on the tiny checkpoint, on mlx"
        ),
    ] = None,
    acestep_root: Annotated[
        Path | None,
        typer.Option(help="An ACE-Step checkout to run in place of this fork; it is not written to."),
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="The checkout's interpreter.", show_default="its .venv, else this one")
    ] = None,
    worker_thread: Annotated[
        bool,
        typer.Option(
            "--worker-thread", help="Call the checkout as its UI and API do, not from the main thread."
        ),
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Switch a default of the checkout off, several if given again: {', '.join(SWITCHES)}.",
            show_default="none",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help=f"With PyTorch: {', '.join(MODES)}. full runs all steps in PyTorch, sampled evaluates it at a few.",
            show_default="full on the tiny checkpoint, else sampled",
        ),
    ] = None,
    compare_steps: Annotated[
        int, typer.Option(parser=whole, help="How many steps are sampled, from the first to the last.")
    ] = 3,
    compare_device: Annotated[
        str, typer.Option(help=f"Where PyTorch runs for it: {', '.join(DEVICES)}.")
    ] = "cpu",
    out: Annotated[
        Path,
        typer.Option(help="The folder in which each run makes one of its own; 'latest' leads to the last."),
    ] = Path("out/lego"),
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> int:
    """Generates LEGO stems and shows that the requested number of steps was run, as PyTorch runs it."""
    options = Options(
        context=context.expanduser(),
        track=track or [],
        layer=layer or [],
        session=read_tables(session) if session else [],
        session_source=f"--session {session}",
        gain_db=gain_db,
        steps=steps or [],
        guidance_scale=guidance_scale or [],
        shift=shift or [],
        seed=seed or [],
        caption=caption,
        lyrics=lyrics,
        bpm=bpm,
        key=key,
        start=start,
        end=end,
        checkpoint=checkpoint,
        backend=backend,
        device=device,
        dtype=dtype,
        low_memory=low_memory,
        before=before,
        acestep_root=acestep_root,
        python=python,
        worker_thread=worker_thread,
        without=without or [],
        compare=compare,
        compare_steps=compare_steps,
        compare_device=compare_device,
    )
    earlier = None
    if again is not None:
        given = [name for name in vars(options) if is_given(ctx, name)]
        earlier = read_earlier(again, out, options, given)
    return run_smoke(FORK, earlier.options if earlier else options, out, Console(), earlier)


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a parameter is from the command line, not a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def unexpected(error: Exception) -> str:
    """A sentence for a bug; its traceback goes to a file."""
    with tempfile.NamedTemporaryFile("w", prefix="lego_smoke-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return f"this is a bug ({type(error).__name__}: {error}), its traceback is in {file.name}; {stop.session.kept()}"


def main() -> int:
    """Every refusal is one sentence and an exit status, a bug too."""
    return run_command("lego_smoke", smoke, bug=unexpected)


if __name__ == "__main__":
    sys.exit(main())
