"""PyTorch's parts out of a checkpoint: strict, and equal to the file."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import read_config
from acestep.models.checkpoint.silence import load_silence_latent
from acestep.models.checkpoint.weights import upstream_name
from acestep.models.pytorch.loading import (
    load_condition_encoder,
    load_decoder,
    load_text_encoder,
    load_vae,
)
from tests.parity_helper import assert_equal

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def checkpoints(tiny_root: Callable[..., Path], tmp_path: Path) -> Path:
    """A checkpoints folder that a test may change."""
    shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture
def dit(checkpoints: Path) -> Path:
    return checkpoints / "acestep-v15-base"


def rewrite(path: Path, change: Callable[[Tensors], Any]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(load: Callable[..., Any], folder: Path, dit: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        load(folder, read_config(dit))
    return str(refused.value)


@pytest.mark.parametrize("shape", ["plain", "xl"])
def test_every_weight_of_decoder_and_encoder_arrives(tiny_root: Callable[..., Path], shape: str) -> None:
    folder = tiny_root("base", shape) / "checkpoints" / "acestep-v15-base"
    config = read_config(folder)
    tensors = load_file(folder / "model.safetensors")
    silence = torch.load(folder / "silence_latent.pt", weights_only=True)
    got = {f"decoder.{upstream_name(k)}": v for k, v in load_decoder(folder, config).state_dict().items()}
    got |= {
        f"encoder.{upstream_name(k)}": v
        for k, v in load_condition_encoder(folder, config).state_dict().items()
    }
    got["null_condition_emb"] = got.pop("encoder.null_condition_emb")
    assert_equal(got.pop("encoder.silence_latent"), silence.transpose(1, 2), "silence latent")
    assert got.keys() == {key for key in tensors if "tokenizer." not in key}
    for key, value in got.items():
        assert_equal(value, tensors[key], key)


def test_half_precision_on_disk_is_float32_in_memory(dit: Path) -> None:
    rewrite(dit / "model.safetensors", lambda ts: ts.update({key: v.bfloat16() for key, v in ts.items()}))
    torch.save(torch.load(dit / "silence_latent.pt", weights_only=True).bfloat16(), dit / "silence_latent.pt")
    config = read_config(dit)
    for module in (load_decoder(dit, config), load_condition_encoder(dit, config)):
        assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_parts_come_ready_to_run(checkpoints: Path, dit: Path) -> None:
    """In evaluation mode, without gradients, and the VAE in tiles: four minutes of audio do not fit otherwise."""
    config = read_config(dit)
    vae = load_vae(checkpoints / "vae", config)
    encoder = load_text_encoder(checkpoints / "Qwen3-Embedding-0.6B", config)
    for module in (load_decoder(dit, config), load_condition_encoder(dit, config), vae, encoder):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert vae.use_tiling


class TestStrictness:
    """A weight that does not fit is named, wherever a library would only warn."""

    @pytest.mark.parametrize(
        ("key", "load"),
        [
            ("decoder.norm_out.weight", load_decoder),
            ("encoder.text_projector.weight", load_condition_encoder),
        ],
        ids=["decoder", "encoder"],
    )
    def test_missing(self, dit: Path, key: str, load: Callable[..., Any]) -> None:
        rewrite(dit / "model.safetensors", lambda tensors: tensors.pop(key))
        name = key.split(".", 1)[1]
        assert refusal(load, dit, dit) == (
            f"{dit}: the weights do not fit its config.json: 1 missing ({name}), none unexpected; "
            "copy the checkpoint again"
        )

    def test_missing_null_condition(self, dit: Path) -> None:
        rewrite(dit / "model.safetensors", lambda tensors: tensors.pop("null_condition_emb"))
        assert "1 missing (null_condition_emb), none unexpected" in refusal(load_condition_encoder, dit, dit)

    @pytest.mark.parametrize(
        ("prefix", "load"), [("decoder.", load_decoder), ("encoder.", load_condition_encoder)]
    )
    def test_unexpected(self, dit: Path, prefix: str, load: Callable[..., Any]) -> None:
        rewrite(dit / "model.safetensors", lambda tensors: tensors.update({f"{prefix}extra": torch.ones(1)}))
        assert "none missing, 1 unexpected (extra)" in refusal(load, dit, dit)

    def test_misshapen(self, dit: Path) -> None:
        rewrite(dit / "model.safetensors", lambda ts: ts.update({"decoder.norm_out.weight": torch.ones(63)}))
        assert refusal(load_decoder, dit, dit) == (
            f"{dit}: weight 'norm_out.weight' has the shape (63,), its config.json asks for (64,); "
            "are both of the same model?"
        )

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            pytest.param(
                lambda ts: ts.pop("decoder.conv1.bias"), "1 missing (decoder.conv1.bias)", id="missing"
            ),
            pytest.param(lambda ts: ts.update(x=torch.ones(1)), "1 unexpected (x)", id="unexpected"),
        ],
    )
    def test_vae(self, checkpoints: Path, dit: Path, change: Any, found: str) -> None:
        rewrite(checkpoints / "vae" / "diffusion_pytorch_model.safetensors", change)
        folder = checkpoints / "vae"
        assert refusal(load_vae, folder, dit) == (
            f"{folder}: the weights do not fit its config.json: {found}; copy the checkpoint again"
        )

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            pytest.param(lambda ts: ts.pop("norm.weight"), "1 missing (norm.weight)", id="missing"),
            pytest.param(lambda ts: ts.update(x=torch.ones(1)), "1 unexpected (x)", id="unexpected"),
        ],
    )
    def test_text_encoder(self, checkpoints: Path, dit: Path, change: Any, found: str) -> None:
        folder = checkpoints / "Qwen3-Embedding-0.6B"
        rewrite(folder / "model.safetensors", change)
        assert refusal(load_text_encoder, folder, dit) == (
            f"{folder}: the weights do not fit its config.json: {found}; copy the checkpoint again"
        )

    def test_misshapen_in_the_text_encoder(self, checkpoints: Path, dit: Path) -> None:
        folder = checkpoints / "Qwen3-Embedding-0.6B"
        rewrite(folder / "model.safetensors", lambda tensors: tensors.update({"norm.weight": torch.ones(3)}))
        assert refusal(load_text_encoder, folder, dit) == (
            f"{folder}: the weights do not fit its config.json: 1 mismatched (norm.weight); "
            "copy the checkpoint again"
        )

    def test_misshapen_in_the_vae(self, checkpoints: Path, dit: Path) -> None:
        """The sentence within the parentheses is diffusers'."""
        folder, key = checkpoints / "vae", "decoder.conv1.bias"
        rewrite(folder / "diffusion_pytorch_model.safetensors", lambda ts: ts.update({key: torch.ones(3)}))
        sentence = refusal(load_vae, folder, dit)
        assert sentence.startswith(f"{folder} cannot be loaded (")
        assert sentence.endswith("); copy the checkpoint again")
        assert key in sentence
        assert "\n" not in sentence


