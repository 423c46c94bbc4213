"""The tiny checkpoint: the same bytes for the same seed, small, quick, and in a layout that loads."""

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from acestep.constants import TRACK_NAMES
from acestep.models.checkpoint.config import read_config
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.checkpoint.weights import upstream_name
from acestep.models.tiny import tiny_config, write_tiny_checkpoint
from acestep.models.tiny_shapes import dit_shapes, text_encoder_shapes, vae_shapes

KINDS_AND_SHAPES = [(kind, shape) for kind in ("base", "turbo") for shape in ("plain", "xl")]


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes(tiny_root: Callable[..., Path], tmp_path: Path) -> None:
    first = hashes(tiny_root())
    np.random.seed(99)  # the caller's random state must not matter
    write_tiny_checkpoint(tmp_path)
    assert hashes(tmp_path) == first


def test_another_seed_other_weights_everywhere(tiny_root: Callable[..., Path], tmp_path: Path) -> None:
    write_tiny_checkpoint(tmp_path, seed=1)
    first, second = hashes(tiny_root()), hashes(tmp_path)
    assert first.keys() == second.keys()
    other = {name for name, digest in first.items() if digest != second[name]}
    assert other == {
        "checkpoints/Qwen3-Embedding-0.6B/model.safetensors",
        "checkpoints/acestep-v15-base/model.safetensors",
        "checkpoints/acestep-v15-base/silence_latent.pt",
        "checkpoints/vae/diffusion_pytorch_model.safetensors",
    }


def test_under_5_mb_and_1_s(tmp_path: Path) -> None:
    start = time.process_time()
    write_tiny_checkpoint(tmp_path, shape="xl")
    assert time.process_time() - start < 1
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 5_000_000


