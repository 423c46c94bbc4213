"""A run repeated from its report, and one that was stopped: it goes on where it was, with the same bits."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from acestep.errors import AceStepError, BackendError, RequestError
from smoke import generate, inputs, session
from smoke.again import read_earlier
from smoke.inputs import MIB, checkpoint_hash
from smoke.options import Options
from smoke.process import Process
from smoke.request import Request
from smoke.session import run_smoke

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ["drums", "bass", "vocals"]
STEMS = [f"stem-{number}-{track}.wav" for number, track in enumerate(LAYERS, start=1)]
SOUNDS = [*STEMS, "mix-1-drums.wav", "mix-2-bass.wav", "mix.wav"]


def layers(context: Path, checkpoint: Path) -> Options:
    return Options(context, layer=LAYERS, gain_db=-6.0, steps=[3], checkpoint=checkpoint, device="cpu")


def run(
    options: Options, out: Path, again: str | None = None, given: Any = (), page: bool = False
) -> SimpleNamespace:
    """A run in this process: its exit status, what the screen shows, its folder and its report.

    page: whether the page is drawn, which takes longer than the run.
    """
    console = Console(record=True, width=300)
    earlier = read_earlier(again, out, options, given) if again else None
    with pytest.MonkeyPatch.context() as patch:
        if not page:
            patch.setattr("smoke.html_report.write_html", lambda report, folder, path, at: path.touch())
        used = earlier.options if earlier else options
        status = run_smoke(ROOT / "ACE-Step-1.5", used, out, console, earlier)
    folder = (out / "latest").resolve()
    report = json.loads((folder / "report.json").read_text())
    return SimpleNamespace(status=status, text=console.export_text(), folder=folder, report=report)


def bits(folder: Path, names: list[str] = SOUNDS) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def context(make_context: Callable[..., Path]) -> Path:
    return make_context(1.0)


@pytest.fixture(scope="module")
def checkpoint(tiny_root: Callable[..., Path]) -> Path:
    return tiny_root() / "checkpoints" / "acestep-v15-base"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, context: Path, checkpoint: Path) -> SimpleNamespace:
    """Three layers from beginning to end."""
    return run(layers(context, checkpoint), tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def stopped_out(tmp_path_factory: pytest.TempPathFactory, context: Path, checkpoint: Path) -> Path:
    """`out` with a run of the same three layers whose process dies in the third."""
    out = tmp_path_factory.mktemp("stopped")
    plain = Process.run

    def dies_in_the_third(self: Process, request: Any, *args: Any) -> Any:
        if request.track == "vocals":
            raise BackendError("the run died")
        return plain(self, request, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Process, "run", dies_in_the_third)
        with pytest.raises(
            BackendError, match=r"^the run died; .*not compared .*: 1 drums, 2 bass; go on: .* --again "
        ):
            run(layers(context, checkpoint), out)
    return out


@pytest.fixture
def stopped(stopped_out: Path, tmp_path: Path) -> Path:
    """A copy of it, for a test that goes on from it."""
    shutil.copytree(stopped_out, tmp_path / "out", symlinks=True)
    return tmp_path / "out"


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever starts one fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(generate, "Process", refuse)


class TestUnfinished:
    def test_its_stems_are_there_with_what_is_needed_to_go_on(
        self, stopped: Path, undisturbed: SimpleNamespace
    ) -> None:
        folder = (stopped / "latest").resolve()
        names = sorted(path.name for path in folder.iterdir())
        assert names == [
            "mix-1-drums.wav",
            "mix-2-bass.wav",
            "stem-1-drums.wav",
            "stem-2-bass.wav",
            "unfinished",
        ]
        assert bits(folder, STEMS[:2]) == bits(undisturbed.folder, STEMS[:2])

    def test_it_goes_on_and_ends_with_the_bits_of_an_undisturbed_run(
        self, stopped: Path, undisturbed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stems that are reused are compared as any other, and drawn."""
        asked, first = [], (stopped / "latest").resolve()
        run_request: Any = Process.run

        def noted(self: Process, request: Request, *rest: Any) -> Any:
            asked.append(request.track)
            return run_request(self, request, *rest)

        monkeypatch.setattr(Process, "run", noted)
        before = {path: path.read_bytes() for path in stopped.glob("2*/**/*") if path.is_file()}
        again = run(Options(Path("unused.wav")), stopped, "latest", page=True)
        assert again.status == 0, again.text
        assert asked == ["vocals"]
        assert bits(again.folder) == bits(undisturbed.folder)
        assert again.report["comparison"]["reused"] == ["1 drums", "2 bass"]
        assert f"reused from {first}: 1 drums, 2 bass" in again.text
        assert {path: path.read_bytes() for path in before} == before, "the stopped run is left as it was"
        assert not (again.folder / "unfinished").exists()
        drawn = (again.folder / "report.html").read_text()
        assert all(f'src="{name}"' in drawn for name in SOUNDS)
        for stem, expected in zip(again.report["stems"], undisturbed.report["stems"], strict=True):
            assert {"velocity", "update"} < stem["distances"].keys()
            assert stem["distances"] == expected["distances"]
            assert [check["name"] for check in stem["checks"]] == [
                check["name"] for check in expected["checks"]
            ]

    @pytest.mark.parametrize("damage", ["wav", "kept", "code"])
    def test_what_is_no_longer_as_it_was_is_made_again(
        self, stopped: Path, undisturbed: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, damage: str
    ) -> None:
        folder = stopped / "latest"
        if damage == "wav":
            (folder / STEMS[1]).write_bytes((folder / STEMS[0]).read_bytes())
        elif damage == "kept":
            (folder / "unfinished" / "2" / "tensors.npz").write_bytes(b"half of it")
        else:
            monkeypatch.setattr(inputs, "code_hash", lambda _: "another version")
        again = run(Options(Path("unused.wav"), compare="none"), stopped, "latest", ["compare"])
        assert again.report["comparison"]["reused"] == ([] if damage == "code" else ["1 drums"])
        assert ("stem-2-bass.wav: damaged since, made again" in again.text) == (damage != "code")
        assert bits(again.folder) == bits(undisturbed.folder)

    def test_a_comparison_that_failed_is_made_good_without_a_process(
        self,
        tmp_path: Path,
        context: Path,
        checkpoint: Path,
        monkeypatch: pytest.MonkeyPatch,
        request: pytest.FixtureRequest,
    ) -> None:
        def fails(*_: Any) -> None:
            raise BackendError("no room for PyTorch")

        options = replace(layers(context, checkpoint), layer=["drums"])
        with monkeypatch.context() as patch:
            patch.setattr(session, "distances_to_pytorch", fails)
            first = run(options, tmp_path)
        assert first.status == 3
        request.getfixturevalue("no_process")
        again = run(options, tmp_path, str(first.folder))
        assert again.status == 0, again.text
        assert again.report["comparison"]["reused"] == ["1 drums"]


