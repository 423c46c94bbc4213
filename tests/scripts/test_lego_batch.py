"""scripts/lego_batch.py as its user meets it: many songs, each made once, none lost, failures named."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from acestep.errors import AudioError, OutputError, RequestError
from batch.keys import key_of
from batch.manifest import ManifestError, Song, read_manifest
from batch.results import Batch, prepare, read_result
from batch.summary import write_summary
from batch.worker import Model, Worker, publish
from smoke.request import Request

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "lego_batch.py"
SHARED = Request(Path(), None, "vocals", 50, 1.0, 1.0, 42, "mlx", "auto")
RATE = 48_000


def run(
    *arguments: str, cwd: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def write_songs(folder: Path, count: int) -> None:
    """s0.wav, s1.wav, ..., each of another pitch and 1.5 s long."""
    for number in range(count):
        wave = 0.4 * np.sin(2 * np.pi * 110 * (number + 1) * np.arange(1.5 * RATE) / RATE)
        soundfile.write(folder / f"s{number}.wav", np.stack([wave, wave], axis=1), RATE)


def manifest_of(folder: Path, text: str, name: str = "songs.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def digests(folder: Path) -> dict[str, str]:
    """Of every file of every result, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*/*"))
    }


class TestManifest:
    def test_json_lines(self, tmp_path: Path) -> None:
        path = manifest_of(
            tmp_path,
            '{"context": "a.wav", "tracks": ["drums", "bass"], "steps": 8, "caption": "dry"}\n\n'
            '{"context": "sub/b.wav", "layers": ["drums", "vocals"], "seed": 7, "gain_db": -3, "bpm": 90}\n',
        )
        first, second = read_manifest(path, SHARED)
        assert (first.line, second.line) == (1, 3)
        assert [(r.track, r.layer, r.steps, r.caption) for r in first.requests] == [
            ("drums", None, 8, "dry"),
            ("bass", None, 8, "dry"),
        ]
        assert [(r.track, r.layer, r.seed, r.gain_db, r.bpm) for r in second.requests] == [
            ("drums", 1, 7, -3.0, 90),
            ("vocals", 2, 7, -3.0, 90),
        ]
        assert first.requests[0].context == tmp_path / "a.wav"
        assert second.name == "b.wav: drums, vocals"

    def test_csv(self, tmp_path: Path) -> None:
        path = manifest_of(
            tmp_path,
            'context,tracks,layers,bpm,guidance_scale\na.wav,drums bass,,120,\n"b, c.wav",,vocals,,3\n',
            "songs.csv",
        )
        first, second = read_manifest(path, SHARED)
        assert [(r.track, r.bpm, r.guidance_scale) for r in first.requests] == [
            ("drums", 120, 1.0),
            ("bass", 120, 1.0),
        ]
        assert (second.line, second.requests[0].layer, second.requests[0].guidance_scale) == (3, 1, 3.0)
        assert second.requests[0].context.name == "b, c.wav"

    def test_all_stands_for_the_twelve_tracks(self, tmp_path: Path) -> None:
        (song,) = read_manifest(manifest_of(tmp_path, '{"context": "a.wav", "tracks": ["all"]}'), SHARED)
        assert len({request.track for request in song.requests}) == 12

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "it cannot be read (Expecting property name enclosed in double quotes at column 2)"),
            ("[1]", "it holds [1], expected an object with context and tracks or layers"),
            ('{"tracks": ["drums"]}', "it has no context"),
            ('{"context": "a.wav"}', "it has neither tracks nor layers, expected one of them"),
            ('{"context": "a.wav", "tracks": ["bass"], "layers": ["bass"]}', "it has tracks and layers, expected one"),
            ('{"context": "a.wav", "tracks": "drums"}', "tracks is 'drums', expected a list of track names"),
            ('{"context": "a.wav", "tracks": []}', "tracks is [], expected a list of track names"),
            ('{"context": "a.wav", "tracks": ["bass"], "seed": "7"}', "seed is '7', expected a whole number"),
            ('{"context": "a.wav", "tracks": ["bass"], "steps": true}', "steps is True, expected a whole number"),
            ('{"context": "a.wav", "tracks": ["bass"], "tempo": 7}', "'tempo' is not known, expected context, tracks"),
            ('{"context": "a", "tracks": ["bass"], "gain_db": -3}', "gain_db is the gain of layers, and it has tracks"),
            (
                '{"context": "a.wav", "tracks": ["bass", "bass"]}',
                "the track bass is asked for twice; each gives a stem: give it once",
            ),
            (
                '{"context": "a.wav", "tracks": ["Backing Vocals", "backing_vocals"]}',
                "the track backing_vocals is asked for twice; each gives a stem: give it once",
            ),
            ('{"context": "a.wav", "tracks": ["all", "DRUMS"]}', "the track drums is asked for twice"),
            ('{"context": "a.wav", "seed": 1, "seed": 2}', "it cannot be read ('seed' is given twice)"),
            (f'{{"context": "a.wav", "seed": {"9" * 5001}}}', "it cannot be read (Exceeds the limit"),
            (f'{{"context": "a", "tracks": ["bass"], "shift": 1{"0" * 400}}}', "shift is inf, expected a number"),
            (f'{{"context": "a", "layers": ["bass"], "gain_db": -1{"0" * 400}}}', "--gain-db is -inf, expected"),
            ("[" * 5001, "it cannot be read (its brackets are nested too deeply)"),
            ('{"context": "a.wav", "tracks": ["violin"]}', "'violin'"),
            ('{"context": "a.wav", "tracks": ["bass"], "steps": 0}', "0"),
        ],
    )  # fmt: skip
    def test_a_wrong_line_is_named(self, tmp_path: Path, line: str, problem: str) -> None:
        path = manifest_of(tmp_path, f'{{"context": "a.wav", "tracks": ["bass"]}}\n{line}\n')
        with pytest.raises(ManifestError) as refused:
            read_manifest(path, SHARED)
        (sentence,) = str(refused.value).splitlines()
        assert sentence.startswith(f"{path}, line 2: ")
        assert problem in sentence

    @pytest.mark.parametrize(
        ("name", "text", "problem"),
        [
            ("songs.txt", "", "its name ends in '.txt', expected .jsonl or .csv"),
            ("songs.jsonl", "\n", "names no song; give one a line, with context and tracks or layers"),
            ("songs.csv", "context,tracks\n", "names no song"),
            ("songs.csv", "context,tracks,context\na,bass,b\n", "the column 'context' is given twice"),
            (
                "songs.csv",
                "context,tracks\na.wav,bass,7\n",
                "line 2: it cannot be read (more cells than the first",
            ),
            (
                "songs.csv",
                "context,tracks,seed\na.wav,bass,x\n",
                "line 2: seed is 'x', expected a whole number",
            ),
        ],
    )
    def test_a_file_that_is_no_manifest(self, tmp_path: Path, name: str, text: str, problem: str) -> None:
        with pytest.raises(ManifestError, match=re.escape(problem)):
            read_manifest(manifest_of(tmp_path, text, name), SHARED)

    def test_a_manifest_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(
            RequestError, match=r"none\.csv cannot be read as CSV \(No such file or directory\)"
        ):
            read_manifest(tmp_path / "none.csv", SHARED)


class TestKeys:
    def songs(self, folder: Path, *lines: str) -> Any:
        return read_manifest(manifest_of(folder, "\n".join(lines)), SHARED)

    def test_names_do_not_count_and_contents_do(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(b"one")
        (tmp_path / "b.wav").write_bytes(b"one")
        (tmp_path / "c.wav").write_bytes(b"two")
        lines = [f'{{"context": "{name}.wav", "tracks": ["bass"]}}' for name in "abc"]
        a, b, c = (key_of(song, "model") for song in self.songs(tmp_path, *lines))
        assert a == b != c

    def test_every_option_and_the_model_count(self, tmp_path: Path) -> None:
        (tmp_path / "a.wav").write_bytes(b"one")
        start = '{"context": "a.wav", "layers": ["bass"]'
        options = {
            "seed": 1,
            "steps": 9,
            "bpm": 90,
            "caption": "x",
            "gain_db": -1,
            "guidance_scale": 2,
            "shift": 2,
        }
        lines = [
            f"{start}}}",
            *(f'{start}, "{name}": {json.dumps(value)}}}' for name, value in options.items()),
        ]
        songs = [*self.songs(tmp_path, *lines, '{"context": "a.wav", "tracks": ["bass"]}')]
        keys = [key_of(song, "model") for song in songs] + [key_of(songs[0], "another model")]
        assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("file", ["stem.wav", "result.json"])
def test_a_result_that_was_changed_is_moved_aside_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def make(worker: Worker, song: Song, folder: Path) -> Any:
        (folder / "stem.wav").write_bytes(b"as it was made")
        stem = {"label": "bass", "file": "stem.wav", "requested": 3, "evaluated": 3, "checks": []}
        return {"ok": True, "stems": [stem], "mixes": {}}

    def prepared() -> tuple[list[str], list[str], list[str]]:
        """Keys of the results, keys of the missing ones, notes."""
        batch = Batch(songs, out)
        missing = prepare(batch, tmp_path, tmp_path)
        return list(batch.results), list(missing), batch.notes

    monkeypatch.setattr("batch.results.model_key", lambda *_: "model")
    monkeypatch.setattr(Worker, "_make", make)
    (tmp_path / "s0.wav").write_bytes(b"a song")
    line = '{"context": "s0.wav", "tracks": ["bass"]}\n'
    songs, out = read_manifest(manifest_of(tmp_path, 2 * line), SHARED), tmp_path / "out"
    worker, (key,) = Worker(Model(tmp_path, tmp_path, {}), out), prepared()[1]
    assert worker.run(key, songs[0]) == ""
    assert prepared() == ([key], [], [])
    (out / key / file).write_bytes(b"something else")
    found = "has no result.json of a batch" if file == "result.json" else "stem.wav changed since it was made"
    results, missing, (note,) = prepared()
    assert (results, missing) == ([], [key])
    assert note.endswith(f"{found}; it is now {key}-changed-1, and is made again")
    assert (out / f"{key}-changed-1" / file).read_bytes() == b"something else"
    assert worker.run(key, songs[0]) == ""
    assert prepared() == ([key], [], [])
    worker.close()


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_context_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    {"pipe": os.mkfifo, "device": lambda at: at.symlink_to("/dev/zero"), "folder": Path.mkdir}[kind](path)
    (song,) = read_manifest(manifest_of(tmp_path, '{"context": "a.wav", "tracks": ["bass"]}'), SHARED)
    with pytest.raises(AudioError, match=r"a\.wav is not a file; give a WAV"):
        key_of(song, "model")


def test_of_two_results_the_first_one_stays(tmp_path: Path) -> None:
    for name, text in (("one", "first"), ("two", "second")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "stem.wav").write_text(text)
        publish(tmp_path / name, tmp_path / "key")
    assert (tmp_path / "key" / "stem.wav").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_the_summary_shows_what_failed_and_what_it_cannot_measure(tmp_path: Path) -> None:
    songs = read_manifest(
        manifest_of(
            tmp_path, '{"context": "<b>.wav", "tracks": ["bass"]}\n{"context": "b.wav", "tracks": ["drums"]}'
        ),
        SHARED,
    )
    check = {"name": "sound", "holds": False, "sentence": "the stem contains NaN; those samples are silence"}
    stem = {
        "label": "drums",
        "file": "stem.wav",
        "requested": 50,
        "evaluated": 8,
        "rms": None,
        "checks": [check],
    }
    result = {"ok": False, "seconds": 2.0, "stems": [stem], "mixes": {"mix.wav": 0.5}}
    batch = Batch(songs, tmp_path, {1: "", 2: "k2"}, {1: "context audio <b>.wav is silent"}, {"k2": result})
    write_summary(batch, tmp_path / "index.html", tmp_path)
    page = (tmp_path / "index.html").read_text()
    for shown in (
        "<h1>0 of 2 songs</h1>",
        "✗ 2 failed",
        "&lt;b&gt;.wav: bass",
        "context audio &lt;b&gt;.wav is silent",
        '<td data-label="evaluated" class="bad">8 of 50</td><td data-label="level">contains NaN</td>',
        'href="k2/stem.wav"',
        'src="k2/mix.wav"',
        "the stem contains NaN; those samples are silence",
    ):
        assert shown in page


MANIFEST = (
    '{"context": "s0.wav", "layers": ["drums", "bass"], "steps": 3, "gain_db": -6}\n'
    '{"context": "broken.wav", "tracks": ["vocals"], "steps": 3}\n'
    '{"context": "none.wav", "tracks": ["vocals"], "steps": 3}\n'
    '{"context": "s1.wav", "tracks": ["vocals", "bass"], "steps": 4}\n'
    '{"context": "copy.wav", "tracks": ["vocals", "bass"], "steps": 4}\n'
    '{"context": "s1.wav", "tracks": ["vocals"], "steps": 4, "start": 30}\n'
)


@pytest.fixture(scope="module")
def batch(
    tmp_path_factory: pytest.TempPathFactory, environment_without_torch: dict[str, str]
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A batch on this machine, which needs no PyTorch: of six songs two are the same, and three cannot be made."""
    folder = tmp_path_factory.mktemp("it's a batch")
    write_songs(folder, 2)
    (folder / "copy.wav").write_bytes((folder / "s1.wav").read_bytes())
    (folder / "broken.wav").write_text("this is not audio")
    manifest_of(folder, MANIFEST)
    return run("songs.jsonl", cwd=folder, environment=environment_without_torch), folder


@pytest.mark.slow
@pytest.mark.subprocess
class TestOnThisMachine:
    def test_failures_are_listed_and_cost_no_other_song(
        self, batch: tuple[subprocess.CompletedProcess[str], Path]
    ) -> None:
        done, folder = batch
        assert done.returncode == 1, done.stderr
        assert "6 songs: 0 have a result, 4 are to be made, 1 cannot be" in done.stdout
        assert "s0.wav: drums, bass: PASS, 3 of 3 steps" in done.stdout
        failed = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
        assert len(failed) == 3
        assert failed[0].startswith("failed: line 2, broken.wav: vocals: context audio ")
        assert "cannot be read as audio" in failed[0]
        assert (
            f"context audio {folder / 'none.wav'} does not exist; give a WAV, FLAC, OGG or MP3" in failed[1]
        )
        assert failed[2].endswith("--start 30 --end -1 is not within the context, which lasts 1.50 s")
        assert "3 of 6 songs are good; see out/batch/index.html" in done.stdout

    def test_each_result_is_whole_and_there_once(
        self, batch: tuple[subprocess.CompletedProcess[str], Path]
    ) -> None:
        _, folder = batch
        out = folder / "out" / "batch"
        results = [path for path in out.iterdir() if path.is_dir()]
        assert sorted(path.name for path in out.iterdir()) == sorted(
            [*(path.name for path in results), "index.html"]
        )
        files = sorted(sorted(path.name for path in result.iterdir()) for result in results)
        assert files == [
            ["mix-1-drums.wav", "mix.wav", "result.json", "stem-1-drums.wav", "stem-2-bass.wav"],
            ["mix.wav", "result.json", "stem-bass.wav", "stem-vocals.wav"],
        ]
        for result in results:
            said = read_result(result)
            assert said["key"] == result.name
            assert said["ok"]
            for stem in said["stems"]:
                assert stem["evaluated"] == stem["requested"] in (3, 4)
                assert soundfile.info(result / stem["file"]).frames == 1.5 * RATE

    def test_layers_are_mixed_at_their_gain(
        self, batch: tuple[subprocess.CompletedProcess[str], Path]
    ) -> None:
        _, folder = batch
        (result,) = [path.parent for path in (folder / "out" / "batch").glob("*/stem-1-drums.wav")]
        context, drums, bass, mix = (
            soundfile.read(path)[0]
            for path in (
                folder / "s0.wav",
                result / "stem-1-drums.wav",
                result / "stem-2-bass.wav",
                result / "mix.wav",
            )
        )
        gain = read_result(result)["mixes"]["mix.wav"]
        assert np.abs(mix - gain * (context + 10 ** (-6 / 20) * (drums + bass))).max() < 1e-6

    def test_a_second_run_makes_what_is_missing_and_nothing_else(
        self, batch: tuple[subprocess.CompletedProcess[str], Path], tiny_root: Callable[..., Path]
    ) -> None:
        """The tiny checkpoint has the same bytes wherever it is written, and so the songs the same keys."""
        _, folder = batch
        out = folder / "out" / "batch"
        write_songs(folder, 3)
        lines = '{"context": "s2.wav", "tracks": ["vocals"], "steps": 3}\n'
        manifest_of(folder, MANIFEST + lines, "more.jsonl")
        before = {path: path.stat().st_mtime_ns for path in out.glob("*/*")}
        done = run(
            "more.jsonl", "--checkpoint", str(tiny_root() / "checkpoints/acestep-v15-base"), cwd=folder
        )
        assert "7 songs: 2 have a result, 3 are to be made, 1 cannot be" in done.stdout
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert len([path for path in out.iterdir() if path.is_dir()]) == 3
        assert "4 of 7 songs are good" in done.stdout

    def test_the_summary_links_what_is_there(
        self, batch: tuple[subprocess.CompletedProcess[str], Path]
    ) -> None:
        _, folder = batch
        out = folder / "out" / "batch"
        page = (out / "index.html").read_text()
        links = re.findall(r'(?:href|src)="([^"]+)"', page)
        assert len(links) > 10
        assert all((out / link).exists() for link in links)
        assert "http" not in page.replace("http-equiv", "")

    def test_a_result_that_lacks_a_file_is_not_taken_for_one(
        self, batch: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
    ) -> None:
        _, folder = batch
        (whole,) = [path.parent for path in (folder / "out" / "batch").glob("*/stem-1-drums.wav")]
        result = Path(shutil.copytree(whole, tmp_path / "result"))
        assert read_result(result)["ok"]
        (result / "stem-2-bass.wav").write_bytes((result / "stem-1-drums.wav").read_bytes())
        with pytest.raises(OutputError, match=r"result: stem-2-bass\.wav changed since it was made"):
            read_result(result)
        (result / "stem-2-bass.wav").unlink()
        with pytest.raises(OutputError, match=r"lacks stem-2-bass\.wav"):
            read_result(result)
        for text in ("{", "[]", '{"stems": null}', '{"stems": [], "mixes": {"mix.wav": 1}, "ok": true}'):
            (result / "result.json").write_text(text)
            with pytest.raises(OutputError, match=r"has no result\.json of a batch"):
                read_result(result)

    def test_a_batch_that_is_stopped_goes_on(
        self,
        batch: tuple[subprocess.CompletedProcess[str], Path],
        tmp_path: Path,
        tiny_root: Callable[..., Path],
    ) -> None:
        _, folder = batch
        write_songs(folder, 6)
        lines = "".join(f'{{"context": "s{i}.wav", "tracks": ["bass"], "steps": 5}}\n' for i in range(6))
        manifest = manifest_of(folder, lines, "six.jsonl")
        checkpoint = str(tiny_root() / "checkpoints" / "acestep-v15-base")
        arguments = [manifest.name, "--checkpoint", checkpoint, "--out", str(tmp_path)]
        command = [sys.executable, str(SCRIPT), *arguments]
        with subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("2 of 6"):
                    process.send_signal(signal.SIGINT)
                    break
            _, said = process.communicate(timeout=60)
        assert process.returncode == 128 + signal.SIGINT
        kept = digests(tmp_path)
        made = len([path for path in tmp_path.iterdir() if path.is_dir()])
        assert 2 <= made < 6
        assert re.search(
            rf"lego_batch: stopped; \d results are in {tmp_path}; the same command makes the rest", said
        )
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
        done = run(*arguments, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"6 songs: {made} have a result, {6 - made} are to be made, 0 cannot be" in done.stdout
        assert kept.items() <= digests(tmp_path).items()


@pytest.mark.slow
@pytest.mark.subprocess
class TestRefusals:
    def test_each_wrong_line_has_a_sentence_and_nothing_is_run(self, tmp_path: Path) -> None:
        manifest_of(tmp_path, '{"context": "a.wav"}\n{"context": "a.wav", "tracks": ["bass"]}\nx\n')
        done = run("songs.jsonl", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stdout == ""
        assert [line[:34] for line in done.stderr.splitlines()] == [
            "lego_batch: songs.jsonl, line 1: i",
            "lego_batch: songs.jsonl, line 3: i",
        ]
        assert [path.name for path in tmp_path.iterdir()] == ["songs.jsonl"]

    def test_workers_are_of_a_cluster(self, tmp_path: Path) -> None:
        manifest_of(tmp_path, '{"context": "a.wav", "tracks": ["bass"]}')
        done = run("songs.jsonl", "--workers", "2", cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr == "lego_batch: --workers is of a Ray cluster; give --ray local, or leave it out\n"

    @pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
    def test_without_ray(self, tmp_path: Path) -> None:
        write_songs(tmp_path, 1)
        manifest_of(tmp_path, '{"context": "s0.wav", "tracks": ["bass"]}')
        done = run("songs.jsonl", "--ray", "local", cwd=tmp_path)
        assert done.returncode == 3
        assert done.stderr.endswith(
            "lego_batch: --ray needs the package ray; run '.venv/bin/pip install ray' first\n"
        )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["s0.wav", "songs.jsonl"]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ray>=2.40'")
def test_a_cluster_makes_the_same_bytes_and_outlives_a_killed_worker(tmp_path: Path) -> None:
    write_songs(tmp_path, 5)
    lines = [f'{{"context": "s{i}.wav", "tracks": ["bass"], "steps": 20}}\n' for i in range(5)]
    manifest_of(tmp_path, "".join(lines) + '{"context": "none.wav", "tracks": ["bass"]}\n')
    assert run("songs.jsonl", "--out", "one", cwd=tmp_path).returncode == 1
    arguments = [
        sys.executable,
        str(SCRIPT),
        "songs.jsonl",
        "--out",
        "two",
        "--ray",
        "local",
        "--workers",
        "2",
    ]
    with subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("1 of 5"):
                os.kill(actors_of(process.pid)[0], signal.SIGKILL)
                break
        said = process.stdout.read()
    assert process.returncode == 1
    assert "5 of 6 songs are good" in said
    assert [line.split(":")[1] for line in said.splitlines() if line.startswith("failed")] == [
        " line 6, none.wav"
    ]
    one, two = (
        {name: digest for name, digest in digests(tmp_path / folder).items() if name.endswith(".wav")}
        for folder in ("one", "two")
    )
    assert one == two
    assert len(one) == 10
    assert not [path for path in (tmp_path / "two").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'ray>=2.40'")
def test_a_cluster_ends_with_the_batch_that_is_stopped(tmp_path: Path) -> None:
    write_songs(tmp_path, 4)
    lines = [f'{{"context": "s{i}.wav", "tracks": ["bass"], "steps": 20}}\n' for i in range(4)]
    manifest_of(tmp_path, "".join(lines))
    arguments = [sys.executable, str(SCRIPT), "songs.jsonl", "--ray", "local"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, **pipes) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("1 of 4"):
                actors = actors_of(process.pid)
                process.terminate()
                break
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "lego_batch: stopped; 1 results are in out/batch; the same command makes the rest" in said
    assert len(actors) == 1
    assert not Path(f"/proc/{actors[0]}").exists()


def actors_of(driver: int) -> list[int]:
    """Process numbers of the workers that a driver's Ray has started."""
    table = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in table.splitlines()]
    below, found = {driver}, []
    for _ in range(5):
        below |= {int(pid) for pid, parent, _ in rows if int(parent) in below}
    for pid, _, command in rows:
        if int(pid) in below and command.startswith("ray::Worker"):
            found.append(int(pid))
    return found