class TestOtherModels:
    """Parts that load but do not belong together."""

    def test_vae_of_another_rate(self, checkpoints: Path, dit: Path) -> None:
        folder = checkpoints / "vae"
        rewrite_json(folder / "config.json", sampling_rate=44100)
        assert refusal(load_vae, folder, dit) == (
            f"{folder} is another model's VAE: sample rate, channels, latent channels and samples a frame are "
            "(44100, 2, 8, 1920), the DiT beside it expects (48000, 2, 8, 1920); "
            "give the vae folder of the same checkpoint"
        )

    def test_text_encoder_of_another_width(self, checkpoints: Path, dit: Path) -> None:
        folder = checkpoints / "Qwen3-Embedding-0.6B"
        wider = replace(read_config(dit), text_hidden_dim=1024)
        with pytest.raises(CheckpointError) as refused:
            load_text_encoder(folder, wider)
        assert str(refused.value) == (
            f"{folder} is 32 wide, the DiT's config.json asks for text_hidden_dim 1024; "
            "give the text encoder of the same checkpoint"
        )

    def test_folder_of_another_kind(self, checkpoints: Path, dit: Path) -> None:
        (checkpoints / "vae" / "config.json").write_text('{"sample_size": "x"}')
        sentence = refusal(load_vae, checkpoints / "vae", dit)
        assert sentence.startswith(f"{checkpoints / 'vae'} ")
        assert "\n" not in sentence


class RunsCode:
    """What a malicious silence_latent.pt could hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


class TestSilenceLatent:
    """A bare tensor, and nothing that runs."""

    def test_pickle_that_would_run_code_is_refused(self, dit: Path, tmp_path: Path) -> None:
        proof, path = tmp_path / "was_run", dit / "silence_latent.pt"
        torch.save(RunsCode(proof), path)
        assert refusal(load_silence_latent, dit, dit) == (
            f"{path} holds something else than a tensor of floating-point numbers (it asks for __builtin__.getattr); "
            "copy the checkpoint again"
        )
        assert not proof.exists()
        torch.load(path, weights_only=False)
        assert proof.exists(), "the file would have run its code; otherwise this test shows nothing"

    def test_plain_pickle_is_refused(self, dit: Path) -> None:
        path = dit / "silence_latent.pt"
        path.write_bytes(pickle.dumps(RunsCode(dit / "was_run")))
        assert str(path) in refusal(load_silence_latent, dit, dit)
        assert not (dit / "was_run").exists()

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            pytest.param(torch.ones(1, 750, 8), "(1, 750, 8)", id="transposed"),
            pytest.param(torch.ones(1, 8, 749), "(1, 8, 749)", id="too_short"),
            pytest.param(torch.ones(8, 750), "(8, 750)", id="no_batch_axis"),
            pytest.param(torch.ones(2, 8, 750), "(2, 8, 750)", id="two_of_them"),
        ],
    )
    def test_other_values_are_refused(self, dit: Path, value: Any, found: str) -> None:
        path = dit / "silence_latent.pt"
        torch.save(value, path)
        assert refusal(load_silence_latent, dit, dit) == (
            f"{path} holds {found}, expected a tensor [1, 8, 750 or more]; copy the checkpoint again"
        )

    def test_longer_one_serves(self, dit: Path) -> None:
        torch.save(torch.ones(1, 8, 900), dit / "silence_latent.pt")
        assert load_condition_encoder(dit, read_config(dit)).silence_latent.shape == (1, 900, 8)
