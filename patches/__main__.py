"""`python -m patches`."""

import gc
import os
import sys

from patches.cli import main


def run() -> int:
    """The command line, for a terminal: no traceback for a closed pipe, for Ctrl-C, or for a name beyond UTF-8."""
    gc.disable()  # a run of half a second makes a million small objects and drops them all at its end
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("Interrupted; all files are as they were.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
