"""Writes a copy of a checkpoint whose decoder is quantised to 8 or 4 bits, and says how far it is from float32.

Exit status: 0 written; 1 written, but farther from float32 than the bound of its bits; 2 wrong usage; 3 it could not
be written, and nothing was.
"""

import sys
from pathlib import Path
from typing import Annotated

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ACE-Step-1.5"), str(ROOT / "scripts")]

import typer  # noqa: E402

from acestep.errors import AceStepError  # noqa: E402
from acestep.models.checkpoint.precision import QUANTISED  # noqa: E402
from smoke.judge import PRECISION_BOUNDS  # noqa: E402

BEYOND, USAGE, CANNOT = 1, 2, 3


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="A DiT folder such as checkpoints/acestep-v15-base, or diffusers' layout.")
    ],
    bits: Annotated[int, typer.Option(help="Of the decoder's matrices: 8 or 4.")] = 8,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write.", show_default="CHECKPOINT-8bit, CHECKPOINT-4bit"),
    ] = None,
) -> int:
    """Quantises the decoder of a checkpoint in groups of 64; everything else is copied as it is."""
    if bits not in QUANTISED.values():
        raise typer.BadParameter(f"--bits is {bits}, expected 8 or 4")
    import numpy as np

    from acestep.models.mlx.quantized_checkpoint import (
        check_target,
        decoder_bytes,
        final_latents,
        write_quantized,
    )

    folder = checkpoint.absolute()
    target = (out or folder.with_name(f"{folder.name}-{bits}bit")).absolute()
    check_target(folder, target)
    whole = final_latents(folder)
    write_quantized(folder, target, bits)
    distance = float(np.linalg.norm(final_latents(target, f"{bits}bit") - whole) / np.linalg.norm(whole))
    sizes = [decoder_bytes(path) for path in (folder, target)]
    bound = PRECISION_BOUNDS[f"{bits}bit"]
    print(
        f"{target}: the decoder is {sizes[1] / 1e9:.2f} GB, {sizes[1] / sizes[0]:.3f} of float32's; "
        f"quantised, {bits} bits: relative L2 {distance:.1e} (bound {bound:.0e}) of the final latents to float32's, "
        f"8 steps on random inputs"
    )
    return 0 if distance <= bound else BEYOND


def main() -> int:
    """Every refusal is one sentence and an exit status."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(convert)
    try:
        return typer.main.get_command(app).main(prog_name="convert_checkpoint", standalone_mode=False) or 0
    except typer.Exit as asked:
        return asked.exit_code
    except (AceStepError, OSError) as error:
        problem, status = str(error), CANNOT
    except Exception as error:
        if not hasattr(error, "format_message"):  # click's own errors have it; anything else is a bug
            raise
        problem, status = f"{error.format_message().rstrip('.')}; see --help", USAGE
    print(f"convert_checkpoint: {problem}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
