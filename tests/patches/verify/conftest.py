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
from tests.patches.mini_checkout import MiniCheckout

Choice = Callable[[list[Case]], list[Case]]


@contextmanager
def modules_of_a_checkout() -> Iterator[None]:
    """Whatever a checkout imports or stubs is gone afterwards; mx.compile is mx.compile again."""
    compile_of_mlx, path = mx.compile, list(sys.path)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "acestep"}
    before = set(sys.modules)
    try:
        yield
    finally:
        mx.compile = compile_of_mlx
        beside = tuple(f"{folder}/" for folder in sys.path if folder not in path)
        sys.path[:] = path
        for name in sys.modules.keys() - before:
            module = sys.modules[name]
            is_beside = bool(beside) and str(getattr(module, "__file__", "")).startswith(beside)
            if name.split(".")[0] == "acestep" or isinstance(module, StubModule) or is_beside:
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


def in_these_ways(runs: Collection[str]) -> Choice:
    return lambda cases: [case for case in cases if case.run in ("", *runs)]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VerifyReport]:
    """verify(checkout or its folder, chosen, **options): the report, made in this process; of the cases, those that
    `chosen` returns or, where it is a set, the base cases that run in one of these ways and those of other models."""
    monkeypatch.setattr(run, "run_module", run_here)

    def make(
        checkout: MiniCheckout | Path, chosen: Choice | Collection[str] = list, **options: Any
    ) -> VerifyReport:
        choose = chosen if callable(chosen) else in_these_ways(chosen)
        monkeypatch.setattr(run, "plan_cases", lambda *arguments: choose(plan_cases(*arguments)))
        if isinstance(checkout, MiniCheckout):
            checkout = checkout.write(tmp_path / f"checkout_{len(list(tmp_path.iterdir()))}")
        return verify_checkout(checkout, **options)

    return make
