"""The benchmark, whole, on a narrow decoder; and what it refuses."""

import json
from pathlib import Path
from typing import Any

import bench_lego
import numpy as np
import pytest

from bench import session
from bench.memory import peak_memory
from bench.sides import evaluations

GIB = 2**30


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """run(*arguments): exit status, what was printed, what was complained of. Memory is not measured in it."""
    monkeypatch.setattr(session, "peak_memory", lambda *_: {"process": GIB, "run": GIB})
    monkeypatch.setattr(session, "import_seconds", lambda: 0.25)
    monkeypatch.setattr(session, "RUN_SECONDS", 1.0)
    monkeypatch.setattr(bench_lego, "BLAS_NOTE", "no OpenBLAS", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bench_lego.py", *arguments])
        status = bench_lego.main()
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def small(out: Path, *more: str) -> list[str]:
    return [
        "decoder",
        "--seconds",
        "1,2",
        "--trials",
        "2",
        "--width",
        "128",
        "--encoder-length",
        "5",
        "--out",
        str(out),
        *more,
    ]


def test_every_trial_is_in_the_report(run: Any, tmp_path: Path) -> None:
    status, printed, _ = run(*small(tmp_path))
    assert status == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [length["frames"] for length in report["lengths"]] == [25, 50]
    for length in report["lengths"]:
        assert list(length["sides"]) == ["reference", "fast", "torch"]
        for side in length["sides"].values():
            assert len(side["seconds"]) == 2
            assert min(side["seconds"]) > 0
            assert side["median"] == pytest.approx(sum(side["seconds"]) / 2)
            assert side["distance"] <= 5e-6
            assert side["work"]["multiply_adds"] > 0
    assert report["machine"]["versions"]["mlx"]
    assert report["run"]["steps"] == 6
    assert "note: no OpenBLAS" in printed
    assert "1.00 GiB" in printed
    assert (tmp_path / "bench.svg").read_text().count("<polyline") == 3


def test_sides_may_be_chosen(run: Any, tmp_path: Path) -> None:
    assert run(*small(tmp_path, "--sides", "torch"))[0] == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [list(length["sides"]) for length in report["lengths"]] == [["torch"], ["torch"]]
    assert "run" not in report


def test_sides_that_do_not_agree_are_a_failure(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fast wrong answer is not a gain."""

    def one_is_off(*arguments: Any) -> Any:
        calls = dict(evaluations(*arguments))
        off = calls["fast"]
        return {**calls, "fast": lambda: off() * np.float32(1 + 1e-4)}

    monkeypatch.setattr(session, "evaluations", one_is_off)
    status, printed, _ = run(*small(tmp_path))
    assert status == 1
    assert (
        "further from the reference decoder than 5e-06: fast at 1 s (1.0e-04), fast at 2 s (1.0e-04)"
        in printed
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param(
            ["--seconds", "5,x"], "'5,x' is not a list of seconds such as 5,30,120", id="not_seconds"
        ),
        pytest.param(
            ["--seconds", "5,601"], "'5,601': each length is to be 0.04 to 600 seconds", id="too_long"
        ),
        pytest.param(["--seconds", "nan"], "'nan': each length is to be 0.04 to 600 seconds", id="nan"),
        pytest.param(["--width", "200"], "the width is 200; give a multiple of 128", id="width"),
        pytest.param(
            ["--sides", "reference,mlx"],
            "there is no side 'mlx'; give some of reference, fast, torch",
            id="side",
        ),
        pytest.param(["--limit", "nan"], "--limit is nan, expected a finite number", id="limit"),
        pytest.param(["--trials", "0"], "Invalid value for '--trials'", id="no_trials"),
    ],
)
def test_refusals_are_one_sentence(run: Any, tmp_path: Path, arguments: list[str], complaint: str) -> None:
    status, printed, error = run(*small(tmp_path / "out"), *arguments)
    assert (status, printed) == (2, "")
    assert error.startswith("bench_lego: ")
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_a_sentence(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(session, "evaluations", None)  # nothing is measured
    status, _, error = run(*small(tmp_path / "file", "--sides", "torch"))
    assert (status, error) == (
        2,
        f"bench_lego: --out {tmp_path / 'file'} cannot be written to (it is a file); "
        "give a folder in which a new one can be made\n",
    )


class TestMemory:
    """Measured in a process of its own."""

    def test_peaks_of_a_run(self) -> None:
        ballast = bytearray(GIB // 2)  # a figure that holds it is this process's, not the other's
        ballast[::4096] = bytes(len(ballast) // 4096)
        figures = peak_memory("fast", 128, 1, 5, 50, "float32")
        assert 0 < figures["weights"] < figures["step"] <= figures["run"] < figures["process"] < len(ballast)

    def test_a_process_that_dies_says_so(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        dying = tmp_path / "python"
        dying.write_text("#!/bin/sh\necho Killed >&2\nexit 9\n")
        dying.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(dying))
        assert peak_memory("fast", 128, 1, 5, 50, "float32") == {"error": "died with status 9: Killed"}