def shapes_of(module: torch.nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """Of all tensors of one of the libraries' modules, by upstream's names."""
    return {prefix + upstream_name(key): tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("shape", ["plain", "xl"])
def test_names_and_shapes_of_the_dit_are_diffusers(shape: Any) -> None:
    from diffusers import AceStepTransformer1DModel
    from diffusers.pipelines.ace_step import modeling_ace_step as parts

    config = tiny_config("base", shape)
    encoder = config | {
        key.removeprefix("encoder_"): value for key, value in config.items() if key.startswith("encoder_")
    }

    def build(module: Any, source: dict[str, Any]) -> Any:
        known = inspect.signature(module).parameters
        return module(**{key: value for key, value in source.items() if key in known})

    with torch.device("meta"):
        decoder = build(AceStepTransformer1DModel, config | {"encoder_hidden_size": encoder["hidden_size"]})
        condition = build(parts.AceStepConditionEncoder, encoder)
        tokenizer = build(parts.AceStepAudioTokenizer, encoder)
        detokenizer = build(parts.AceStepAudioTokenDetokenizer, encoder)
    wanted = shapes_of(condition, "encoder.")
    wanted["null_condition_emb"] = wanted.pop("encoder.null_condition_emb")
    del wanted["encoder.silence_latent"]  # has a file of its own
    wanted |= shapes_of(decoder, "decoder.")
    wanted |= shapes_of(tokenizer, "tokenizer.") | shapes_of(detokenizer, "detokenizer.")
    assert dit_shapes(config) == wanted


def test_names_and_shapes_of_vae_and_text_encoder_are_the_libraries(tiny_root: Callable[..., Path]) -> None:
    from diffusers import AutoencoderOobleck
    from transformers import Qwen3Config, Qwen3Model

    checkpoints = tiny_root() / "checkpoints"
    vae = json.loads((checkpoints / "vae" / "config.json").read_text())
    qwen3 = json.loads((checkpoints / "Qwen3-Embedding-0.6B" / "config.json").read_text())
    assert vae_shapes(vae) == shapes_of(AutoencoderOobleck.from_config(vae))
    assert text_encoder_shapes(qwen3) == shapes_of(Qwen3Model(Qwen3Config.from_dict(qwen3)))


def test_files_hold_these_names_and_shapes(tiny_root: Callable[..., Path]) -> None:
    checkpoints = tiny_root("turbo", "xl") / "checkpoints"
    for file, shapes in (
        ("acestep-v15-turbo/model.safetensors", dit_shapes),
        ("vae/diffusion_pytorch_model.safetensors", vae_shapes),
        ("Qwen3-Embedding-0.6B/model.safetensors", text_encoder_shapes),
    ):
        path = checkpoints / file
        config = json.loads((path.parent / "config.json").read_text())
        assert {key: tuple(value.shape) for key, value in load_file(path).items()} == shapes(config)


def test_the_libraries_load_vae_and_text_encoder_whole(tiny_root: Callable[..., Path]) -> None:
    from diffusers import AutoencoderOobleck
    from transformers import AutoTokenizer, Qwen3Model

    checkpoints = tiny_root() / "checkpoints"
    folder = checkpoints / "Qwen3-Embedding-0.6B"
    for library, where in ((AutoencoderOobleck, checkpoints / "vae"), (Qwen3Model, folder)):
        _, loading = library.from_pretrained(where, output_loading_info=True)
        assert not any(loading.values()), loading
    text = "Generate the BASS track<|endoftext|>"
    assert AutoTokenizer.from_pretrained(folder)(text)["input_ids"] == load_tokenizer(folder)(text)


@pytest.mark.parametrize(("kind", "shape"), KINDS_AND_SHAPES, ids=map("_".join, KINDS_AND_SHAPES))
def test_every_kind_and_shape_loads_on_both_sides(load_pair: Any, kind: str, shape: str) -> None:
    pair = load_pair(shape, kind)
    assert pair.config.is_turbo == (kind == "turbo")
    assert pair.torch.config.is_turbo == (kind == "turbo")
    assert (pair.config.encoder_hidden_size == pair.config.hidden_size) == (shape == "plain")


def test_returns_the_dit_folder(tmp_path: Path) -> None:
    assert write_tiny_checkpoint(tmp_path, "turbo") == tmp_path / "checkpoints" / "acestep-v15-turbo"


def test_shape_reaches_every_branch_of_the_decoder(tiny_root: Callable[..., Path]) -> None:
    config = read_config(tiny_root() / "checkpoints" / "acestep-v15-base")
    assert config.num_key_value_heads < config.num_attention_heads
    assert set(config.layer_types) == {"sliding_attention", "full_attention"}
    shortest_context = 128 // config.patch_size
    assert 2 * config.sliding_window + 1 < shortest_context
    assert config.in_channels == 3 * config.audio_acoustic_hidden_dim


def test_layout_is_upstreams(tiny_root: Callable[..., Path]) -> None:
    checkpoints = tiny_root() / "checkpoints"
    dit = checkpoints / "acestep-v15-base"
    config = json.loads((dit / "config.json").read_text())
    assert config["auto_map"].keys() == {"AutoConfig", "AutoModel"}
    assert config["fsq_dim"] == config["hidden_size"]
    tensors = load_file(dit / "model.safetensors")
    parts = ("decoder.", "encoder.", "tokenizer.", "detokenizer.", "null_condition_emb")
    assert {part for part in parts for key in tensors if key.startswith(part)} == set(parts)
    assert tensors["null_condition_emb"].shape == (1, 1, config["hidden_size"])
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    silence = torch.load(dit / "silence_latent.pt", weights_only=True)
    assert silence.shape == (1, config["timbre_hidden_dim"], 750)
    assert (checkpoints / "acestep-5Hz-lm-1.7B" / "model.safetensors").stat().st_size == 0


@pytest.mark.parametrize("track", TRACK_NAMES)
def test_tokenizer_gives_every_prompt_back_and_knows_its_words(
    tiny_root: Callable[..., Path], track: str
) -> None:
    from diffusers import AceStepPipeline

    folder = tiny_root() / "checkpoints"
    tokenizer = load_tokenizer(folder / "Qwen3-Embedding-0.6B", 400)
    text = AceStepPipeline._get_task_instruction("lego", track) + " Ünïcode 日本"
    tokens = tokenizer(text)
    assert tokenizer.tokenizer.decode(tokens) == text
    assert len(tokens) < len(text.encode()) / 2, "trained on the prompts, it takes fewer tokens than bytes"
