"""diffusers' layout: loaded whole, or refused with a sentence that names what is wrong."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from acestep.handler import AceStepHandler
from acestep.models.checkpoint.layout import Layout, find_layout
from tests.checkpoint_forms import rewrite, rewrite_json, to_diffusers

WEIGHTS = "diffusion_pytorch_model.safetensors"
FILES = [
    "model_index.json",
    "transformer/config.json",
    f"transformer/{WEIGHTS}",
    "condition_encoder/config.json",
    f"condition_encoder/{WEIGHTS}",
    "vae/config.json",
    f"vae/{WEIGHTS}",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
]


@pytest.fixture(scope="module")
def converted(tiny_root: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    dit = tiny_root() / "checkpoints" / "acestep-v15-base"
    return to_diffusers(dit, tmp_path_factory.mktemp("layout") / "pipeline")


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    """A checkpoint in diffusers' layout that a test may change; LEGO reads neither of the two that are left out."""
    unread = shutil.ignore_patterns("audio_tokenizer", "audio_token_detokenizer", "scheduler")
    return Path(shutil.copytree(converted, tmp_path / "checkpoints" / "pipeline", ignore=unread))


def load(folder: Path, use_mlx_dit: bool = True) -> tuple[str, bool, AceStepHandler]:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(
        folder.parent.parent, folder.name, device="cpu", use_mlx_dit=use_mlx_dit
    )
    return message, loaded, handler


def state(handler: AceStepHandler) -> dict[str, Any]:
    """All but the lock, which each handler has for itself."""
    return {name: value for name, value in vars(handler).items() if name != "lock"}


def refusal(folder: Path, use_mlx_dit: bool = True) -> str:
    """The message of a load that fails, and leaves the handler empty."""
    message, loaded, handler = load(folder, use_mlx_dit)
    assert not loaded
    assert state(handler) == state(AceStepHandler())
    assert "\n" not in message
    return message


@pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
def test_parts_that_lego_does_not_read_may_be_missing(folder: Path, use_mlx_dit: bool) -> None:
    message, loaded, _ = load(folder, use_mlx_dit)
    assert loaded, message
    assert message.startswith("pipeline is loaded. ")


def test_layouts_are_told_apart_by_what_is_there(tmp_path: Path) -> None:
    upstream, beside = tmp_path / "acestep-v15-base", tmp_path / "Qwen3-Embedding-0.6B"
    upstream.mkdir()
    (upstream / "config.json").touch()
    assert find_layout(upstream) == Layout(upstream, upstream, tmp_path / "vae", beside, beside)
    assert not find_layout(upstream).is_diffusers
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    (pipeline / "config.json").touch()
    (pipeline / "model_index.json").touch()
    assert find_layout(pipeline).is_diffusers
    assert find_layout(pipeline).tokenizer == pipeline / "tokenizer"


