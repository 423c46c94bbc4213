"""Weight files of a DiT folder and the names of what is in them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from acestep.errors import CheckpointError
from acestep.models.checkpoint.weights import (
    diffusers_name,
    name_keys,
    read_tensors,
    sizes_of_checkpoint,
    upstream_name,
    weight_files,
)

KEYS = {"decoder.a": torch.ones(2), "encoder.b": torch.zeros(1), "null_condition_emb": torch.ones(1)}


def write_index(folder: Path, weight_map: Any) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    return path


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        sizes_of_checkpoint(folder)
    return str(refused.value)


@pytest.mark.parametrize(
    ("upstream", "diffusers"),
    [
        ("layers.0.self_attn.q_proj.weight", "layers.0.self_attn.to_q.weight"),
        ("layers.0.self_attn.k_proj.bias", "layers.0.self_attn.to_k.bias"),
        ("layers.0.cross_attn.v_proj.weight", "layers.0.cross_attn.to_v.weight"),
        ("layers.0.cross_attn.o_proj.weight", "layers.0.cross_attn.to_out.0.weight"),
        ("layers.0.self_attn.q_norm.weight", "layers.0.self_attn.norm_q.weight"),
        ("layers.0.self_attn.k_norm.weight", "layers.0.self_attn.norm_k.weight"),
        ("proj_in.1.weight", "proj_in_conv.weight"),
        ("proj_out.1.bias", "proj_out_conv.bias"),
        ("layers.0.mlp.gate_proj.weight", "layers.0.mlp.gate_proj.weight"),
        ("scale_shift_table", "scale_shift_table"),
    ],
)
def test_names_go_both_ways(upstream: str, diffusers: str) -> None:
    assert diffusers_name(upstream) == diffusers
    assert upstream_name(diffusers) == upstream


def test_single_file(tmp_path: Path) -> None:
    save_file(KEYS, tmp_path / "model.safetensors")
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]
    assert sizes_of_checkpoint(tmp_path).keys() == KEYS.keys()


def test_every_shard_once(tmp_path: Path) -> None:
    save_file({"decoder.a": KEYS["decoder.a"], "decoder.c": torch.ones(1)}, tmp_path / "one.safetensors")
    save_file({"encoder.b": KEYS["encoder.b"]}, tmp_path / "two.safetensors")
    write_index(
        tmp_path,
        {"decoder.a": "one.safetensors", "decoder.c": "one.safetensors", "encoder.b": "two.safetensors"},
    )
    assert weight_files(tmp_path) == [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    assert sizes_of_checkpoint(tmp_path).keys() == {"decoder.a", "decoder.c", "encoder.b"}


def test_only_what_is_asked_for_is_read_and_as_it_is_stored(tmp_path: Path) -> None:
    save_file({**KEYS, "decoder.h": torch.ones(1, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    tensors = read_tensors(tmp_path / "model.safetensors", ("decoder.",))
    assert tensors.keys() == {"decoder.a", "decoder.h"}
    assert tensors["decoder.h"].dtype == torch.bfloat16


def test_parts_that_lego_does_not_read_may_be_there(tmp_path: Path) -> None:
    extra = {"tokenizer.x": torch.ones(1), "detokenizer.y": torch.ones(1)}
    save_file({**KEYS, **extra}, tmp_path / "model.safetensors")
    assert sizes_of_checkpoint(tmp_path).keys() == {*KEYS, *extra}


class TestRefusals:
    """Each names the file."""

    def test_no_weights_at_all(self, tmp_path: Path) -> None:
        assert refusal(tmp_path) == (
            f"{tmp_path} has neither model.safetensors nor model.safetensors.index.json; "
            "is the checkpoint copied whole?"
        )

    def test_missing_shard(self, tmp_path: Path) -> None:
        save_file({"decoder.a": KEYS["decoder.a"]}, tmp_path / "one.safetensors")
        write_index(tmp_path, {"decoder.a": "one.safetensors", "encoder.b": "two.safetensors"})
        assert refusal(tmp_path) == (
            f"{tmp_path / 'two.safetensors'} is missing, model.safetensors.index.json names it; "
            "copy the checkpoint again"
        )

    @pytest.mark.parametrize("weight_map", [None, {}, ["one.safetensors"]], ids=["null", "empty", "list"])
    def test_index_without_a_map(self, tmp_path: Path, weight_map: Any) -> None:
        path = write_index(tmp_path, weight_map)
        assert refusal(tmp_path) == f"{path} has no 'weight_map'; copy the checkpoint again"

    def test_index_leads_to_no_file_outside_the_folder(self, tmp_path: Path) -> None:
        save_file(KEYS, tmp_path / "outside.safetensors")
        folder = tmp_path / "dit"
        folder.mkdir()
        write_index(folder, {"decoder.a": "../outside.safetensors"})
        assert "outside.safetensors is missing, model.safetensors.index.json names it" in refusal(folder)

    @pytest.mark.parametrize("size", [0, 40], ids=["empty", "cut_short"])
    def test_file_that_is_not_whole(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "model.safetensors"
        save_file(KEYS, path)
        path.write_bytes(path.read_bytes()[:size])
        for sentence in (refusal(tmp_path), self.refusal_to_read(path)):
            assert sentence.startswith(f"{path} cannot be read (")
            assert sentence.endswith("); copy the checkpoint again")

    def refusal_to_read(self, path: Path) -> str:
        with pytest.raises(CheckpointError) as refused:
            read_tensors(path)
        return str(refused.value)

    def test_file_that_went_away(self, tmp_path: Path) -> None:
        path = tmp_path / "model.safetensors"
        assert self.refusal_to_read(path) == f"{path} is missing; is the checkpoint copied whole?"

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        save_file({**KEYS, "model.embed.weight": torch.ones(1)}, tmp_path / "model.safetensors")
        assert refusal(tmp_path) == (
            f"{tmp_path} holds weights of another model: 1 unexpected (model.embed.weight); "
            "give the folder of acestep-v15-base or another base model"
        )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ([], "none missing"),
        (["a"], "1 missing (a)"),
        (["c", "a", "b"], "3 missing (a, b, c)"),
        (["e", "d", "c", "a", "b"], "5 missing (a, b, c and 2 more)"),
    ],
    ids=["none", "one", "three", "five"],
)
def test_keys_are_counted_and_three_are_named(keys: list[str], text: str) -> None:
    assert name_keys("missing", keys) == text
