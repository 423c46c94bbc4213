"""What has to be arranged inside the process that runs a tree: its modules, MLX off macOS, no network.

Runs under the tree's own interpreter, with nothing but the standard library.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import platform
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from patches.harness.imports import StubModule

MLX_MODULES = ("acestep.models.mlx", "acestep.mlx_dit", "acestep.mlx_vae")

# What --without NAME sends in place of a checkout's own defaults.
SWITCHES: dict[str, dict[str, Any]] = {
    "dcw": {"dcw_enabled": False},
    "thinking": {
        "thinking": False,
        "use_cot_metas": False,
        "use_cot_caption": False,
        "use_cot_language": False,
    },
}
# The run sends these whether or not its user gave the option.
ALWAYS_SENT = ("inference_steps", "guidance_scale", "shift")


class TreeError(Exception):
    """The tree cannot be run; str() is one sentence for whoever started it."""


class UsageError(TreeError):
    """The request is what is wrong, and was found to be so only where it was run."""


def read_audio(path: Any) -> tuple[Any, int]:
    """torchaudio.load by soundfile: float32 [channels, samples] and the rate."""
    import soundfile
    import torch

    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


# Of torchaudio, a LEGO request whose context has 48 kHz needs `load` or nothing, according to the version of the
# tree. Every other module that is missing is a refusal.
STUBS: dict[str, dict[str, Any]] = {"torchaudio": {"load": read_audio}}


def refuse_attribute(module: str, name: str) -> Any:
    """Of a stub that the run does without."""
    raise ImportError(f"{module} is not installed, and {module}.{name} is needed here")


def absent(names: Iterable[str]) -> list[str]:
    """Those of the top-level modules that this interpreter does not have."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def model_code_imports(root: Path) -> set[str]:
    """Top-level modules that upstream's model code imports; transformers loads that code late, with the weights.

    It has its configuration beside it; the fork's, which runs where PyTorch is chosen, has none.
    """
    names: set[str] = set()
    for path in root.glob("acestep/models/*/modeling_*.py"):
        if not any(path.parent.glob("configuration_*.py")):
            continue
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names.add(node.module.partition(".")[0])
        names -= {sibling.stem for sibling in path.parent.glob("*.py")}
    return names - {"acestep"}


def import_tree(modules: Iterable[str], besides: Iterable[str]) -> tuple[list[ModuleType], list[str]]:
    """Imports modules of the tree; returns them and the names that a stub was made for.

    besides: top-level modules that have to be there although nothing imports them yet. TreeError names every
    module that is missing, not only the first that the tree comes upon.
    """
    missing = absent(besides)
    found: list[ModuleType] = []
    while True:
        try:
            found = [importlib.import_module(name) for name in modules]
            break
        except ModuleNotFoundError as error:
            name = error.name or ""
            if name.partition(".")[0] == "acestep":
                raise TreeError(f"the checkout holds no module {name}: is it copied whole?") from None
            if not name or name in sys.modules:
                raise
            missing.append(name)
            add_stub(name)
        except Exception:
            if not missing or set(missing) <= set(STUBS):
                raise
            break  # of a stub that was asked for something at import: the list is as long as it gets
    refuse_missing(missing)
    return found, missing


def add_stub(name: str) -> None:
    """Puts a stub in place of `name`; the tree's own modules are imported anew.

    A stub that is in STUBS has what stands there and no more; any other serves to find what else is missing.
    """
    replaced = name.partition(".")[0] in STUBS
    stub = sys.modules[name] = StubModule(name, refuse_attribute) if replaced else StubModule(name)
    vars(stub).update(STUBS.get(name, {}))
    for loaded in [key for key in sys.modules if key.partition(".")[0] == "acestep"]:
        del sys.modules[loaded]


def refuse_missing(names: list[str]) -> None:
    """TreeError where a module is missing that has no stub."""
    tops = sorted({name.partition(".")[0] for name in names})
    if set(tops) - set(STUBS):
        raise TreeError(
            f"{sys.executable} lacks modules that the checkout imports: {', '.join(tops)}; install what the "
            f"checkout requires there, or name the interpreter that has it with --python"
        )


