"""The benchmark of whole stems: its parts, its counted work, and a run on the tiny checkpoint."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bench_lego
import pytest
import torch

from acestep.models.checkpoint.config import read_config, read_json
from acestep.models.checkpoint.layout import find_layout
from acestep.models.pytorch.loading import load_condition_encoder, load_text_encoder, load_vae
from bench import stems
from bench.stem_child import PARTS, STEPS, PartClock
from bench.stem_work import stem_work, token_counts
from tests.warm_process import subprocess_by_fork

FORK, TORCH = "this fork", "AceStepPipeline"


class TestPartClock:
    def test_what_a_part_calls_belongs_to_it(self) -> None:
        clock = PartClock()
        owner: Any = SimpleNamespace(inner=lambda: time.sleep(0.02), outer=lambda: owner.inner())
        clock.watch(owner, "inner", "inner part")
        clock.watch(owner, "outer", "outer part")
        owner.outer()
        assert set(clock.parts) == {"outer part"}
        assert clock.parts["outer part"]["seconds"] >= 0.02
        owner.inner()
        assert clock.parts["inner part"]["peak"] > 10**6

    def test_calls_of_a_part_add_up_also_one_that_fails(self) -> None:
        def fail() -> None:
            time.sleep(0.01)
            raise ValueError("no memory")

        clock = PartClock()
        owner = SimpleNamespace(work=fail)
        clock.watch(owner, "work", "part")
        for _ in range(2):
            with pytest.raises(ValueError, match="no memory"):
                owner.work()
        assert clock.parts["part"]["seconds"] >= 0.02

    def test_a_method_that_is_not_there_is_left_out(self) -> None:
        clock = PartClock()
        clock.watch(SimpleNamespace(), "tiled_encode", "part")
        assert clock.parts == {}


SECONDS = 2.0


@pytest.fixture
def folder(tiny_root: Callable[..., Path]) -> Path:
    return tiny_root() / "checkpoints/acestep-v15-base"


@pytest.fixture
def work(folder: Path) -> dict[str, int]:
    return stem_work(folder, SECONDS, steps=3)


@pytest.mark.slow
class TestWork:
    """PyTorch counts what its modules really do on the tiny checkpoint."""

    def flops(self, call: Callable[[], Any]) -> int:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    def test_of_the_vae(self, folder: Path, work: dict[str, int]) -> None:
        vae = load_vae(find_layout(folder).vae, read_config(folder))
        channels = read_json(find_layout(folder).vae / "config.json")["decoder_input_channels"]
        assert self.flops(lambda: vae.encode(torch.zeros(1, 2, 96_000))) == 2 * work["VAE encode"]
        assert self.flops(lambda: vae.decode(torch.zeros(1, channels, 50))) == 2 * work["VAE decode"]

    def test_of_text_and_conditions(self, folder: Path, work: dict[str, int]) -> None:
        text, lyrics = token_counts(folder, SECONDS)
        config = read_config(folder)
        encoder = load_text_encoder(find_layout(folder).text_encoder, config)
        tokens = torch.zeros(1, text, dtype=torch.long)
        assert self.flops(lambda: encoder(input_ids=tokens)) == pytest.approx(2 * work["text"], rel=0.01)
        conditions = load_condition_encoder(folder, config)
        states = {
            f"{name}_hidden_states": torch.zeros(1, length, config.text_hidden_dim)
            for name, length in (("text", text), ("lyric", lyrics))
        }
        masks = {
            f"{name}_attention_mask": torch.ones(1, length, dtype=torch.bool)
            for name, length in (("text", text), ("lyric", lyrics))
        }
        silence = conditions.silence_latent[:, :750]
        counted = self.flops(
            lambda: conditions(
                **states,
                **masks,
                refer_audio_acoustic_hidden_states_packed=silence,
                refer_audio_order_mask=torch.zeros(1, dtype=torch.long),
            )
        )
        assert counted == pytest.approx(2 * work["conditions"], rel=0.01)

    def test_steps_are_counted_one_by_one(self, folder: Path, work: dict[str, int]) -> None:
        assert work["steps"] == 3 * stem_work(folder, SECONDS, steps=1)["steps"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """run(*arguments): exit status, what was printed, what was complained of."""
    monkeypatch.setattr(bench_lego, "BLAS_NOTE", None, raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bench_lego.py", "stem", *arguments])
        status = bench_lego.main()
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


SHORT = ("--seconds", "1", "--steps", "2", "--rounds", "2")


@pytest.mark.slow
@pytest.mark.subprocess
def test_every_part_of_every_side_is_in_the_report(
    run: Any, monkeypatch: pytest.MonkeyPatch, tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    """Each side is run once; what it measured serves for its second round, too. On Linux PyTorch's side is run in a
    fork of this process, which has imported PyTorch."""
    measure, started, measured = stems.run_child, [], {}

    def run_child(side: stems.Side, *rest: Any) -> dict[str, Any]:
        started.append(side.name)
        if side.name not in measured:
            with pytest.MonkeyPatch.context() as patch:
                if side.name == TORCH:
                    patch.setattr(stems, "subprocess", subprocess_by_fork)
                measured[side.name] = measure(side, *rest)
        return measured[side.name]

    monkeypatch.setattr(stems, "run_child", run_child)
    checkpoint = tiny_root() / "checkpoints/acestep-v15-base"
    status, printed, error = run(*SHORT, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"))
    assert (status, error) == (0, "")
    assert started == [FORK, TORCH] * 2
    report = json.loads((tmp_path / "out/stems.json").read_text())
    assert list(report["sides"]) == [FORK, TORCH]
    for side in report["sides"].values():
        for part in PARTS:
            assert len(side["parts"][part]["seconds"]) == 2
            assert side["parts"][part]["median"] > 0
            assert side["parts"][part]["peak"] > 10**7
        whole = sum(side["parts"][part]["seconds"][0] for part in PARTS[1:])
        assert side["parts"]["stem"]["seconds"][0] == pytest.approx(whole)
        assert whole <= side["process_seconds"][0]
    assert report["multiply_adds"][STEPS] > 0
    rounds = [line for line in printed.splitlines() if line.startswith("round")]
    assert [line.split(",")[1].split(":")[0].strip() for line in rounds] == [FORK, TORCH] * 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stems.json"]


def test_a_side_that_dies_is_named_and_nothing_is_written(
    run: Any, monkeypatch: pytest.MonkeyPatch, tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    dying = tmp_path / "stem_child.py"
    dying.write_text("import sys; sys.exit('no memory')")
    monkeypatch.setattr(stems, "CHILD", dying)
    checkpoint = tiny_root() / "checkpoints/acestep-v15-base"
    status, _, error = run(*SHORT, "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out"))
    assert (status, error) == (3, "bench_lego: this fork died with status 1 (no memory)\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_checkout_that_takes_longer_than_the_limit_is_stopped_and_took_longer(
    run: Any, tiny_root: Callable[..., Path], tmp_path: Path
) -> None:
    """This fork, given as a checkout too, with far more steps than a tenth of a second is enough for."""
    checkpoint = tiny_root() / "checkpoints/acestep-v15-base"
    status, printed, error = run(
        *("--seconds", "1", "--steps", "100", "--rounds", "1", "--no-torch", "--limit", "0.1"),
        *("--checkout", str(stems.FORK), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")),
    )
    assert (status, error) == (0, "")
    fork, checkout = json.loads((tmp_path / "out/stems.json").read_text())["sides"].values()
    assert (fork["parts"]["stem"]["stopped"], checkout["parts"]["stem"]["stopped"]) == (False, True)
    assert fork["parts"]["stem"]["seconds"][0] > 0.2, "this fork has no limit"
    assert list(checkout["parts"]) == ["stem"], "no part of it is known to be whole"
    assert checkout["parts"]["stem"]["seconds"] == [0.1]
    assert checkout["process_seconds"][0] > 0.1, "loading included"
    assert any(f"0.1 s and not ready, stopped in: {part}\n" in printed for part in PARTS[1:])
    ratio = 0.1 / fork["parts"]["stem"]["median"]
    assert f"> {ratio:.2f}x" in printed.splitlines()[-2]


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--dtype", "foo", "dtype is 'foo', expected "),
        ("--guidance-scale", "inf", "guidance_scale is inf, expected a number of at least 0"),
        ("--limit", "inf", "--limit is inf, expected a finite number"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_written(
    run: Any, tmp_path: Path, option: str, value: str, complaint: str
) -> None:
    status, printed, error = run(option, value, "--out", str(tmp_path / "out"))
    assert (status, printed) == (2, "")
    assert error.startswith(f"bench_lego: {complaint}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_checkout_is_refused(run: Any, tmp_path: Path) -> None:
    status, printed, error = run("--checkout", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (status, printed) == (2, "")
    assert error == f"bench_lego: --checkout {tmp_path} holds no acestep package; give its root\n"
