"""Entry of `python -m patches`, of `python PATH/TO/patches` and of the console command.

Started by its path, this folder is loaded as a package under the name that it has when installed, and nothing of the
current directory can be imported.
"""

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
    import importlib

    package = __package__ or _load_by_path()
    if sys.argv[1:2] == ["_child"]:
        importlib.import_module(f"{package}.{sys.argv[2]}").main()
        return 0
    status: int = importlib.import_module(f"{package}.cli").run()
    return status


def _load_by_path() -> str:
    """Loads this folder as a package without putting any folder on the import path. Returns its name."""
    import importlib.util
    from pathlib import Path

    folder = Path(__file__).resolve().parent
    sys.path[:] = [
        entry for entry in sys.path if entry and Path(entry).resolve() not in (folder, Path.cwd().resolve())
    ]
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return PACKAGE


if __name__ == "__main__":
    sys.exit(run())