def collect_warnings() -> list[str]:
    """The first line of everything that the tree warns of from here on, in place of its log on the terminal."""
    lines: list[str] = []
    try:
        logger = importlib.import_module("loguru").logger
    except ImportError:  # the tree logs otherwise, or not at all
        return lines
    logger.remove()
    logger.add(
        lambda text: lines.append(str(text).strip().partition("\n")[0]), level="WARNING", format="{message}"
    )
    return lines


def version_hint(model_imports: set[str]) -> str:
    """What to add to a failure to load, where upstream's model code meets a transformers that it is not made for."""
    if "vector_quantize_pytorch" not in model_imports or metadata.version("transformers").startswith("4."):
        return ""
    return f" (transformers {metadata.version('transformers')} is installed, upstream's model code wants below 4.58)"


def problem(message: str, hint: str = "") -> TreeError:
    """What a tree says of its failure, on one line and without the traceback; modules that it lacks are named."""
    text = re.sub(r"^[^ -~]+\s*", "", message.partition("\n\nTraceback")[0].strip())  # some begin with a sign
    packages = re.search(r"packages that were not found in your environment: ([\w\-, ]+)", text)
    if packages:
        refuse_missing([name.strip() for name in packages[1].split(",")])
    said = " ".join(text.split()).removesuffix(".") or "the run failed, and the checkout does not say why"
    return TreeError(said + hint)


def check_mlx() -> None:
    """TreeError where MLX cannot compute under this interpreter."""
    try:
        import mlx.core as mx

        mx.eval(mx.ones(2) + 1)
    except Exception as error:
        raise TreeError(
            f"MLX does not work under {sys.executable} ({error}); install it there (pip install mlx, on Linux "
            f"'mlx[cpu]') or choose PyTorch with --backend torch"
        ) from None


def override_mlx_available() -> str | None:
    """Makes the tree use MLX where it says that the platform has none; returns a note if that was necessary.

    Trees take MLX for something of macOS alone; it computes on Linux too.
    """
    overridden = []
    for name in MLX_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        for function in ("is_mlx_available", "mlx_available"):
            if hasattr(module, function) and not getattr(module, function)():
                setattr(module, function, lambda: True)
                overridden.append(f"{name}.{function}")
    if not overridden:
        return None
    return f"overrode {' and '.join(overridden)}, which says no on {platform.system()}"


def known_fields(cls: Any, values: dict[str, Any], needed: tuple[str, ...]) -> tuple[Any, list[str]]:
    """An instance of a tree's dataclass, without what this version does not have; TreeError where that is needed.

    Returns a note, too, for everything that was requested and left out. A switch that is off needs none.
    """
    names = {field.name for field in dataclasses.fields(cls)}
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise TreeError(
            f"the checkout's {cls.__name__} has no {', '.join(lacking)}, which a LEGO request needs; it is a version "
            f"that this run cannot drive: upstream's from 2026-02-16 on are meant"
        )
    left_out = [
        name for name, value in values.items() if name not in names and value not in (None, False, "", 0, -1)
    ]
    notes = [
        f"the checkout's {cls.__name__} has no {name}, which was requested and left out" for name in left_out
    ]
    return cls(**{name: value for name, value in values.items() if name in names}), notes


def switched_off(cls: Any, switches: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a tree's dataclass that the switches set, and a note for each switch."""
    names = {field.name for field in dataclasses.fields(cls)}
    sent: dict[str, Any] = {}
    notes = []
    for switch in switches:
        known = {name: value for name, value in SWITCHES[switch].items() if name in names}
        sent |= known
        values = ", ".join(f"{name}={value}" for name, value in known.items())
        notes.append(
            f"switched off by --without {switch}: {values}"
            if known
            else f"--without {switch} switches nothing off: the checkout has no {next(iter(SWITCHES[switch]))}"
        )
    return sent, notes


def replaced_defaults(params: Any) -> dict[str, Any]:
    """The tree's own defaults of ALWAYS_SENT, those that `params` differs from."""
    defaults = {field.name: field.default for field in dataclasses.fields(params)}
    return {
        name: defaults[name]
        for name in ALWAYS_SENT
        if isinstance(defaults[name], (int, float)) and defaults[name] != getattr(params, name)
    }