KEPT = ("stem-2-bass.wav", "unfinished/2/tensors.npz", "unfinished/2/run.json")
DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "empty": lambda content, _: b"",
    "cut": lambda content, place: content[:place],
    "one bit": lambda content, place: (
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
    ),
    "a list": lambda content, _: b"[]",
}
VALUES: tuple[Any, ...] = (None, [], {}, [None], {"x": None}, "x", True, -1, 1e400, 10**400)


class TestDamage:
    """Whatever has become of what was kept, it is not used, or the run is refused: it never ends in another error."""

    @settings(max_examples=40)
    @given(st.sampled_from(KEPT), st.sampled_from(sorted(DAMAGES)), st.floats(0, 1, exclude_max=True))
    def test_a_damaged_stem_is_not_reused_and_named(
        self, stopped_out: Path, file: str, damage: str, place: float
    ) -> None:
        path = stopped_out / "latest" / file
        content = path.read_bytes()
        try:
            path.write_bytes(DAMAGES[damage](content, int(place * len(content))))
            earlier = read_earlier("latest", stopped_out, Options(Path("x.wav")), ())
        finally:
            path.write_bytes(content)
        assert [stem.file for stem in earlier.stems] == ["stem-1-drums.wav"]
        assert earlier.introduction().endswith(
            ", 1 stems of it are finished, stem-2-bass.wav: damaged since, made again"
        )

    @settings(max_examples=60)
    @given(st.data())
    def test_a_state_with_another_value_anywhere_is_refused_or_used(
        self, stopped_out: Path, data: st.DataObject
    ) -> None:
        path = stopped_out / "latest" / "unfinished" / "run.json"
        content = path.read_text()
        where = changed = json.loads(content)
        while True:
            name = data.draw(st.sampled_from(list(where) if isinstance(where, dict) else range(len(where))))
            if not isinstance(where[name], (dict, list)) or not where[name] or data.draw(st.booleans()):
                break
            where = where[name]
        where[name] = data.draw(st.sampled_from(VALUES))
        try:
            path.write_text(json.dumps(changed))
            earlier = read_earlier("latest", stopped_out, Options(Path("x.wav")), ())
            for request in earlier.options.requests():
                request.check()
            earlier.introduction()
        except AceStepError as error:
            assert "\n" not in str(error)  # noqa: PT017
        finally:
            path.write_text(content)


