"""The smoke run of somebody's checkout: counted at its decoders, unmasked, and nothing of it written to."""

import hashlib
import io
import json
import shlex
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from acestep.errors import BackendError, CheckpointError, RequestError
from patches.checkout import DIFFUSION, EXECUTE, GENERATE
from patches.cli import main as kit
from smoke.checkout import Checkout, located, prepare
from smoke.checkout_findings import with_findings
from smoke.judge import judge
from smoke.process import Process
from smoke.progress import Parts
from smoke.request import Request, spread
from smoke.run import Run, Tree
from tests.stand_in_checkout import write_checkout

FORK = Path(__file__).resolve().parents[2] / "ACE-Step-1.5"


def a_request(**changes: Any) -> Request:
    values = {
        "context": Path("context.wav"), "checkpoint": Path("checkpoints/acestep-v15-base"), "track": "drums",
        "steps": 7, "guidance_scale": 1.0, "shift": 1.0, "seed": 42, "backend": "mlx", "device": "cpu",
    }  # fmt: skip
    return Request(**{**values, **changes})


def run_tree(
    tree: Tree, requests: list[Request], folder: Path, said: io.StringIO | None = None, record: bool = False
) -> list[tuple[Run, np.ndarray]]:
    """The runs of a tree with their stems; `said` receives what the terminal shows."""
    parts = Parts(said or io.StringIO())
    with Process(tree, requests[0], folder, record) as process:
        process.load()
        ran = [process.run(request, parts, f"{request.track}: ") for request in requests]
    parts.end()
    return ran


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """drive(request, worker_thread, record, without, **habits): a run of a stand-in checkout with these habits.

    The checkout is written where there is none yet.
    """
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run(
        request: Request | None = None,
        worker_thread: bool = False,
        record: bool = False,
        without: tuple[str, ...] = (),
        **habits: Any,
    ) -> Run:
        request = request or a_request()
        root = tmp_path / "tree"
        if not (root / "acestep" / "inference.py").exists():
            write_checkout(root, **habits)
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        tree = Tree(
            root,
            Path("checkpoints/acestep-v15-base"),
            folder=root,
            worker_thread=worker_thread,
            without=without,
        )
        ((ran, _),) = run_tree(tree, [request], folder, record=record)
        return ran

    return run


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run of a stand-in checkout that does everything right: `run`, `stem` and the `root` of the checkout."""
    folder = tmp_path_factory.mktemp("right")
    root = write_checkout(folder / "tree")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        tree = Tree(root, Path("checkpoints/acestep-v15-base"), folder=root)
        ((run, stem),) = run_tree(tree, [a_request()], folder / "run")
    return SimpleNamespace(run=run, stem=stem, root=root)


def refusal(drive: Any, **habits: Any) -> str:
    with pytest.raises(BackendError) as caught:
        drive(**habits)
    return str(caught.value)


def failing(run: Run) -> dict[str, str]:
    """The checks of a run that do not hold, those that need a reference aside."""
    from smoke.compare import Distances

    return {
        check.name: check.sentence
        for check in judge(run, Distances(0.0, 0.0), run.stem["samples"])
        if not check.holds and check.name != "clipping"
    }


class TestCounted:
    def test_a_checkout_that_runs_eight_is_told_by_its_count(self, drive: Any) -> None:
        run = drive(always=8)
        assert failing(run) == {"steps": "7 steps were requested, the decoder was evaluated 8 times"}

    def test_pytorch_is_counted_where_it_was_asked_for(self, drive: Any) -> None:
        run = drive(a_request(backend="torch"))
        assert (run.evaluated, run.device, run.fallback) == (7, "cpu", None)

    @pytest.mark.parametrize("compiles", [False, True], ids=["plain", "under mx.compile"])
    def test_each_evaluation_with_its_t_and_what_the_first_was_given(
        self, drive: Any, compiles: bool
    ) -> None:
        import mlx.core as mx

        run = drive(compiles=compiles)
        assert failing(run) == {}
        assert run.timesteps == pytest.approx([1 - i / 7 for i in range(7)])
        noise = np.array(mx.random.normal((1, 6, 2), key=mx.random.key(42)))
        assert np.array_equal(run.tensors["noise"], noise)
        assert np.array_equal(run.tensors["context_latents"], np.arange(24.0).reshape(1, 6, 4))
        assert np.array_equal(run.tensors["encoder_hidden_states"], np.ones((1, 4, 3)))
        assert np.array_equal(run.tensors["null_condition_emb"], np.zeros((1, 1, 3)))
        expected = noise
        for i in range(7):
            expected = expected - (expected + (1 - i / 7)) / 7
        assert np.allclose(
            run.tensors["target_latents"], expected, atol=1e-6
        )  # not upstream's target_latents

    def test_levels_are_those_before_any_gain(self, right: SimpleNamespace) -> None:
        stem = right.run.stem
        assert (stem["peak"], stem["clipped"], stem["gain"]) == (2.0, 1 / 8, 0.5)
        assert stem["rms"] == pytest.approx((6.25 / 8) ** 0.5)
        assert (stem["sample_rate"], stem["samples"]) == (48000, 4)
        assert right.stem.tolist() == [[0.25, 0.25], [-1.0, 0.25], [0.25, -0.25], [0.5, 0.0]]


def test_several_runs_of_one_process_are_each_counted_for_themselves(tmp_path: Path) -> None:
    requests = spread(a_request(), ["drums", "bass"], {"seed": [1, 2]})
    root = write_checkout(tmp_path / "tree", short_for="bass", compiles=True)
    tree = Tree(root, Path("checkpoints/acestep-v15-base"), folder=root)
    said = io.StringIO()
    runs = [run for run, _ in run_tree(tree, requests, tmp_path / "run", said)]
    assert [run.evaluated for run in runs] == [7, 7, 6, 6]
    noises = [run.tensors["noise"] for run in runs]
    assert np.array_equal(noises[0], noises[2])
    assert not np.array_equal(noises[0], noises[1])
    lines = [line.rpartition(": ")[0] for line in said.getvalue().splitlines()]
    parts = ("encoding the context", "7 steps")
    assert lines == [f"{track}: {part}" for track in ("drums", "drums", "bass", "bass") for part in parts]


class TestAsked:
    def test_the_traps_of_the_public_calls(self, right: SimpleNamespace) -> None:
        received = json.loads((right.root / "received.json").read_text())
        del received["environment"]
        assert received == {
            "params": {
                "task_type": "lego", "instruction": "lego of drums", "src_audio": str(Path("context.wav").absolute()),
                "inference_steps": 7, "guidance_scale": 1.0, "shift": 1.0,
                "thinking": True, "use_cot_metas": True, "dcw_enabled": True,
            },
            "config": {"batch_size": 1, "use_random_seed": False, "seeds": [42]},
        }  # fmt: skip

    @pytest.mark.parametrize(("asked", "loaded"), [("auto", "float32"), ("bfloat16", "bfloat16")])
    def test_a_precision_that_the_tree_knows(self, drive: Any, asked: str, loaded: bool) -> None:
        assert drive(a_request(dtype=asked), precise=True).dtype == loaded

    def test_what_this_version_does_not_know_is_left_out_and_said(self, drive: Any) -> None:
        run = drive(a_request(bpm=90, caption=""))
        assert run.notes[-1] == "the checkout's GenerationParams has no bpm, which was requested and left out"
        assert len([note for note in run.notes if "left out" in note]) == 1


REASON = "RuntimeError: There is no Stream in this thread."
WENT_ON = "and the run went on in PyTorch and called itself a success"


class TestUnmasked:
    def test_an_mlx_failure(self, drive: Any) -> None:
        run = drive(mlx_fails=True)
        expected = (
            "MLX was requested, but PyTorch's decoder was evaluated 7 times and MLX's 0: "
            f"MLX failed ({REASON}), {WENT_ON}"
        )
        assert failing(run) == {
            "backend": expected,
            "steps": "7 steps were requested, the decoder was evaluated 0 times",
        }

    def test_a_failure_in_a_worker_thread(self, drive: Any) -> None:
        assert f"MLX failed ({REASON})" in str(drive(worker_thread=True, fails_in_threads=True).fallback)

    def test_the_main_thread_is_left_alone_by_default(self, drive: Any) -> None:
        assert drive(fails_in_threads=True).fallback is None

    def test_mlx_that_never_was_active(self, drive: Any) -> None:
        run = drive(inactive="[MLX-DiT] no decoder: out of memory")
        assert run.fallback == (
            "MLX was requested, but PyTorch's decoder was evaluated 7 times and MLX's 0: MLX was not active after "
            f"loading ([MLX-DiT] no decoder: out of memory), {WENT_ON}"
        )

    def test_a_pytorch_decoder_that_is_out_of_sight(self, drive: Any) -> None:
        run = drive(hides_torch=True)
        assert run.fallback == (
            "MLX was requested, but PyTorch's decoder left its time key and MLX's 7: nothing was said of why, "
            f"{WENT_ON}"
        )


class TestArranged:
    @pytest.mark.skipif(sys.platform == "darwin", reason="there is nothing to override")
    def test_mlx_off_macos_is_overridden_and_said(self, right: SimpleNamespace) -> None:
        assert right.run.notes == [
            "overrode acestep.models.mlx.is_mlx_available, which says no on Linux",
            "the checkout's VAE ran in MLX",
        ]

    def test_every_missing_module_is_named_at_once(self, drive: Any) -> None:
        imports = ["nonesuch_two.inner", "nonesuch_one"]
        assert refusal(drive, imports=imports, uses="Thing", model_imports="nonesuch_three, math") == (
            f"{sys.executable} lacks modules that the checkout imports: nonesuch_one, nonesuch_three, nonesuch_two; "
            "install what the checkout requires there, or name the interpreter that has it with --python"
        )

    def test_a_transformers_that_upstream_is_not_made_for_is_named(self, drive: Any, tmp_path: Path) -> None:
        from importlib.metadata import version

        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "vector_quantize_pytorch.py").touch()
        assert refusal(drive, model_imports="vector_quantize_pytorch", loads_not="no item on meta") == (
            f"no item on meta (transformers {version('transformers')} is installed, "
            "upstream's model code wants below 4.58)"
        )

    @pytest.mark.skipif(find_spec("torchaudio") is not None, reason="torchaudio is installed")
    def test_torchaudio_has_a_stand_in_and_it_is_said(self, drive: Any) -> None:
        run = drive(imports=["torchaudio"])
        assert "torchaudio is not installed; soundfile read the context in its place" in run.notes

    def test_packages_of_the_model_code_are_named(self, drive: Any) -> None:
        says = (
            "Error: This modeling file requires the following packages that were not found in your environment: "
            "einops, vector_quantize_pytorch. Run `pip install ...`\n\nTraceback:\nFile"
        )
        assert "lacks modules that the checkout imports: einops, vector_quantize_pytorch;" in refusal(
            drive, loads_not=says
        )

    def test_a_checkout_that_cannot_load_is_heard_in_one_line(self, drive: Any) -> None:
        says = "\u274c Error initializing model: no such\nweights.\n\nTraceback:\n  File x\nOSError"
        assert refusal(drive, loads_not=says) == "Error initializing model: no such weights"

    def test_a_checkout_that_refuses_is_heard(self, drive: Any) -> None:
        assert refusal(drive, refuses="Too long.\n") == "Too long"

    def test_a_bug_of_the_checkout_is_placed(self, drive: Any) -> None:
        assert refusal(drive, always="many").startswith("the run failed in acestep/handler.py, line ")

    def test_no_download_starts(self, drive: Any) -> None:
        assert "the smoke run downloads nothing; put the checkpoint in place first" in refusal(
            drive, calls_home=True
        )

    def test_mlx_that_cannot_be_imported(self, drive: Any, tmp_path: Path) -> None:
        (tmp_path / "tree" / "mlx").mkdir(parents=True)
        (tmp_path / "tree" / "mlx" / "core.py").write_text("raise ImportError('no Metal here')")
        (tmp_path / "tree" / "acestep").mkdir()
        (tmp_path / "tree" / "mlx" / "__init__.py").write_text("")
        assert refusal(drive) == (
            f"MLX does not work under {sys.executable} (no Metal here); install it there (pip install mlx, on Linux "
            "'mlx[cpu]') or choose PyTorch with --backend torch"
        )


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint in upstream's layout, as far as names go."""
    for name in (
        "acestep-v15-base/modeling.py",
        "acestep-v15-base/config.json",
        "vae/x",
        "Qwen3-Embedding-0.6B/x",
    ):
        path = tmp_path / "weights" / "checkpoints" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "weights" / "checkpoints" / "acestep-v15-base"


