"""Session files: what each layer is asked for, and what is refused before anything runs."""

from pathlib import Path

import pytest

from acestep.errors import RequestError
from smoke.request import Request
from smoke.session_file import layers_of_tables, read_tables

REQUEST = Request(
    Path("song.wav"), None, "vocals", 50, 1.0, 1.0, 42, "mlx", "cpu", caption="warm", gain_db=-1.0
)


def read_session(path: Path, request: Request) -> list[Request]:
    return layers_of_tables(read_tables(path), f"--session {path}", request)


def session(folder: Path, text: str) -> Path:
    path = folder / "layers.toml"
    path.write_text(text)
    return path


def test_each_layer_has_its_own_values_and_the_options_for_the_rest(tmp_path: Path) -> None:
    text = """
        [[layer]]
        track = "drums"
        caption = "dry kit"
        [[layer]]
        track = "bass"
        seed = 7
        steps = 20
        start = 8
        end = 16.5
        guidance_scale = 3
        bpm = 120
        key = "A minor"
        lyrics = "la"
        shift = 2.0
        gain_db = -6
    """
    drums, bass = read_session(session(tmp_path, text), REQUEST)
    assert (drums.layer, drums.track, drums.caption, drums.seed, drums.gain_db) == (
        1,
        "drums",
        "dry kit",
        42,
        -1.0,
    )
    assert (bass.layer, bass.track, bass.caption, bass.seed, bass.gain_db) == (2, "bass", "warm", 7, -6.0)
    assert (bass.steps, bass.start, bass.end, bass.guidance_scale, bass.shift) == (20, 8.0, 16.5, 3.0, 2.0)
    assert (bass.bpm, bass.key, bass.lyrics, bass.context) == (120, "A minor", "la", Path("song.wav"))


REFUSED = {
    "no TOML": ("layer = [", "cannot be read as TOML"),
    "empty": ("", "holds nothing, expected [[layer]] tables and nothing else"),
    "not layers": ('context = "x.wav"', "holds context, expected [[layer]] tables and nothing else"),
    "no track": ("[[layer]]\nseed = 1", ", layer 1: it has no track"),
    "no such track": ('[[layer]]\ntrack = "drum"', ", layer 1: track is 'drum', expected one of"),
    "unknown key": ('[[layer]]\ntrack = "drums"\nvolume = 3', ", layer 1: 'volume' is not known, expected track, "),
    "text for a number": ('[[layer]]\ntrack = "drums"\nseed = "7"', ", layer 1: seed is '7', expected a whole number"),
    "half a seed": ('[[layer]]\ntrack = "drums"\nseed = 7.5', ", layer 1: seed is 7.5, expected a whole number"),
    "truth for a number": ('[[layer]]\ntrack = "drums"\nsteps = true', "steps is True, expected a whole number"),
    "beyond every float": (
        f'[[layer]]\ntrack = "drums"\ngain_db = 1{"0" * 400}', ", layer 1: --gain-db is inf, expected a number from -60"
    ),
    "more digits than are shown": (
        f'[[layer]]\ntrack = "drums"\ncaption = 0x{"f" * 5001}', ", layer 1: caption is a value of the type int, "
    ),
    "brackets without end": (f"layer = {'[' * 5001}", "cannot be read as TOML (its brackets are nested too deeply)"),
    "out of range": (
        '[[layer]]\ntrack = "drums"\n[[layer]]\ntrack = "bass"\nsteps = 0',
        ", layer 2: inference_steps is 0, expected a whole number from 1 to 1000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = session(tmp_path, text)
    with pytest.raises(RequestError) as caught:
        read_session(path, REQUEST)
    assert str(caught.value).startswith(f"--session {path}")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none.toml cannot be read as TOML \(No such file or directory\)"):
        read_session(tmp_path / "none.toml", REQUEST)


def test_a_session_takes_the_place_of_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import lego_smoke

    path = session(tmp_path, '[[layer]]\ntrack = "drums"')
    for beside, sentence in {
        ("--track", "drums"): "--session has the layers in its file: leave --track and --layer out",
        (
            "--seed",
            "1",
            "--seed",
            "2",
        ): "--seed is given 2 times, --session takes one value of it: run it again for another",
    }.items():
        monkeypatch.setattr("sys.argv", ["lego_smoke.py", "--session", str(path), *beside])
        assert lego_smoke.main() == 2
        assert capsys.readouterr().err == f"lego_smoke: {sentence}\n"