class TestFinished:
    def test_it_is_made_again_with_the_same_bits_from_its_report_alone(
        self, undisturbed: SimpleNamespace, tmp_path: Path
    ) -> None:
        report = shutil.copy(undisturbed.folder / "report.json", tmp_path / "mailed.json")
        again = run(Options(Path("unused.wav")), tmp_path / "out", str(report))
        assert bits(again.folder) == bits(undisturbed.folder)
        assert again.report["comparison"]["reused"] == []
        assert again.report["run"] == undisturbed.report["run"]

    def test_options_of_the_command_line_take_the_place_of_its_own(
        self, undisturbed: SimpleNamespace, tmp_path: Path
    ) -> None:
        changes = Options(Path("unused.wav"), seed=[7], track=["drums"], compare="none")
        again = run(changes, tmp_path, str(undisturbed.folder), ["seed", "track", "compare"])
        (stem,) = again.report["stems"]
        assert (stem["track"], stem["seed"], stem["requested"]) == ("drums", 7, 3)
        assert again.report["run"]["options"]["layer"] == []
        assert "with --seed, --track, --compare given anew" in again.text


class TestChanged:
    """One sentence, before anything is loaded."""

    @pytest.fixture
    def moved(self, undisturbed: SimpleNamespace, context: Path, checkpoint: Path, tmp_path: Path) -> Any:
        """The report of a run with copies of its context and checkpoint, which may be changed."""
        shutil.copytree(checkpoint.parent, tmp_path / "checkpoints")
        shutil.copy(context, tmp_path / "context.wav")
        report = json.loads((undisturbed.folder / "report.json").read_text())
        options = report["run"]["options"]
        options |= {
            "context": str(tmp_path / "context.wav"),
            "checkpoint": str(tmp_path / "checkpoints" / checkpoint.name),
        }
        (tmp_path / "report.json").write_text(json.dumps(report))
        return tmp_path

    def refusal(self, folder: Path, options: Options | None = None, given: Any = ()) -> str:
        with pytest.raises(RequestError) as refused:
            read_earlier(str(folder), folder, options or Options(Path("x.wav")), given).check()
        sentence = str(refused.value)
        assert sentence.startswith(f"--again {folder}: ")
        assert "\n" not in sentence
        return sentence.removeprefix(f"--again {folder}: ")

    def test_copies_of_the_same_content_serve(self, moved: Any) -> None:
        read_earlier(str(moved), moved, Options(Path("x.wav")), ()).check()

    @pytest.mark.parametrize("name", ["context", "checkpoint"])
    def test_missing(self, moved: Any, name: str) -> None:
        path = Path(json.loads((moved / "report.json").read_text())["run"]["options"][name])
        path.rename(path.with_name("elsewhere"))
        assert self.refusal(moved) == f"its {name} {path} is not there; give it with --{name}"

    def test_another_context(self, moved: Any, make_context: Callable[..., Path]) -> None:
        shutil.copy(make_context(2.0), moved / "context.wav")
        sentence = self.refusal(moved)
        assert sentence == (
            f"its context {moved / 'context.wav'} has changed since; give it anew with --context to use it as it is"
        )
        read_earlier(str(moved), moved, Options(moved / "context.wav"), ["context"]).check()

    @pytest.mark.parametrize("file", ["acestep-v15-base/model.safetensors", "vae/config.json"])
    def test_another_checkpoint(self, moved: Any, file: str) -> None:
        path = moved / "checkpoints" / file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        folder = moved / "checkpoints" / "acestep-v15-base"
        assert self.refusal(moved) == (
            f"its checkpoint {folder} has changed since; give it anew with --checkpoint to use it as it is"
        )
        read_earlier(str(moved), moved, Options(Path("x.wav"), checkpoint=folder), ["checkpoint"]).check()

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (None, "there is no {file}; give the folder or the report.json of a run"),
            ("{", "{file} is not the report of a run of this script"),
            (
                '{"run": {"options": {"context": "x.wav", "volume": 3}}}',
                "{file} is not the report of a run of this script",
            ),
            ("[]", "{file} is not the report of a run of this script"),
        ],
        ids=["missing", "no JSON", "other options", "a list"],
    )
    def test_no_report(self, tmp_path: Path, content: str | None, found: str) -> None:
        if content is not None:
            (tmp_path / "report.json").write_text(content)
        assert self.refusal(tmp_path) == found.format(file=tmp_path / "report.json")

    def test_exit_status_and_nothing_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import lego_smoke

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["lego_smoke.py", "--again", "latest"])
        assert lego_smoke.main() == 2
        expected = "--again latest: there is no out/lego/latest; give the folder or the report.json of a run"
        assert capsys.readouterr().err.strip() == f"lego_smoke: {expected}"
        assert list(tmp_path.iterdir()) == []


