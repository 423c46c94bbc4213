"""Entry of `python -m patches`, of `python PATH/TO/patches` and of the console command.

Started by its path, this folder is loaded as a package under the name that it has when installed. Nothing of the
current directory can be imported from here on.
"""

import os
import sys

PACKAGE = "acestep_lego_patches"


def run() -> int:
    """Runs the command line. Returns the exit status."""
    if sys.version_info < (3, 11):
        print(
            f"Expected Python 3.11 or newer, found {sys.version.split()[0]} ({sys.executable}); "
            "run this with another interpreter.",
            file=sys.stderr,
        )
        return 2
    folder = os.path.dirname(os.path.realpath(__file__))
    _leave_out(folder)
    import importlib

    try:
        package = __package__ or _load_by_path(folder)
        if sys.argv[1:2] == ["_child"]:
            importlib.import_module(f"{package}.{sys.argv[2]}").main()
            return 0
        cli = importlib.import_module(f"{package}.cli")
    except KeyboardInterrupt:
        print("Interrupted. All files are as they were.", file=sys.stderr)
        return 130
    status: int = cli.run()
    return status


def _leave_out(folder: str) -> None:
    """Takes `folder` and the current directory from the import path; this has to come before any further import."""
    not_wanted = {folder}
    try:  # contextlib would be imported before the path is clean
        not_wanted.add(os.path.realpath(os.getcwd()))
    except OSError:  # it was deleted
        pass
    sys.path[:] = [
        entry for entry in sys.path if os.path.isabs(entry) and os.path.realpath(entry) not in not_wanted
    ]


def _load_by_path(folder: str) -> str:
    """Loads this folder as a package without putting any folder on the import path. Returns its name."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(
        PACKAGE, os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return PACKAGE


if __name__ == "__main__":
    sys.exit(run())
