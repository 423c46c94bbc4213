"""The weight files of a DiT folder and the names of what is in them."""

from collections.abc import Collection, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from acestep.errors import CheckpointError
from acestep.models.config import read_json

DECODER_PREFIX = "decoder."
ENCODER_PREFIX = "encoder."
NULL_CONDITION = "null_condition_emb"
# LEGO tokenizes no audio: these parts belong to the cover task. They may be there and are not read.
UNUSED_PREFIXES = ("tokenizer.", "detokenizer.")

_DIFFUSERS_NAMES = (
    (".q_proj.", ".to_q."),
    (".k_proj.", ".to_k."),
    (".v_proj.", ".to_v."),
    (".o_proj.", ".to_out.0."),
    (".q_norm.", ".norm_q."),
    (".k_norm.", ".norm_k."),
    ("proj_in.1.", "proj_in_conv."),
    ("proj_out.1.", "proj_out_conv."),
)


def diffusers_name(key: str) -> str:
    """A checkpoint's key, without its `decoder.` or `encoder.` prefix, as diffusers' modules call it."""
    for theirs, ours in _DIFFUSERS_NAMES:
        key = key.replace(theirs, ours)
    return key


def upstream_name(key: str) -> str:
    """The way back: diffusers' name of a tensor as upstream's checkpoint has it, without a prefix."""
    for theirs, ours in _DIFFUSERS_NAMES:
        key = key.replace(ours, theirs)
    return key


def name_keys(what: str, keys: Collection[str]) -> str:
    """'2 missing (a, b)', at most three names, for messages."""
    if not keys:
        return f"none {what}"
    names = sorted(keys)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors of a DiT folder: model.safetensors, or every shard that its index names."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder} has neither model.safetensors nor model.safetensors.index.json; "
            f"is the checkpoint copied whole?"
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no 'weight_map'; copy the checkpoint again")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(
                f"{folder / name} is missing, {index.name} names it; copy the checkpoint again"
            )
    return [folder / name for name in names]


def check_keys(keys: Iterable[str], source: str) -> None:
    """Every key belongs to a known part; one that does not is an error that names it."""
    known = (DECODER_PREFIX, ENCODER_PREFIX, NULL_CONDITION, *UNUSED_PREFIXES)
    unexpected = [key for key in keys if not key.startswith(known)]
    if unexpected:
        raise CheckpointError(
            f"{source} holds weights of another model: {name_keys('unexpected', unexpected)}; "
            f"give the folder of acestep-v15-base or another base model"
        )


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, torch.Tensor]:
    """The tensors of one safetensors file whose key starts with one of the prefixes, as they are stored."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint copied whole?") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None


def read_keys(folder: Path) -> set[str]:
    """The names of all tensors of a DiT folder, checked."""
    keys: set[str] = set()
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                keys |= set(file.keys())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
    check_keys(keys, str(folder))
    return keys
