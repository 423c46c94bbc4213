"""`verify` without a child process: the same cases and verdicts, in the process of the tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from patches.harness.imports import CannotProbe, StubModule
from patches.harness.process import ChildResult, Limits
from patches.verify import VerifyReport, run, verify_checkout
from patches.verify.cases import Case, plan_cases
from patches.verify.runs import run_cases
from tests.patches.verify.checkouts import Checkout

# each count for its reason: 1 and an odd one, turbo's own, the usual one, one above 100
STEPS = (1, 8, 27, 50, 137)


@contextmanager
def modules_of_a_checkout() -> Iterator[None]:
    """Whatever a checkout imports or stubs is gone afterwards; mx.compile is mx.compile again."""
    compile_of_mlx = mx.compile
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "acestep"}
    try:
        yield
    finally:
        mx.compile = compile_of_mlx
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] == "acestep" or isinstance(module, StubModule):
                del sys.modules[name]
        sys.modules.update(kept)


def run_here(module: str, request: dict[str, Any], limits: Limits | None = None) -> ChildResult:
    """What `run_module` returns for verify.probe."""
    assert module == "verify.probe"
    with modules_of_a_checkout():
        try:
            answer = run_cases(json.loads(json.dumps(request)))
        except CannotProbe as reason:
            answer = {"cannot": str(reason)}
    return ChildResult((json.loads(json.dumps(answer)),), None)


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VerifyReport]:
    """verify(checkout, runs=None, **options): the report, made in this process; of the base cases, those that run in
    one of these ways."""
    monkeypatch.setattr(run, "run_module", run_here)

    def make(checkout: Checkout, runs: Collection[str] | None = None, **options: Any) -> VerifyReport:
        def planned(*arguments: Any) -> list[Case]:
            return [case for case in plan_cases(*arguments) if not runs or case.run in ("", *runs)]

        monkeypatch.setattr(run, "plan_cases", planned)
        root = tmp_path / f"checkout_{len(list(tmp_path.iterdir()))}"
        return verify_checkout(checkout.write(root), **{"steps": STEPS, **options})

    return make