def test_a_setting_given_anew_takes_the_place_of_each_layers_own() -> None:
    tables: list[dict[str, Any]] = [{"track": "drums", "seed": 1, "guidance_scale": 3.0}, {"track": "bass"}]
    own = Options(Path("x.wav"), session=tables, session_source="--session layers.toml")
    changed = own.changed(Options(Path("y.wav"), guidance_scale=[7.0]), ["guidance_scale"])
    assert [(request.seed, request.guidance_scale) for request in changed.requests()] == [(1, 7.0), (42, 7.0)]
    assert changed.context == Path("x.wav")


def test_options_are_the_same_when_they_are_read_again() -> None:
    options = Options(Path("x.wav"), layer=["drums"], seed=[7], checkpoint=Path("base"), bpm=90)
    read = Options.from_json(json.loads(json.dumps(options.to_json())))
    assert read.to_json() == options.to_json()
    assert read.context == Path.cwd() / "x.wav"
    assert read.requests() == replace(options, context=read.context, checkpoint=read.checkpoint).requests()


def test_a_stem_of_another_number_of_threads_is_another(
    context: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (request,) = Options(context).requests()
    hashes = set()
    for threads in ("1", "2"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", threads)
        hashes.add(inputs.Inputs.of(context, checkpoint, ROOT / "scripts", {}).of_stem(request, context))
    assert len(hashes) == 2


class TestCheckpointHash:
    @pytest.fixture
    def large(self, tmp_path: Path) -> Path:
        (tmp_path / "base").mkdir()
        (tmp_path / "base" / "model.safetensors").write_bytes(bytes(4 * MIB + 5))
        return tmp_path / "base"

    @pytest.mark.parametrize("place", [0, MIB - 1, MIB, 2 * MIB - 1, 4 * MIB + 4], ids=str)
    def test_a_change_of_a_mebibyte_is_found_wherever_it_lies(self, large: Path, place: int) -> None:
        before, path = checkpoint_hash(large), large / "model.safetensors"
        content = bytearray(path.read_bytes())
        end = min(len(content), place + MIB)
        content[place:end] = b"\1" * (end - place)
        path.write_bytes(content)
        assert checkpoint_hash(large) != before

    def test_names_sizes_and_files_beside_it_count(self, large: Path) -> None:
        hashes = {checkpoint_hash(large)}
        with (large / "model.safetensors").open("ab") as file:
            file.write(b"\0")
        hashes.add(checkpoint_hash(large))
        (large.parent / "vae").mkdir()
        (large.parent / "vae" / "config.json").write_text("{}")
        hashes.add(checkpoint_hash(large))
        (large.parent / "vae" / "config.json").rename(large.parent / "vae" / "other.json")
        hashes.add(checkpoint_hash(large))
        assert len(hashes) == 4
