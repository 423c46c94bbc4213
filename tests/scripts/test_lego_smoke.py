"""The smoke run as a person types it."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.warm_process import subprocess_by_fork

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "lego_smoke.py"


def smoke(
    *arguments: str | Path, folder: Path, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs the script in `folder`, on a wide terminal."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    environment = {**(environment or os.environ), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple["subprocess.CompletedProcess[str]", Path]:
    """`make smoke` with its defaults but for fewer steps than 50, so that 8 is not among the right answers."""
    folder = tmp_path_factory.mktemp("first run")
    return smoke("--steps", "11", "--guidance-scale", "7", folder=folder), folder


def test_it_succeeds_and_shows_before_and_after(
    first_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    run, _ = first_run
    assert run.returncode == 0, run.stderr
    rows = {
        line.split(":")[0]: line.split()
        for line in run.stdout.splitlines()
        if line.startswith(("before", "after"))
    }
    assert rows["before"][:5] == ["before:", "patches", "reverted", "11", "8"]
    assert rows["after"][:5] == ["after:", "this", "fork", "11", "11"]


PARTS = [
    "preparing", "loading", "encoding the context", "11 steps", "decoding the stem",
    "before: loading", "before: encoding the context", "before: 11 steps", "before: decoding the stem",
    "comparing with PyTorch at all steps on cpu", "writing the report",
]  # fmt: skip


def test_off_a_terminal_every_long_part_has_a_plain_line(
    first_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    run, _ = first_run
    lines = run.stderr.splitlines()
    assert [line.rpartition(": ")[0].partition(", expected")[0] for line in lines] == PARTS
    assert all(line.rpartition(" ")[2] in ("s", "ms") for line in lines)
    assert set("\r\x1b").isdisjoint(run.stderr + run.stdout)


def processes_of(folder: Path) -> list[str]:
    """The command lines in which a folder is named."""
    listed = subprocess.run(["ps", "-wweo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line]


def test_ctrl_c_ends_all_of_it_within_a_second_and_leaves_nothing(
    tmp_path: Path, tiny_root: Callable[..., Path]
) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--checkpoint",
        str(tiny_root() / "checkpoints" / "acestep-v15-base"),
        "--steps",
        "1000",
        "--out",
        str(tmp_path / "new" / "out"),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert any(line.startswith("vocals for") for line in process.stdout)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    said, _ = process.communicate()
    assert time.monotonic() - start < 1.0
    assert said.splitlines()[-1] == "lego_smoke: stopped; nothing was written"
    assert "Traceback" not in said
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_report_stem_and_mix_are_written(first_run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, folder = first_run
    out = folder / "out" / "lego" / "latest"
    assert sorted(path.name for path in out.iterdir()) == [
        "context.wav",
        "mix.wav",
        "report.html",
        "report.json",
        "stem.wav",
    ]
    report = json.loads((out / "report.json").read_text())
    assert report["ok"] is True
    assert report["evaluated_by_checkout"] == {"before: patches reverted": 8, "after: this fork": 11}
    assert len(report["timesteps"]) == report["requested"] == 11
    assert [stage["distance"] <= stage["bound"] for stage in report["stages"]] == 4 * [True]
    assert {check["name"] for check in report["checks"] if check["holds"]} == {
        "backend", "steps", "prompt", "schedule", "latents", "noise", "decoding", "length", "sound", "clipping",
    }  # fmt: skip


def test_the_stem_is_as_long_as_the_context_and_the_mix_is_their_sum(
    first_run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, folder = first_run
    out = folder / "out" / "lego" / "latest"
    context, rate = soundfile.read(REPOSITORY / "scripts" / "smoke.wav")
    stem, stem_rate = soundfile.read(out / "stem.wav")
    mix, _ = soundfile.read(out / "mix.wav")
    gain = json.loads((out / "report.json").read_text())["mix_gain"]
    assert (rate, stem_rate) == (48000, 48000)
    assert stem.shape == context.shape
    assert np.abs(mix - gain * (context + stem)).max() < 1e-6
    assert np.abs(mix).max() <= 10 ** (-1 / 20) + 1e-6


WORDS = [
    "--caption",
    "dry kit",
    "--lyrics",
    "la",
    "--bpm",
    "160",
    "--key",
    "A minor",
    "--start",
    "1",
    "--end",
    "4",
]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> tuple["subprocess.CompletedProcess[str]", Path]:
    """Two tracks in one call, on PyTorch, with words and a range; on Linux in a fork of this process, which has
    imported PyTorch."""
    import lego_smoke

    from smoke import process

    out = tmp_path_factory.mktemp("several") / "out"
    tracks = ["--track", "drums", "--track", "bass", "--backend", "torch"]
    sampled = ["--compare", "sampled", "--compare-steps", "2"]
    arguments = ["lego_smoke.py", "--steps", "3", *tracks, *WORDS, *sampled, "--out", str(out)]
    shown, complaints = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown), redirect_stderr(complaints):
        patch.setattr(sys, "argv", arguments)
        patch.setenv("COLUMNS", "200")
        patch.setattr(process, "subprocess", subprocess_by_fork)
        status = lego_smoke.main()
    run = subprocess.CompletedProcess(arguments, status, shown.getvalue(), complaints.getvalue())
    return run, out / "latest"


def test_torch_is_counted_too_and_takes_words_and_a_range(
    several: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    run, out = several
    assert run.returncode == 0, run.stderr
    report = json.loads((out / "report.json").read_text())
    assert (report["evaluated"], report["device"]) == (3, "cpu")
    assert report["stages"][1]["name"] == "velocity at steps 1, 3"
    # The same decoder; for the comparison the two steps are one batch, which rounds in another order.
    assert report["stages"][1]["distance"] < 1e-6
    assert "comparing with PyTorch at 2 of 3 steps on cpu" in run.stderr


def test_several_tracks_have_a_row_and_a_stem_each_and_one_mix(
    several: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    run, out = several
    rows = [line.split()[:3] for line in run.stdout.splitlines() if line.startswith(("drums ", "bass "))]
    assert rows == [["drums", "3", "3"], ["bass", "3", "3"]]
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "context.wav",
        "mix.wav",
        "report.html",
        "report.json",
        "stem-bass.wav",
        "stem-drums.wav",
    ]
    context, drums, bass, mix = (
        soundfile.read(path)[0]
        for path in (
            REPOSITORY / "scripts" / "smoke.wav", out / "stem-drums.wav", out / "stem-bass.wav", out / "mix.wav",
        )
    )  # fmt: skip
    gain = json.loads((out / "report.json").read_text())["mix_gain"]
    assert np.abs(mix - gain * (context + drums + bass)).max() < 1e-6
    assert np.abs(drums - bass).max() > 0.01, "the track reaches the instruction"
    assert f"2 stems (stem-*.wav), mix.wav (stems over context, gain {gain:.2f})" in run.stdout


def text_wav(folder: Path) -> Path:
    path = folder / "text.wav"
    path.write_text("this is not audio")
    return path


REFUSED = {
    "steps 0": (["--steps", "0"], 2, "lego_smoke: inference_steps is 0, expected a whole number from 1 to 1000"),
    "steps -5": (["--steps", "-5"], 2, "lego_smoke: inference_steps is -5, expected a whole number from 1 to 1000"),
    "steps 2.5": (
        ["--steps", "2.5"], 2, "lego_smoke: Invalid value for '--steps': '2.5' is not a whole number; see --help",
    ),
    "steps many": (
        ["--steps", "many"], 2, "lego_smoke: Invalid value for '--steps': 'many' is not a whole number; see --help",
    ),
    "steps 10**9": (
        ["--steps", "1000000000"], 2,
        "lego_smoke: inference_steps is 1000000000, expected a whole number from 1 to 1000",
    ),
    "no such track": (
        ["--track", "vocal"], 2,
        "lego_smoke: track is 'vocal', expected one of backing_vocals, bass, brass, drums, fx, guitar, keyboard, "
        "percussion, strings, synth, vocals, woodwinds; the nearest is 'vocals'",
    ),
    "track twice": (
        ["--track", "all", "--track", "drums"], 2,
        "lego_smoke: --track drums is asked for twice; each gives a stem: give it once",
    ),
    "a track twice under another spelling": (
        ["--track", "backing_vocals", "--track", "Backing Vocals"], 2,
        "lego_smoke: --track backing_vocals is asked for twice; each gives a stem: give it once",
    ),
    "seed twice": (
        ["--seed", "1", "--seed", "1"], 2, "lego_smoke: --seed 1 is asked for twice; each gives a stem: give it once",
    ),
    "guidance twice": (
        ["--guidance-scale", "3", "--guidance-scale", "3.0"], 2,
        "lego_smoke: --guidance-scale 3 is asked for twice; each gives a stem: give it once",
    ),
    "one guidance of two": (
        ["--guidance-scale", "3", "--guidance-scale", "0.5"], 2,
        "lego_smoke: guidance_scale is 0.5; between 0 and 1 it would have no effect: give 1 for no guidance, or "
        "more than 1",
    ),
    "layers of several shifts": (
        ["--layer", "drums", "--layer", "bass", "--shift", "1", "--shift", "3"], 2,
        "lego_smoke: --shift is given 2 times, --layer takes one value of it: run it again for another",
    ),
    "guidance nan": (
        ["--guidance-scale", "nan"], 2, "lego_smoke: guidance_scale is nan, expected a number of at least 0",
    ),
    "guidance -1": (
        ["--guidance-scale", "-1"], 2, "lego_smoke: guidance_scale is -1.0, expected a number of at least 0",
    ),
    "guidance 0.5": (
        ["--guidance-scale", "0.5"], 2,
        "lego_smoke: guidance_scale is 0.5; between 0 and 1 it would have no effect: give 1 for no guidance, or "
        "more than 1",
    ),
    "shift 0": (["--shift", "0"], 2, "lego_smoke: shift is 0.0, expected a number above 0"),
    "shift -1": (["--shift", "-1"], 2, "lego_smoke: shift is -1.0, expected a number above 0"),
    "seed -1": (["--seed", "-1"], 2, "lego_smoke: seed is -1, expected a whole number from 0 to 4294967295"),
    "bpm 10": (["--bpm", "10"], 2, "lego_smoke: bpm is 10, expected a whole number from 30 to 300"),
    "start -1": (
        ["--start", "-1"], 2, "lego_smoke: repainting_start is -1.0, expected a number of at least 0",
    ),
    "end 0": (
        ["--end", "0"], 2,
        "lego_smoke: --end is 0, expected -1 (to the end) or more seconds than --start, which is 0",
    ),
    "end -0.5": (
        ["--end", "-0.5"], 2,
        "lego_smoke: --end is -0.5, expected -1 (to the end) or more seconds than --start, which is 0",
    ),
    "beyond the context": (
        ["--start", "3", "--end", "9"], 2,
        "lego_smoke: --start 3 --end 9 is not within the context, which lasts 6.00 s",
    ),
    "no such device": (["--device", "gpu"], 2, "lego_smoke: device is 'gpu', expected auto, cpu, mps or cuda"),
    "no such comparison": (
        ["--compare", "half"], 2, "lego_smoke: --compare is 'half', expected full, sampled or none",
    ),
    "no such backend": (["--backend", "cuda"], 2, "lego_smoke: backend is 'cuda', expected mlx or torch"),
    "no such dtype": (
        ["--dtype", "int8"], 2, "lego_smoke: dtype is 'int8', expected float32, float16, bfloat16, 8bit or 4bit",
    ),
    "bits on PyTorch": (
        ["--dtype", "8bit", "--backend", "torch"], 2,
        "lego_smoke: --dtype 8bit is of the MLX decoder; leave --backend torch out",
    ),
    "one seed of two": (
        ["--seed", "1", "--seed", "-1"], 2, "lego_smoke: seed is -1, expected a whole number from 0 to 4294967295",
    ),
    "no such option": (["--step", "3"], 2, None),
    "no such context": (
        ["--context", "none.wav"], 3,
        "lego_smoke: context audio none.wav does not exist; give a WAV, FLAC, OGG or MP3 file",
    ),
    "no such checkpoint": (
        ["--checkpoint", "none"], 3,
        "lego_smoke: checkpoint folder none does not exist; give one that holds config.json (upstream's layout) or "
        "model_index.json (diffusers')",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence_with_nothing_written(
    arguments: list[str],
    status: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import lego_smoke

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lego_smoke.py", *arguments])
    assert lego_smoke.main() == status
    errors = capsys.readouterr().err.strip()
    assert sentence is None or errors == sentence
    assert len(errors.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_cannot_be_written_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import lego_smoke

    occupied = tmp_path / "occupied"
    occupied.write_text("a file")
    monkeypatch.setattr(sys, "argv", ["lego_smoke.py", "--out", str(occupied)])
    assert lego_smoke.main() == 2
    expected = (
        f"lego_smoke: --out {occupied} cannot be written to (it is a file); "
        f"give a folder in which a new one can be made"
    )
    assert capsys.readouterr().err.strip() == expected
    assert occupied.read_text() == "a file"


def test_a_context_whose_name_is_not_utf_8_serves_and_no_pytorch_is_needed(
    tmp_path: Path, environment_without_torch: dict[str, str], make_context: Callable[..., Path]
) -> None:
    """Its name is quoted on the screen, in report.json and on the page, which stay valid UTF-8."""
    context = tmp_path / os.fsdecode(b"song\x97.wav")
    context.write_bytes(make_context(1.0).read_bytes())
    arguments: list[str | Path] = ["--context", context, "--steps", "2", "--compare", "none"]
    run = smoke(*arguments, folder=tmp_path, environment=environment_without_torch)
    assert run.returncode == 0, run.stderr
    assert "PASS, not compared with PyTorch (--compare none)" in run.stdout
    assert "vocals for song\\udc97.wav" in run.stdout
    out = tmp_path / "out" / "lego" / "latest"
    report = (out / "report.json").read_bytes().decode("utf-8")
    assert json.loads(report)["request"]["context"] == str(context), "the path can be opened again"
    assert "song\\udc97.wav" in (out / "report.html").read_bytes().decode("utf-8")


def test_a_comparison_without_pytorch_costs_no_stem(
    tmp_path: Path, environment_without_torch: dict[str, str], make_context: Callable[..., Path]
) -> None:
    arguments: list[str | Path] = ["--no-before", "--context", make_context(1.0), "--steps", "2"]
    run = smoke(*arguments, folder=tmp_path, environment=environment_without_torch)
    assert run.returncode == 3, run.stderr
    assert "INCOMPLETE, not compared with PyTorch (" in run.stdout
    assert "No module named 'torch'" in run.stdout
    assert (tmp_path / "out" / "lego" / "latest" / "stem.wav").is_file()


def test_pytorch_is_refused_by_the_option_that_chose_it(
    tmp_path: Path, environment_without_torch: dict[str, str]
) -> None:
    arguments = ("--backend", "torch", "--no-before", "--steps", "2")
    run = smoke(*arguments, folder=tmp_path, environment=environment_without_torch)
    assert run.returncode == 3
    assert "lego_smoke: PyTorch was chosen with --backend torch, but torch, diffusers" in run.stderr


@pytest.mark.parametrize(
    ("module", "late"),
    [
        ("acestep.inference", "mlx tokenizers safetensors tqdm"),
        ("lego_smoke", "mlx safetensors tqdm matplotlib jinja2 acestep.models.tiny"),
    ],
)
def test_what_takes_long_to_import_is_imported_where_it_is_needed(module: str, late: str) -> None:
    program = f"import sys, {module}; print(*sorted(set({late.split()}) & set(sys.modules)))"
    folders = (REPOSITORY / "scripts", REPOSITORY / "ACE-Step-1.5", REPOSITORY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout == "\n"


def test_an_out_that_is_not_utf_8_is_refused_where_the_tiny_checkpoint_is_to_be_below_it(
    tmp_path: Path,
) -> None:
    run = smoke("--out", tmp_path / os.fsdecode(b"out\x97"), folder=tmp_path)
    assert run.returncode == 2
    (sentence,) = [line for line in run.stderr.splitlines() if line.startswith("lego_smoke")]
    assert sentence.startswith(
        f"lego_smoke: --out {tmp_path}/out\\udc97 has bytes in its path that are not UTF-8"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_out_whose_name_is_too_long_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import lego_smoke

    out = tmp_path / ("x" * 300)
    monkeypatch.setattr(sys, "argv", ["lego_smoke.py", "--out", str(out)])
    assert lego_smoke.main() == 2
    assert capsys.readouterr().err.strip() == (
        f"lego_smoke: --out {out} cannot be written to (File name too long); "
        f"give a folder in which a new one can be made"
    )


def test_help_lists_every_option(tmp_path: Path) -> None:
    run = smoke("--help", folder=tmp_path)
    assert run.returncode == 0
    for option in (
        "context",
        "track",
        "steps",
        "guidance-scale",
        "shift",
        "seed",
        "checkpoint",
        "backend",
        "device",
    ):
        assert f"--{option}" in run.stdout
