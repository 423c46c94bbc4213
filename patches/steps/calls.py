"""Whether the calls between the three files fit: upstream answers a call that fails with a PyTorch run."""

from __future__ import annotations

from collections.abc import Mapping

from ..engine.find import calls_of, functions_named, parameter_names
from ..engine.source import Source
from .names import GENERATE, RUN

_PASSED = {"infer_steps", "is_turbo"}


def failing(files: Mapping[str, Source]) -> dict[str, str]:
    """Reasons by the target of the caller; `files` are the three files by target, those that can be read."""
    pairs = (("execute", "diffusion", RUN), ("diffusion", "generate", GENERATE))
    found = {}
    for caller, callee, name in pairs:
        if caller in files and callee in files:
            refused = _refused_keywords(files[caller], files[callee], name)
            if refused:
                found[caller] = f"the call would pass {' and '.join(refused)}, which {name} does not take"
    return found


def _refused_keywords(caller: Source, callee: Source, name: str) -> list[str]:
    functions = functions_named(callee, name)
    if len(functions) != 1 or functions[0].args.kwarg is not None:
        return []
    passed = {keyword.arg or "" for call in calls_of(caller, name) for keyword in call.keywords}
    return sorted(passed & _PASSED - set(parameter_names(functions[0])))
