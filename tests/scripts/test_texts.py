"""Captions and lyrics that are too long are refused by the tokenizer alone, before a weight is read."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoint_forms import to_diffusers

LYRICS = ["--lyrics", "q" * 3000]


@pytest.fixture
def without_weights(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A DiT folder whose weights are not there: whoever begins to load it fails with another sentence."""
    shutil.copytree(tiny_root(), tmp_path / "models")
    for path in (tmp_path / "models").rglob("*.safetensors"):
        path.unlink()
    return tmp_path / "models" / "checkpoints" / "acestep-v15-base"


def refused(
    arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one sentence of a refusal, after which nothing is written."""
    import lego_smoke

    monkeypatch.setattr(sys, "argv", ["lego_smoke.py", *arguments, "--out", str(folder / "new" / "out")])
    assert lego_smoke.main() == 2
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert not (folder / "new").exists()
    return sentence


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--caption", "q" * 300],
            "the caption is too long: the prompt has {} tokens in all, at most 256 are",
        ),
        (["--key", "q" * 300], "the key is too long: the prompt has {} tokens in all, at most 256 are"),
        (LYRICS, "the lyrics are too long: lyrics and language have {} tokens in all, at most 2048 are"),
        # more characters, but fewer tokens: the words of the training text are one token each
        (
            ["--caption", "warm lead vocals over a soft groove " * 12, "--key", "q" * 180],
            "the key is too long: the prompt has {} tokens in all, at most 256 are",
        ),
    ],
    ids=["caption", "key", "lyrics", "the most tokens, not the most characters"],
)
def test_the_field_is_named_with_its_tokens_before_loading(
    arguments: list[str],
    sentence: str,
    without_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = refused(["--checkpoint", str(without_weights), *arguments], tmp_path, monkeypatch, capsys)
    (count,) = [word for word in shown.split() if word.isdigit() and word not in ("256", "2048")]
    assert int(count) > (2048 if arguments is LYRICS else 256)
    assert shown.startswith(f"lego_smoke: {sentence.format(count)} possible; shorten the ")


def test_the_layer_is_named(
    without_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "layers.toml"
    path.write_text(f'[[layer]]\ntrack = "drums"\n[[layer]]\ntrack = "vocals"\nlyrics = "{LYRICS[1]}"\n')
    arguments = ["--checkpoint", str(without_weights), "--session", str(path)]
    shown = refused(arguments, tmp_path, monkeypatch, capsys)
    assert shown.startswith("lego_smoke: layer 2 (vocals): the lyrics are too long")


def test_in_the_layout_of_diffusers(
    tiny_root: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = to_diffusers(tiny_root() / "checkpoints" / "acestep-v15-base", tmp_path / "diffusers")
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    shown = refused(["--checkpoint", str(folder), *LYRICS], tmp_path, monkeypatch, capsys)
    assert shown.startswith("lego_smoke: the lyrics are too long")
