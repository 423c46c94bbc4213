"""The benchmark's parts: turns, counted work, picture, and the library that mlx's matmuls run on."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mlx.core as mx
import pytest
import torch

import blas
from acestep.models.mlx import attention
from bench.picture import draw
from bench.sides import Inputs, Models, base_config
from bench.trials import Trials, alternate
from bench.work import Work, fast_step, once_a_run, reference_step

SCRIPTS = Path(blas.__file__).parent
FRAMES, ENCODER = 300, 11


class TestTurns:
    def test_sides_take_turns_after_a_call_each_to_warm_up(self) -> None:
        calls: list[str] = []
        sides = {name: lambda name=name: calls.append(name) for name in ("one", "other")}
        trials = alternate(sides, trials=3, limit=60)
        assert calls == ["one", "other"] * 4
        assert [len(trial.seconds) for trial in trials.values()] == [3, 3]

    def test_the_first_call_is_kept_apart(self) -> None:
        waits = iter([0.05, 0, 0, 0])
        trials = alternate({"one": lambda: time.sleep(next(waits))}, trials=3, limit=60)["one"]
        assert trials.first > 0.04 > max(trials.seconds)

    def test_no_round_is_begun_after_the_limit_but_one_always_is(self) -> None:
        trials = alternate({"one": lambda: time.sleep(0.01)}, trials=50, limit=0.0)["one"]
        assert len(trials.seconds) == 1

    def test_median_and_distance_of_the_quartiles(self) -> None:
        trials = Trials(9.0, [1.0, 4.0, 2.0, 3.0, 5.0])
        assert trials.median == 3.0
        assert trials.spread == pytest.approx(2 / 3)
        assert Trials(9.0, [2.0]).spread == 0.0


class TestWork:
    """Counted from shapes; PyTorch counts what its decoder really does."""

    def test_reference_step_is_what_pytorch_counts(self) -> None:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        config = base_config(256, 2)
        tensors = {k: torch.from_numpy(v) for k, v in vars(Inputs.random(config, FRAMES, ENCODER)).items()}
        t = torch.full((2,), 0.5)
        # the fused attention is not in PyTorch's count, its parts are
        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            Models(config).torch(timestep=t, timestep_r=t, **tensors)
        states = 2 * ENCODER  # PyTorch projects both branches' states in every step
        kept = states * 256 * (256 + 2 * config.num_hidden_layers * config.num_key_value_heads * 128)
        assert counter.get_total_flops() == 2 * (
            reference_step(config, FRAMES // 2, ENCODER).multiply_adds + kept
        )

    def test_fast_step_is_what_its_attention_sees(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The scores, and so the exponentials, of every attention of one evaluation, as a GPU is given it."""
        from bench.sides import evaluations

        seen: list[int] = []
        original = mx.fast.scaled_dot_product_attention

        def noting(queries: Any, keys: Any, values: Any, **rest: Any) -> Any:
            seen.append(queries.size // queries.shape[-1] * keys.shape[2])
            return original(queries, keys, values, **rest)

        monkeypatch.setattr(attention, "is_on_cpu", lambda: False)
        monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", noting)
        config = base_config(256, 3)
        step = evaluations(Models(config), Inputs.random(config, FRAMES, ENCODER), ("fast",))["fast"]
        step()
        seen.clear()  # the first step also prepares the run
        step()
        silu = 2 * 3 * (FRAMES // 2) * config.intermediate_size
        assert fast_step(config, FRAMES // 2, ENCODER).exponentials == sum(seen) + silu

    def test_fast_does_less_than_the_reference(self) -> None:
        config = base_config(2048, 2)
        for patches in (375, 1500, 7500):
            reference = reference_step(config, patches, 500)
            fast = fast_step(config, patches, 500)
            assert fast.multiply_adds < 0.9 * reference.multiply_adds
            assert fast.exponentials < reference.exponentials

    def test_windowed_layers_grow_with_the_length(self) -> None:
        config = base_config(2048, 1)
        short, long = (fast_step(config, patches, 500) for patches in (1280, 12800))
        assert long.multiply_adds == 10 * short.multiply_adds
        assert (
            reference_step(config, 12800, 500).multiply_adds
            > 11 * reference_step(config, 1280, 500).multiply_adds
        )

    def test_what_a_run_prepares_is_less_than_a_step(self) -> None:
        config = base_config(2048, 24)
        assert once_a_run(config, 500, 50).multiply_adds < reference_step(config, 375, 500).multiply_adds / 4

    def test_work_adds_up(self) -> None:
        assert Work(1, 2, 3) + Work(1, 1, 1) == Work(2, 3, 4)
        assert Work(1, 2, 3).times(3) == Work(3, 6, 9)


class TestPicture:
    SVG = "{http://www.w3.org/2000/svg}"

    def lines(self, picture: str) -> list[list[tuple[float, float]]]:
        found = ElementTree.fromstring(picture).findall(f"{self.SVG}polyline")
        points = [[place.split(",") for place in line.attrib["points"].split()] for line in found]
        return [[(float(x), float(y)) for x, y in line] for line in points]

    def test_longer_is_to_the_right_and_slower_is_higher(self) -> None:
        (line,) = self.lines(draw({"fast": [(5, 0.1), (30, 0.7), (600, 9.0)]}, "title"))
        assert line == sorted(line)
        assert [y for _, y in line] == sorted((y for _, y in line), reverse=True)
        assert all(70 <= x <= 630 and 40 <= y <= 400 for x, y in line)

    def test_both_axes_are_logarithmic(self) -> None:
        (line,) = self.lines(draw({"fast": [(1, 1), (10, 10), (100, 100)]}, "title"))
        (x1, y1), (x2, y2), (x3, y3) = line
        assert (x2 - x1, y2 - y1) == pytest.approx((x3 - x2, y3 - y2), abs=0.2)

    def test_each_side_has_its_line_and_name(self) -> None:
        picture = draw({"reference": [(5, 2)], "a<b": [(5, 1)], "absent": []}, "30 s & more")
        texts = [text.text for text in ElementTree.fromstring(picture).findall(f"{self.SVG}text")]
        assert len(self.lines(picture)) == 2
        assert {"reference", "a<b", "30 s & more"} <= set(texts)
        assert "absent" not in texts


class TestBlas:
    @pytest.fixture(autouse=True)
    def _linux_without_preload(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.delenv("LD_PRELOAD", raising=False)

    def test_none_found_is_one_line_that_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "libopenblas.so.0").write_text("not a library")
        monkeypatch.setattr(blas, "PLACES", (f"{tmp_path}/libopenblas*.so*",))
        assert blas.use_openblas() == (
            "no OpenBLAS on this machine: mlx's matmuls run on reference BLAS, about 70 times slower; "
            "install it (Debian, Ubuntu: apt-get install libopenblas0-pthread; Fedora: dnf install openblas) "
            "and run again"
        )

    def test_found_is_put_in_front_of_the_same_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[Any] = []
        monkeypatch.setattr(blas, "find_openblas", lambda: Path("/lib/libopenblas.so.0"))
        monkeypatch.setenv("LD_PRELOAD", "/lib/other.so")
        monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
        blas.use_openblas()
        ((program, arguments, environment),) = started
        assert (program, arguments) == (sys.executable, sys.orig_argv)
        assert environment["LD_PRELOAD"] == "/lib/libopenblas.so.0:/lib/other.so"

    @pytest.mark.parametrize(
        ("platform", "preload"),
        [("darwin", ""), ("linux", "/lib/libopenblas.so.0"), ("linux", "")],
        ids=["mac", "preloaded", "mlx_on_a_gpu"],
    )
    def test_nothing_is_done_where_nothing_is_needed(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, preload: str
    ) -> None:
        monkeypatch.setattr(blas, "mlx_is_for_the_cpu", lambda: bool(preload) or platform == "darwin")
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("LD_PRELOAD", preload)
        monkeypatch.setattr(blas, "find_openblas", lambda: pytest.fail("looked for a library"))
        assert blas.use_openblas() is None

    def test_program_starts_again_with_its_arguments_and_only_once(self, tmp_path: Path) -> None:
        if blas.find_openblas() is None:
            pytest.skip("no OpenBLAS on this machine")
        program = tmp_path / "program.py"
        program.write_text(
            f"import os, sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
            "print('start'); import blas; blas.use_openblas(); print(sys.argv[1:], os.environ['LD_PRELOAD'])\n"
        )
        done = subprocess.run(
            [sys.executable, program, "a b", "--c"], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"start\nstart\n['a b', '--c'] {blas.find_openblas()}\n"
