"""What the commands of this folder share: options, and that a refusal is one sentence and an exit status."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from acestep.errors import AceStepError, RequestError
from smoke.request import BACKENDS, PRECISIONS

USAGE, CANNOT = 2, 3

# The types of options that several commands have; each gives its own default.
CheckpointOption = Annotated[
    Path | None,
    typer.Option(help="A DiT folder such as checkpoints/acestep-v15-base; else a tiny random one."),
]
BackendOption = Annotated[str, typer.Option(help=f"Where the decoder runs: {' or '.join(BACKENDS)}.")]
DeviceOption = Annotated[str, typer.Option(help="For PyTorch's parts: auto, cpu, mps or cuda.")]
DTYPE_HELP = (
    f"Of the matmuls of decoder and encoders: {', '.join(PRECISIONS)} (bits: on mlx, of the decoder)."
)


def run_command(
    name: str, *commands: Callable[..., Any], bug: Callable[[Exception], str] | None = None
) -> int:
    """Runs one command, or one of several by its name; returns the exit status.

    bug: the sentence for an error that is none of the project's or of typer's; None: it keeps its traceback.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    for command in commands:
        app.command()(command)
    try:
        return typer.main.get_command(app).main(prog_name=name, standalone_mode=False) or 0
    except typer.Exit as asked:
        return asked.exit_code
    except RequestError as error:
        problem, status = str(error), USAGE
    except AceStepError as error:
        problem, status = str(error), CANNOT
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own errors have it; their class is click's matter
            problem, status = f"{error.format_message().rstrip('.')}; see --help", USAGE
        elif bug is not None:
            problem, status = bug(error), CANNOT
        else:
            raise
    for sentence in problem.split("\n"):
        print(f"{name}: {sentence}", file=sys.stderr)
    return status