class TestLeftAlone:
    def test_whatever_a_checkout_writes_lands_in_the_scratch_folder(
        self, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        root, scratch = (
            write_checkout(tmp_path / "tree", writes=True, imports=["loguru"]),
            tmp_path / "scratch",
        )
        before = contents(root), contents(tmp_path / "weights")
        tree = prepare(Checkout(root), checkpoint, scratch)
        ((run, _),) = run_tree(tree, [a_request()], tmp_path / "run")
        assert run.evaluated == 7
        assert (contents(root), contents(tmp_path / "weights")) == before
        assert (scratch / "acestep" / "handler.py").read_text() == "overwritten"
        environment = json.loads((scratch / "received.json").read_text())["environment"]
        assert environment["ACESTEP_PROJECT_ROOT"] == str(scratch)
        assert environment["ACESTEP_CHECKPOINTS_DIR"] == str(scratch / "checkpoints")
        assert Path(environment["HF_MODULES_CACHE"]).is_relative_to(scratch)
        assert {environment["HF_HUB_OFFLINE"], environment["TRANSFORMERS_OFFLINE"]} == {"1"}

    def test_what_upstream_wants_to_see_but_lego_never_loads_is_there(
        self, tmp_path: Path, checkpoint: Path
    ) -> None:
        prepare(Checkout(write_checkout(tmp_path / "tree")), checkpoint, tmp_path / "scratch")
        checkpoints = tmp_path / "scratch" / "checkpoints"
        assert sorted(path.name for path in checkpoints.iterdir()) == [
            "Qwen3-Embedding-0.6B", "acestep-5Hz-lm-1.7B", "acestep-v15-base", "acestep-v15-turbo", "vae",
        ]  # fmt: skip
        assert (checkpoints / "acestep-v15-turbo" / "model.safetensors").read_bytes() == b""

    @pytest.mark.parametrize("name", ["acestep-v15-base", "vae", "Qwen3-Embedding-0.6B"])
    def test_a_missing_checkpoint_folder_is_refused_before_anything_runs(
        self, tmp_path: Path, checkpoint: Path, name: str
    ) -> None:
        root = write_checkout(tmp_path / "tree")
        folder = checkpoint.parent / name
        shutil.rmtree(folder)
        with pytest.raises(CheckpointError) as caught:
            prepare(Checkout(root), checkpoint, tmp_path / "scratch")
        expected = (
            f"checkpoint folder {folder} does not exist; put it there first: this run downloads nothing"
        )
        assert str(caught.value) == expected
        assert not (tmp_path / "scratch").exists()


def a_python(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


class TestInterpreter:
    def test_the_one_that_is_named(self, tmp_path: Path) -> None:
        a_python(tmp_path / ".venv" / "bin" / "python")
        named = a_python(tmp_path / "named")
        assert Checkout(tmp_path, named).interpreter() == (str(named), "named by --python")

    def test_the_checkouts_own(self, tmp_path: Path) -> None:
        own = a_python(tmp_path / ".venv" / "bin" / "python")
        assert Checkout(tmp_path).interpreter() == (str(own), "its .venv")

    def test_this_one(self, tmp_path: Path) -> None:
        assert Checkout(tmp_path).interpreter() == (
            sys.executable, "this one: it has no .venv, and --python names none",
        )  # fmt: skip


class TestRefused:
    def test_the_folder_that_was_meant_is_named(self, tmp_path: Path) -> None:
        root = write_checkout(tmp_path / "tree")
        with pytest.raises(RequestError, match=f"^--acestep-root .*Did you mean {root}"):
            Checkout(root / "acestep").check(a_request())

    def test_a_python_that_is_none(self, tmp_path: Path) -> None:
        root = write_checkout(tmp_path / "tree")
        with pytest.raises(RequestError) as caught:
            Checkout(root, tmp_path / "python").check(a_request())
        assert str(caught.value) == (
            f"--python {tmp_path / 'python'} is no program that can be started; give the path of a Python"
        )

    @pytest.mark.parametrize(
        "arguments",
        [(None, Path("python"), False, []), (None, None, True, []), (None, None, False, ["dcw"])],
        ids=["python", "thread", "without"],
    )
    def test_how_without_what(self, arguments: tuple[Any, ...]) -> None:
        with pytest.raises(
            RequestError, match="says how a checkout is run; name the checkout with --acestep-root"
        ):
            Checkout.asked(*arguments)

    def test_a_default_that_cannot_be_switched_off(self, tmp_path: Path) -> None:
        checkout = Checkout(write_checkout(tmp_path / "tree"), without=("dcw", "guidance"))
        with pytest.raises(RequestError, match=r"^--without is 'guidance', expected dcw or thinking$"):
            checkout.check(a_request())

    def test_before_is_the_forks(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import lego_smoke

        monkeypatch.setattr(sys, "argv", ["lego_smoke.py", "--before", "--acestep-root", str(tmp_path)])
        assert lego_smoke.main() == 2
        assert capsys.readouterr().err == (
            "lego_smoke: --before runs this fork without the patches, --acestep-root a checkout in its place: "
            "give one\n"
        )


def as_usual(latents: np.ndarray, corrected: bool) -> np.ndarray:
    """The stand-in's final latents from its noise, with its correction or without."""
    for i in range(7):
        latents = latents - (latents + (1 - i / 7)) / 7
        latents = 1.5 * latents if corrected else latents
    return latents


@pytest.fixture
def judged(
    drive: Any, tiny_root: Callable[..., Path], tmp_path: Path
) -> Callable[..., tuple[Run, dict[str, str]]]:
    """judged(without, **habits): the run of a stand-in checkout with its findings, and the checks that fail."""

    def run(*without: str, **habits: Any) -> tuple[Run, dict[str, str]]:
        ran = drive(without=without, **habits)
        checkpoint = tiny_root() / "checkpoints" / "acestep-v15-base"
        found = with_findings(ran, tmp_path / "tree", checkpoint)
        return found, failing(found)

    return run


def apply_command(root: Path, patch: str) -> str:
    return shlex.join([sys.executable, str(FORK.parent / "patches"), "apply", str(root), "--series", patch])


class TestDefaults:
    """A run leaves what it was not asked for at the checkout's defaults, and names those that lose something."""

    def test_a_correction_that_is_on_by_default_fails_until_it_is_patched(
        self, judged: Callable[..., tuple[Run, dict[str, str]]], tmp_path: Path
    ) -> None:
        run, failed = judged(corrects=True)
        assert list(failed) == ["dcw"]
        assert failed["dcw"].startswith("the wavelet correction (DCW) is on by default, and base models")
        assert "give dcw_enabled=False, update to b751bd2 (2026-08-16) or later, or run " in failed["dcw"]
        assert apply_command(tmp_path / "tree", "dcw") in failed["dcw"]
        noise, latents = (run.tensors[name] for name in ("noise", "target_latents"))
        assert np.allclose(latents, as_usual(noise, corrected=True), atol=1e-5)

        for path in (EXECUTE, DIFFUSION, GENERATE):  # the kit looks for them
            (tmp_path / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "tree" / path).touch()
        assert kit(["apply", str(tmp_path / "tree"), "--series", "dcw"]) == 0
        run, failed = judged()
        assert failed == {}
        assert np.allclose(run.tensors["target_latents"], as_usual(noise, corrected=False), atol=1e-6)

    def test_the_correction_is_switched_off_where_that_is_asked_for(
        self, judged: Callable[..., tuple[Run, dict[str, str]]]
    ) -> None:
        run, failed = judged("dcw", corrects=True)
        assert failed == {}
        assert "switched off by --without dcw: dcw_enabled=False" in run.notes
        noise, latents = (run.tensors[name] for name in ("noise", "target_latents"))
        assert np.allclose(latents, as_usual(noise, corrected=False), atol=1e-6)

    def test_a_correction_that_a_checkout_does_not_have_is_not_judged_and_replaced_defaults_are_noted(
        self, right: SimpleNamespace, tiny_root: Callable[..., Path]
    ) -> None:
        run = with_findings(right.run, right.root, tiny_root() / "checkpoints" / "acestep-v15-base")
        assert failing(run) == {}
        assert list(run.findings) == ["context", "thinking"]
        replaced = "the checkout's own defaults, which this run's options replace"
        assert f"{replaced}: inference_steps 8, guidance_scale 7" in run.notes

    def test_audio_codes_of_a_language_model_fail(
        self, judged: Callable[..., tuple[Run, dict[str, str]]], tmp_path: Path
    ) -> None:
        _, failed = judged(asks_for="llm_dit")
        assert list(failed) == ["thinking"]
        assert failed["thinking"].startswith("audio codes are requested of a language model by default")
        assert apply_command(tmp_path / "tree", "codes") in failed["thinking"]

    def test_a_language_model_is_left_out_where_that_is_asked_for(
        self, judged: Callable[..., tuple[Run, dict[str, str]]]
    ) -> None:
        run, failed = judged("thinking", asks_for="llm_dit")
        assert failed == {}
        assert "switched off by --without thinking: thinking=False, use_cot_metas=False" in run.notes
        assert "thinking" not in run.findings

    def test_what_a_language_model_may_change_is_noted(
        self, judged: Callable[..., tuple[Run, dict[str, str]]]
    ) -> None:
        run, failed = judged(asks_for="dit")
        assert failed == {}
        assert run.notes[-1].startswith(
            "where a language model is loaded, it may change the request by use_cot_metas, which are on by default"
        )

    def test_a_switch_without_a_field_is_said(
        self, judged: Callable[..., tuple[Run, dict[str, str]]], tmp_path: Path
    ) -> None:
        write_checkout(tmp_path / "tree")
        inference = tmp_path / "tree" / "acestep" / "inference.py"
        text = inference.read_text().replace("    dcw_enabled: bool = True\n", "")
        inference.write_text(text.replace("params.dcw_enabled", "False"))
        run, _ = judged("dcw")
        assert "--without dcw switches nothing off: the checkout has no dcw_enabled" in run.notes


def test_a_context_that_became_silence_fails(tiny_root: Callable[..., Path]) -> None:

    from acestep.models.checkpoint.config import read_config
    from acestep.models.checkpoint.silence import load_silence_latent

    folder = tiny_root() / "checkpoints" / "acestep-v15-base"
    silence = load_silence_latent(folder, read_config(folder))[:, :6]

    def found(source: np.ndarray) -> str:
        context = np.concatenate([source, np.ones_like(source)], axis=-1)
        options: dict[str, Any] = {"dcw": None, "language_model": None, "replaced_defaults": {}}
        run = Run(7, [1.0] * 7, "cpu", 0.1, {}, {}, {"context_latents": context}, options=options)
        return with_findings(run, Path("its checkout"), folder).findings["context"]

    kept = silence.copy()
    kept[:, 3] += 0.1
    assert found(kept) == ""
    assert found(silence) == (
        "the context audio never reached the decoder: every frame of it was silence, and the stem fits its length "
        f"alone: update to 7f6e615 (2026-03-11) or later, or run {apply_command(Path('its checkout'), 'context')}"
    )


def test_pytorchs_own_hook_is_the_one_that_counts() -> None:
    import torch

    from patches.harness.counted_decoder import watch_torch
    from patches.harness.evaluations import Calls

    class Decoder(torch.nn.Module):
        def forward(
            self,
            hidden_states: torch.Tensor,
            timestep: torch.Tensor,
            timestep_r: torch.Tensor | None,
            encoder_hidden_states: torch.Tensor,
            context_latents: torch.Tensor,
        ) -> torch.Tensor:
            return hidden_states

    calls, decoder = Calls(batch_size=1), Decoder()
    watch_torch(decoder, calls)
    both_branches = torch.arange(4.0).reshape(2, 2, 1)
    decoder(
        both_branches,
        torch.full((2,), 0.5),
        None,
        encoder_hidden_states=both_branches,
        context_latents=both_branches,
    )
    assert calls.timesteps == [0.5]
    assert calls.first["hidden_states"].tolist() == [[[0.0], [1.0]]]  # the plain branch, its noise


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two layers by a checkout, the fork copied: the whole way, from the options to the report."""
    import lego_smoke

    folder = tmp_path_factory.mktemp("layered")
    shutil.copytree(FORK / "acestep", folder / "copy" / "acestep")
    before = contents(folder / "copy")
    layers = ["--layer", "drums", "--layer", "drums", "--gain-db", "-6"]
    arguments = ["lego_smoke.py", "--acestep-root", "copy", "--steps", "5", *layers, "--out", "out"]
    shown = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")
        patch.setattr(sys, "argv", arguments)
        status = lego_smoke.main()
    assert status == 0, shown.getvalue()
    return SimpleNamespace(
        said=shown.getvalue(), copy=folder / "copy", before=before, out=folder / "out" / "latest"
    )


def test_a_checkout_from_the_command_line(layered: SimpleNamespace) -> None:
    said = layered.said
    assert f"the checkout copy, copied to be run, under {sys.executable} (this one: " in said
    assert [line.split()[:4] for line in said.splitlines() if " drums  " in line] == [
        ["1", "drums", "5", "5"],
        ["2", "drums", "5", "5"],
    ]
    assert contents(layered.copy) == layered.before


def test_a_layer_is_generated_on_the_layers_before_it(layered: SimpleNamespace) -> None:
    import soundfile

    names = [
        "context.wav",
        "mix-1-drums.wav",
        "mix.wav",
        "report.html",
        "report.json",
        "stem-1-drums.wav",
        "stem-2-drums.wav",
    ]
    assert sorted(path.name for path in layered.out.iterdir()) == names
    report = json.loads((layered.out / "report.json").read_text())
    assert [(stem["context"], stem["gain_db"]) for stem in report["stems"]] == [
        ("smoke.wav", -6.0),
        ("mix-1-drums.wav", -6.0),
    ]
    context, first, second, growing, final = (
        soundfile.read(path)[0]
        for path in (
            FORK.parent / "scripts/smoke.wav",
            *(layered.out / f"{name}.wav" for name in ("stem-1-drums", "stem-2-drums", "mix-1-drums", "mix")),
        )
    )
    assert np.abs(first - second).max() > 1e-5, "the context is another; the tiny VAE shows little of it"
    gains = report["mix_gains"]
    gain = 10 ** (-6 / 20)
    assert np.abs(growing - gains["mix-1-drums.wav"] * (context + gain * first)).max() < 1e-6
    assert np.abs(final - gains["mix.wav"] * (context + gain * (first + second))).max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--track", "bass", "--layer", "drums"],
            "--track generates each stem on the context alone, --layer on the context and the layers before: give one",
        ),
        (
            ["--layer", "drums", "--seed", "1", "--seed", "2"],
            "--seed is given 2 times, --layer takes one value of it: run it again for another",
        ),
        (["--gain-db", "-3"], "--gain-db is the gain of layers; give them with --layer, or leave it out"),
        (["--layer", "drums", "--gain-db", "99"], "--gain-db is 99, expected a number from -60 to 12"),
    ],
    ids=["track and layer", "two seeds", "gain without layers", "gain"],
)
def test_layers_that_cannot_be_are_refused(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import lego_smoke

    monkeypatch.setattr(sys, "argv", ["lego_smoke.py", *arguments])
    assert lego_smoke.main() == 2
    assert capsys.readouterr().err.strip() == f"lego_smoke: {sentence}"


# Each line is of one process. torch.compile comes first: there PyTorch is first imported during an evaluation.
COMPUTED_BY = (
    ("torch.compile", "torch.jit", "torch in a thread", "mlx beside torch"),
    ("numpy", "ctypes", "program"),
)


class TestCheats:
    """What a checkout does besides, or instead of, what it says is named in one sentence."""

    def test_hidden_evaluations_are_counted(self, drive: Any) -> None:
        run = drive(hidden_evaluations=3)
        assert failing(run) == {"steps": "7 steps were requested, the decoder was evaluated 28 times"}

    def test_each_decoder_inside_one_compiled_step_is_counted(self, drive: Any) -> None:
        run = drive(compiles=True, twice=True)
        assert failing(run) == {"steps": "7 steps were requested, the decoder was evaluated 14 times"}

    @pytest.fixture(scope="class")
    @staticmethod
    def computed_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], dict[str, Run]]:
        """computed_by(kinds): a run for each kind of velocity, all in one process."""

        @cache
        def run(kinds: tuple[str, ...]) -> dict[str, Run]:
            folder = tmp_path_factory.mktemp("computed")
            root = write_checkout(folder / "tree", computed_by=kinds)
            tree = Tree(root, Path("checkpoints/acestep-v15-base"), folder=root)
            requests = [a_request(seed=seed) for seed in range(len(kinds))]
            runs = [run for run, _ in run_tree(tree, requests, folder / "run")]
            return dict(zip(kinds, runs, strict=True))

        return run

    @pytest.mark.parametrize(
        ("by", "kinds"),
        [pytest.param(by, kinds, id=by) for kinds in COMPUTED_BY for by in kinds if not by.startswith("mlx")],
    )
    def test_a_velocity_that_mlx_did_not_compute(
        self, computed_by: Callable[[tuple[str, ...]], dict[str, Run]], by: str, kinds: tuple[str, ...]
    ) -> None:
        """Right numbers, so that nothing but the way they were made gives it away.

        torch.compile fails after the first, inside a block in which PyTorch's calls are counted.
        """
        counts = "1 of 2" if by == "torch.compile" else "7 of 7"
        assert failing(computed_by(kinds)[by])["backend"].startswith(
            f"MLX was requested, but in {counts} evaluations the decoder's velocity was not computed from the latents"
        )

    def test_pytorch_behind_an_mlx_name(
        self, computed_by: Callable[[tuple[str, ...]], dict[str, Run]]
    ) -> None:
        assert failing(computed_by(COMPUTED_BY[0])["mlx beside torch"]) == {
            "backend": "MLX was requested, but the decoder that goes by its name made 7 matmuls in PyTorch "
            "in 7 evaluations"
        }

    def test_a_stored_second_stem(self, tmp_path: Path) -> None:
        root = write_checkout(tmp_path / "tree", stores=True)
        tree = Tree(root, Path("checkpoints/acestep-v15-base"), folder=root)
        (_, _), (run, _) = run_tree(tree, [a_request(), a_request(seed=7)], tmp_path / "run")
        assert failing(run) == {"steps": "7 steps were requested, the decoder was evaluated 0 times"}

    def test_noise_that_ignores_the_seed(self, drive: Any) -> None:
        from smoke.origin import noise_distance

        run = drive(seed=3)
        distance = noise_distance(a_request(), run)
        assert distance is not None
        assert distance > 1
        assert noise_distance(a_request(seed=3), run) == 0.0

    def test_another_prompt(self, drive: Any) -> None:
        expected = {"prompt": "the text encoder was never given 'lego of drums'"}
        assert failing(drive(tokenizes="a prompt about brass")) == expected

    def test_the_requested_prompt(self, drive: Any) -> None:
        assert drive(tokenizes="a prompt about lego of drums").prompt == ""


@pytest.fixture
def decoded(tiny_root: Callable[..., Path], tmp_path: Path) -> Callable[[int], Any]:
    """decoded(frames): a VAE, a run with random final latents, and the WAV that they decode to."""
    import torch

    from smoke.origin import load_vae
    from smoke.report import write_wav

    vae = load_vae(tiny_root() / "checkpoints" / "acestep-v15-base")

    def make(frames: int) -> tuple[Any, Run, Path]:
        latents = torch.randn(1, frames, 8, generator=torch.Generator().manual_seed(frames))
        with torch.inference_mode():
            sound = vae.decode(latents.transpose(1, 2)).sample[0].numpy().T
        run = Run(1, [1.0], "cpu", 0.1, {}, {}, {"target_latents": latents.numpy()})
        wav = tmp_path / "stem.wav"
        write_wav(wav, 0.3 * sound / np.abs(sound).max())
        return vae, run, wav

    return make


@pytest.mark.parametrize("frames", [3, 30, 150])
def test_a_stem_is_recognised_as_what_its_latents_decode_to(
    decoded: Callable[[int], Any], frames: int
) -> None:
    from smoke.origin import decoded_distance

    assert decoded_distance(*decoded(frames)) < 1e-2


def test_a_stem_that_is_the_context_or_of_other_latents_is_told(decoded: Callable[[int], Any]) -> None:
    from smoke.judge import DECODED_BOUND
    from smoke.origin import decoded_distance

    vae, run, wav = decoded(150)
    other = Run(
        1, [1.0], "cpu", 0.1, {}, {}, {"target_latents": np.flip(run.tensors["target_latents"], 1).copy()}
    )
    assert decoded_distance(vae, other, wav) > 10 * DECODED_BOUND
    assert decoded_distance(vae, run, FORK.parent / "scripts" / "smoke.wav") > 10 * DECODED_BOUND


def test_a_checkpoint_is_found_by_a_dot_and_by_a_link(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkpoint)
    monkeypatch.chdir(checkpoint)
    assert located(Path(".")) == located(link) == located(checkpoint) == checkpoint
    assert located(None) is None
