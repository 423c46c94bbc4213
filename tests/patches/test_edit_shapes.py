"""Whatever is edited, no verb claims what an independent count denies, and nothing is lost.

By default every 14th shape is run in one era, with few requests; EDIT_SHAPES=all runs each in every era, with all of
them (about half an hour). EDIT_SHAPES=8567e33 does so for one era.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from patches.cli import main
from patches.verify import run, verify_checkout
from patches.verify.cases import CUSTOM, CUSTOM_LONG, CUSTOM_OTHER, FURTHER, Case, plan_cases
from tests.patches.edit_shapes import SHAPES, Shape
from tests.patches.eras import ERAS
from tests.patches.fork_server import ForkServer
from tests.patches.independent_count import agrees, requests

# Sentences of the verbs that only read; whatever else of theirs speaks of running is a claim.
NO_CLAIMS = ("nothing was run", "not run", "what runs", "not proved", "run COMMAND")
CLAIMS = re.compile(r"honou?red|evaluat|\bruns?\b|\bran\b|\brunning\b|\bworks\b|\bproved\b", re.I)
COMMAND = re.compile(r"\S*python\S* -m patches .*|\S*acestep-lego-patches .*")


@dataclass(frozen=True)
class Amount:
    """How much is requested: of `verify` and of the independent count alike."""

    steps: tuple[int, ...]
    custom: tuple[tuple[float, ...], ...]
    most_frames: int

    def requests(self) -> list[dict[str, Any]]:
        planned = requests(self.steps, self.custom)
        return [request for request in planned if request.get("frames", 0) <= self.most_frames]

    def cases(self, *arguments: Any) -> list[Case]:
        return [
            case
            for case in plan_cases(*arguments)
            if case.run != FURTHER  # the independent count has no such requests
            and case.frames <= self.most_frames
            and (case.timesteps is None or case.timesteps in self.custom)
        ]


FEW = Amount((1, 27), (CUSTOM, CUSTOM_LONG), 100)
ALL = Amount((1, 8, 27, 50, 137), (CUSTOM, CUSTOM_OTHER, CUSTOM_LONG), 10_000)


@pytest.fixture(scope="module")
def became() -> Iterator[Counter[str]]:
    counter: Counter[str] = Counter()
    yield counter
    print(f"\n{sum(counter.values())} edited checkouts: {dict(counter)}")


def some() -> list[Any]:
    """Every 14th shape, each in one era."""
    return [
        pytest.param(shape, era, FEW, id=f"{shape.name} [{era}]")
        for position, shape in enumerate(SHAPES[::14])
        for era in (shape.eras[position % len(shape.eras)],)
    ]


def every() -> list[Any]:
    wanted = os.environ.get("EDIT_SHAPES", "")
    return [
        pytest.param(shape, era, ALL, id=f"{shape.name} [{era}, every request]")
        for shape in SHAPES
        for era in shape.eras
        if wanted in ("all", era)
    ]


@dataclass
class Bench:
    """One edited checkout, the verbs on it, and the counts."""

    root: Path
    server: ForkServer
    amount: Amount
    further: dict[str, Any]
    capture: pytest.CaptureFixture[str]

    def verb(self, *words: str) -> tuple[int, str]:
        self.capture.readouterr()
        status = main([*words[:1], str(self.root), *words[1:]])
        output = self.capture.readouterr()
        return status, output.out + output.err

    def reads(self, *words: str) -> int:
        """A verb that only reads and writes text; its words are searched for claims."""
        status, output = self.verb(*words)
        rest = COMMAND.sub("COMMAND", output.replace(str(self.root), "ROOT"))
        for sentence in NO_CLAIMS:
            rest = re.sub(re.escape(sentence), "", rest, flags=re.I)
        if words[0] != "diff":
            assert not CLAIMS.search(rest), output
        return status

    def count(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.server.ask(
            "count", root=str(self.root), requests=self.amount.requests(), further=self.further
        )
        return found

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def hold(bench: Bench) -> tuple[str, list[str]]:
    """Hold one edited checkout to the rules. Returns what became of it, and the faults that the count finds after
    `apply`."""
    before, counted = bench.files(), bench.count()
    status = bench.reads("check")
    hold_the_status(bench)
    assert bench.reads("diff") == (3 if status == 3 else 0)
    verified, report = bench.verb("verify")
    faults = agrees(counted, counted)
    assert (verified == 0) == (not faults), (faults, report)
    assert bench.files() == before
    if status == 3:
        assert bench.reads("apply") == 3
        assert bench.verb("apply", "--verify")[0] == 3
        assert bench.files() == before
        return "refused", []
    assert bench.reads("apply") == 0
    hold_the_status(bench)
    after, faults = bench.files(), agrees(counted, bench.count())
    assert bench.reads("revert") == 0
    assert bench.files() == before
    proved, report = bench.verb("apply", "--verify")
    assert (proved == 0) == (not faults), (faults, report)
    assert bench.files() == (after if proved == 0 else before)
    return "kept" if proved == 0 else "not kept", faults


def hold_the_status(bench: Bench) -> None:
    """`check` ends with 0 only where nothing is left to patch and nothing is unknown."""
    status, answer = bench.verb("check", "--json")
    states = {patch["state"] for patch in json.loads(answer)["patches"]}
    left = {"missing", "other code"} & states
    assert status == (3 if "conflict" in states else 1 if left else 0)
    assert not CLAIMS.search("".join(json.loads(answer)))


@contextlib.contextmanager
def bench_of(
    shape: Shape, era: str, amount: Amount, server: ForkServer, capture: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setattr(run, "run_module", server.run_module)
    monkeypatch.setattr(run, "plan_cases", amount.cases)
    defaults: dict[str, Any] = verify_checkout.__kwdefaults__ or {}
    monkeypatch.setitem(defaults, "steps", amount.steps)
    with tempfile.TemporaryDirectory(prefix="checkout-") as folder:
        root = ERAS[era].write(Path(folder))
        shape.edit(root)
        yield Bench(root, server, amount, {"dcw_enabled": False} if era == "8567e33" else {}, capture)


@pytest.mark.parametrize(("shape", "era", "amount"), [*some(), *every()])
def test_no_verb_claims_what_the_count_denies(
    shape: Shape,
    era: str,
    amount: Amount,
    server: ForkServer,
    became: Counter[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with bench_of(shape, era, amount, server, capsys, monkeypatch) as bench:
        end, faults = hold(bench)
    became[end] += 1
    assert (end == "refused") == (era in shape.refused)
    if amount is ALL:
        assert (end == "kept") == (shape.keeps and era not in shape.refused), faults
    else:  # too few requests to find every edit that cuts
        assert not (shape.keeps and faults)


def test_there_are_enough_shapes() -> None:
    cutting = [shape for shape in SHAPES if not shape.keeps]
    assert len(cutting) >= 60
    assert len(SHAPES) - len(cutting) >= 30
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