@pytest.mark.parametrize("damage", ["removed", "cut_in_half", "emptied"])
@pytest.mark.parametrize("file", FILES)
def test_half_copied_checkpoint_is_a_sentence_that_names_the_file(
    folder: Path, file: str, damage: str
) -> None:
    path = folder / file
    content = path.read_bytes()
    path.unlink()
    if damage != "removed":
        path.write_bytes(content[: len(content) // 2] if damage == "cut_in_half" else b"")
    message = refusal(folder)
    assert str(path.parent) in message
    assert path.name in message
    assert re.search(r"(copied whole\?|; copy the checkpoint again)$", message)


@pytest.mark.parametrize("part", ["transformer", "condition_encoder", "vae", "text_encoder", "tokenizer"])
def test_missing_folder_is_named(folder: Path, part: str) -> None:
    shutil.rmtree(folder / part)
    assert re.match(rf"{re.escape(str(folder / part))}\b.*is the checkpoint copied whole\?$", refusal(folder))


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_missing_shard_is_named(converted: Path, tmp_path: Path, part: str) -> None:
    from tests.checkpoint_forms import split_into_shards

    folder = Path(shutil.copytree(converted, tmp_path / "checkpoints" / "pipeline"))
    split_into_shards(folder / part, 3, "diffusion_pytorch_model")
    assert load(folder)[1]
    missing = folder / part / "diffusion_pytorch_model-00002-of-00003.safetensors"
    missing.unlink()
    assert refusal(folder) == (
        f"{missing} is missing, diffusion_pytorch_model.safetensors.index.json names it; copy the checkpoint again"
    )


class TestModelKind:
    """Said by transformer/config.json, never guessed: the library's own default would be base."""

    def test_unsaid(self, folder: Path) -> None:
        path = folder / "transformer" / "config.json"
        rewrite_json(path, is_turbo=...)
        assert refusal(folder) == (
            f"{path} does not say 'is_turbo'; whether this is a base or a turbo model cannot be guessed: add "
            '"is_turbo": false (base) or true (turbo) as its model card says'
        )

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_turbo(self, folder: Path, use_mlx_dit: bool) -> None:
        rewrite_json(folder / "transformer" / "config.json", is_turbo=True, model_version="turbo")
        assert refusal(folder, use_mlx_dit) == (
            f"{folder} is a turbo model (is_turbo is true); LEGO was trained into the base models alone: "
            "give acestep-v15-base or another base model"
        )

    def test_said_both_ways(self, folder: Path) -> None:
        """The library takes it for turbo then."""
        path = folder / "transformer" / "config.json"
        rewrite_json(path, model_version="turbo")
        assert refusal(folder) == (
            f"{path} says 'is_turbo' false and 'model_version' turbo; correct the one that its model card denies"
        )


class TestConfig:
    """Two files that have to be of one model."""

    def test_another_pipeline(self, folder: Path) -> None:
        path = folder / "model_index.json"
        rewrite_json(path, _class_name="StableAudioPipeline")
        assert refusal(folder) == (
            f"{path}: '_class_name' is 'StableAudioPipeline', expected 'AceStepPipeline'"
        )

    @pytest.mark.parametrize("part", ["transformer", "condition_encoder"])
    def test_missing_key(self, folder: Path, part: str) -> None:
        path = folder / part / "config.json"
        rewrite_json(path, hidden_size=...)
        assert refusal(folder) == (
            f"{path} is not the configuration of an ACE-Step 1.5 model: it lacks hidden_size; "
            "give the folder of acestep-v15-base or another base model"
        )

    @pytest.mark.parametrize(
        ("part", "key"), [("transformer", "num_hidden_layers"), ("condition_encoder", "text_hidden_dim")]
    )
    def test_value_that_makes_no_sense_is_named_with_its_file(
        self, folder: Path, part: str, key: str
    ) -> None:
        path = folder / part / "config.json"
        rewrite_json(path, **{key: 0})
        assert refusal(folder) == f"{path}: '{key}' is 0, expected a whole number of at least 1"

    @pytest.mark.parametrize(
        ("key", "value", "other", "others_key"),
        [("rope_theta", 10000.0, 1000000.0, "rope_theta"), ("hidden_size", 48, 64, "hidden_size")],
    )
    def test_files_that_contradict_one_another(
        self, folder: Path, key: str, value: Any, other: Any, others_key: str
    ) -> None:
        path = folder / "condition_encoder" / "config.json"
        rewrite_json(path, **{key: value})
        assert refusal(folder) == (
            f"{path}: '{key}' is {value}, expected {other}, which is '{others_key}' in "
            f"{folder / 'transformer' / 'config.json'}; are both of the same model?"
        )

    def test_layer_types_of_the_decoder_may_be_null(self, folder: Path) -> None:
        """The tiny checkpoint's are what the library then takes."""
        want = json.loads((folder / "transformer" / "config.json").read_text())["layer_types"]
        rewrite_json(folder / "transformer" / "config.json", layer_types=None)
        _, loaded, handler = load(folder)
        assert loaded
        assert list(handler.config.layer_types) == want

    @pytest.mark.parametrize("kinds", [["full_attention"] * 2, "full_attention", 2], ids=str)
    def test_condition_encoder_with_other_layers_is_refused(self, folder: Path, kinds: Any) -> None:
        path = folder / "condition_encoder" / "config.json"
        rewrite_json(path, layer_types=kinds)
        assert refusal(folder) == (
            f"{path}: 'layer_types' is {kinds!r}, expected null or both layer types in turn, the window first"
        )


class TestStrictness:
    """A weight that does not fit is named."""

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_missing(self, folder: Path, use_mlx_dit: bool) -> None:
        rewrite(folder / "transformer" / WEIGHTS, lambda tensors: tensors.pop("norm_out.weight"))
        message = refusal(folder, use_mlx_dit)
        assert message.startswith(f"{folder / 'transformer'}: the ")
        assert "1 missing (norm_out.weight), none unexpected; copy the checkpoint again" in message

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_unexpected(self, folder: Path, use_mlx_dit: bool) -> None:
        change = {"layers.0.lora.weight": torch.ones(2)}
        rewrite(folder / "transformer" / WEIGHTS, lambda tensors: tensors.update(change))
        assert "none missing, 1 unexpected (layers.0.lora.weight)" in refusal(folder, use_mlx_dit)

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_misshapen(self, folder: Path, use_mlx_dit: bool) -> None:
        change = {"norm_out.weight": torch.ones(63)}
        rewrite(folder / "transformer" / WEIGHTS, lambda tensors: tensors.update(change))
        assert (
            "weight 'norm_out.weight' has the shape (63,), its config.json asks for (64,); "
            "are both of the same model?"
        ) in refusal(folder, use_mlx_dit)

    def test_key_by_upstreams_name(self, folder: Path) -> None:
        """diffusers would not find it either."""
        key = "layers.0.self_attn.q_proj.weight"
        rewrite(
            folder / "transformer" / WEIGHTS,
            lambda tensors: tensors.update({key: tensors.pop("layers.0.self_attn.to_q.weight")}),
        )
        assert refusal(folder) == (
            f"{folder / 'transformer'} holds weights of another model: 1 unexpected ({key}); "
            "give the folder of acestep-v15-base or another base model"
        )

    @pytest.mark.parametrize(
        ("silence", "found"),
        [
            (None, "None"),
            (torch.ones(1, 749, 8), "(1, 749, 8)"),
            (torch.ones(1, 8, 750), "(1, 8, 750)"),
            (torch.ones(750, 8), "(750, 8)"),
        ],
        ids=["missing", "too_short", "transposed", "no_batch_axis"],
    )
    def test_silence_latent(self, folder: Path, silence: Any, found: str) -> None:
        def change(tensors: dict[str, torch.Tensor]) -> None:
            del tensors["silence_latent"]
            if silence is not None:
                tensors["silence_latent"] = silence

        rewrite(folder / "condition_encoder" / WEIGHTS, change)
        assert refusal(folder) == (
            f"{folder / 'condition_encoder'}: 'silence_latent' holds {found}, expected a tensor "
            "[1, 750 or more, 8]; copy the checkpoint again"
        )


class TestPlaces:
    """The parts beside a DiT folder are found however the folder is named."""

    def test_the_current_folder(
        self, tiny_root: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoints = tiny_root() / "checkpoints"
        monkeypatch.chdir(checkpoints / "acestep-v15-base")
        assert find_layout(Path()).vae == checkpoints / "vae"

    def test_link_to_a_folder(self, tiny_root: Callable[..., Path], tmp_path: Path) -> None:
        checkpoints = tiny_root() / "checkpoints"
        (tmp_path / "base").symlink_to(checkpoints / "acestep-v15-base")
        assert find_layout(tmp_path / "base").vae == checkpoints / "vae"

    def test_link_with_the_parts_beside_it(self, tiny_root: Callable[..., Path], tmp_path: Path) -> None:
        checkpoints = tiny_root() / "checkpoints"
        (tmp_path / "base").symlink_to(checkpoints / "acestep-v15-base")
        (tmp_path / "vae").mkdir()
        assert find_layout(tmp_path / "base").vae == tmp_path / "vae"


@pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
def test_path_that_is_not_utf_8(folder: Path, use_mlx_dit: bool) -> None:
    """mlx and tokenizers open none."""
    renamed = folder.rename(folder.with_name(os.fsdecode(b"pipeline\x97")))
    assert refusal(renamed, use_mlx_dit).endswith(
        "pipeline\\udc97 has bytes in its path that are not UTF-8, which the libraries that read weights cannot open; "
        "rename it"
    )
