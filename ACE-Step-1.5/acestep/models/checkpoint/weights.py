"""The weight files of a checkpoint in either layout; tensors are named as upstream names them."""

import json
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import read_json
from acestep.models.checkpoint.layout import find_layout

if TYPE_CHECKING:  # a run on MLX needs no PyTorch
    import torch

DECODER_PREFIX = "decoder."
ENCODER_PREFIX = "encoder."
NULL_CONDITION = "null_condition_emb"
# LEGO tokenizes no audio: these parts belong to the cover task. They may be there and are not read.
UNUSED_PREFIXES = ("tokenizer.", "detokenizer.")
# What the libraries call their weight files, less what follows for shards.
TRANSFORMERS_STEM, DIFFUSERS_STEM = "model", "diffusion_pytorch_model"
# What weights may be stored in, by safetensors' names, and what numpy reads it as.
DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
QUANTISED_DTYPE = "U32"
ADAPTER_CONFIG = "adapter_config.json"  # of PEFT
VALUES_AT_ONCE = 2**22
# Tensors read from a file before it is opened anew: while it is open, all that was read counts as memory in use.
READ_AT_ONCE = 16

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
    """The inverse of `diffusers_name`."""
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


def weight_files(folder: Path, stem: str = TRANSFORMERS_STEM) -> list[Path]:
    """The safetensors of one model: {stem}.safetensors, or every shard that its index names."""
    if (folder / ADAPTER_CONFIG).exists():
        raise CheckpointError(
            f"{folder} has {ADAPTER_CONFIG}: LoRA and other adapters are not applied; merge it into the weights first, "
            f"or remove it"
        )
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file() and index.is_file():
        raise CheckpointError(
            f"{folder} has both {single.name} and {index.name}; remove the one that is not this model's"
        )
    if single.is_file():
        return [single]
    if not index.is_file():
        raise CheckpointError(
            f"{folder} has neither {single.name} nor {index.name}; is the checkpoint copied whole?"
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


def weight_sources(folder: Path) -> list[tuple[Path, str]]:
    """The weight files of decoder and condition encoder, each with what `full_name` puts before its keys."""
    layout = find_layout(folder)
    if not layout.is_diffusers:
        return [(path, "") for path in weight_files(folder)]
    return [
        (path, prefix)
        for part, prefix in ((layout.decoder, DECODER_PREFIX), (layout.condition_encoder, ENCODER_PREFIX))
        for path in weight_files(part, DIFFUSERS_STEM)
    ]


def full_name(key: str, prefix: str) -> str:
    """A key of a weight file by upstream's name, prefix included; one that diffusers does not use stays as it is."""
    if not prefix or key == NULL_CONDITION:
        return key
    name = upstream_name(key)
    return prefix + name if diffusers_name(name) == key else key


def check_keys(keys: Iterable[str], source: str) -> None:
    """Every key belongs to a known part; one that does not is an error that names it."""
    known = (DECODER_PREFIX, ENCODER_PREFIX, NULL_CONDITION, *UNUSED_PREFIXES)
    unexpected = [key for key in keys if not key.startswith(known)]
    if unexpected:
        raise CheckpointError(
            f"{source} holds weights of another model: {name_keys('unexpected', unexpected)}; "
            f"give the folder of acestep-v15-base or another base model"
        )


@contextmanager
def _opened(path: Path, framework: str = "np") -> Iterator[Any]:
    """A safetensors file, its header read; CheckpointError where it is not there or not whole."""
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; is the checkpoint copied whole?") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from None


def read_sizes(path: Path) -> dict[str, int]:
    """How many numbers each tensor of a safetensors file holds, by the header alone."""
    with _opened(path) as file:
        return {key: math.prod(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118


def read_tensors(path: Path, prefixes: tuple[str, ...] = ("",)) -> dict[str, "torch.Tensor"]:
    """The tensors of one safetensors file whose key starts with one of the prefixes, as they are stored."""
    with _opened(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys() if key.startswith(prefixes)}  # noqa: SIM118


def check_dtypes(
    path: Path, skip: tuple[str, ...] = UNUSED_PREFIXES, is_quantised: bool = False
) -> list[str]:
    """The keys of a file that do not start with one of `skip`; CheckpointError where one is not stored in DTYPES.

    Anything else loads as numbers that are not the model's: integers of a quantised matrix without their scales.
    is_quantised: matrices may be stored in QUANTISED_DTYPE, their scales beside them; they are not among the keys.
    """
    with _opened(path) as file:
        stored = {key: file.get_slice(key).get_dtype() for key in file.keys() if not key.startswith(skip)}  # noqa: SIM118
    if is_quantised:
        quantised = {
            key
            for key, dtype in stored.items()
            if dtype == QUANTISED_DTYPE and key.removesuffix("weight") + "scales" in stored
        }
        stored = {key: dtype for key, dtype in stored.items() if key not in quantised}
    for key, dtype in stored.items():
        if dtype not in DTYPES:
            raise CheckpointError(
                f"{path}: weight '{key}' is stored as {dtype}, expected {', '.join(DTYPES)}"
                + ("" if not is_quantised else f", or {QUANTISED_DTYPE} with its scales beside it")
                + "; give a checkpoint that is not quantised"
                + ("" if not is_quantised else ", or convert the original again")
            )
    return list(stored)


def read_values(
    path: Path, keys: Iterable[str]
) -> Iterator[tuple[str, tuple[int, ...], Iterator[np.ndarray]]]:
    """The key and shape of each weight and its values in order, float32, a part at a time.

    The values of a weight are read before those of the next one.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for key in keys:
            entry = header[key]
            start, end = entry["data_offsets"]
            file.seek(8 + size + start)
            yield key, tuple(entry["shape"]), _parts(file, DTYPES[entry["dtype"]], end - start)


def _parts(file: BinaryIO, dtype: Any, length: int) -> Iterator[np.ndarray]:
    """The next `length` bytes of a file, as float32."""
    count = length // np.dtype(dtype).itemsize
    for at in range(0, count, VALUES_AT_ONCE):
        part = np.fromfile(file, dtype, min(VALUES_AT_ONCE, count - at))
        # bfloat16 is the upper half of a float32
        is_bfloat16 = dtype is np.uint16
        yield (
            (part.astype(np.uint32) << 16).view(np.float32)
            if is_bfloat16
            else part.astype(np.float32, copy=False)
        )


def check_weights(path: Path, skip: tuple[str, ...] = UNUSED_PREFIXES, is_quantised: bool = False) -> None:
    """`check_dtypes` and `check_values` of all weights of a file but those whose key starts with one of `skip`."""
    for key, shape, values in read_values(path, check_dtypes(path, skip, is_quantised)):
        check_values(shape, values, f"{path}: weight '{key}'")


def check_values(shape: tuple[int, ...], values: Iterable[np.ndarray], place: str) -> None:
    """CheckpointError where a weight holds NaN or infinite values, or is a matrix of zeros."""
    is_zero = math.prod(shape) > 0
    for part in values:
        low, high = float(part.min()), float(part.max())  # NaN where there is one
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CheckpointError(f"{place} holds NaN or infinite values; copy the checkpoint again")
        is_zero = is_zero and low == high == 0
    if is_zero and sum(size > 1 for size in shape) > 1:
        raise CheckpointError(f"{place} is zero throughout; copy the checkpoint again")


def sizes_of_checkpoint(folder: Path) -> dict[str, int]:
    """`read_sizes` of decoder and condition encoder, by upstream's names, which are checked and are unique."""
    sizes: dict[str, int] = {}
    for path, prefix in weight_sources(folder):
        of_file = {full_name(key, prefix): size for key, size in read_sizes(path).items()}
        check_keys(of_file, str(path.parent))
        if twice := sizes.keys() & of_file.keys():
            raise CheckpointError(
                f"{path} holds weights that another file of the checkpoint holds too: "
                f"{name_keys('repeated', twice)}; copy the checkpoint again"
            )
        sizes |= of_file
    return sizes


def read_float32(folder: Path, prefixes: tuple[str, ...]) -> dict[str, "torch.Tensor"]:
    """The tensors of a checkpoint whose name, upstream's, starts with one of the prefixes.

    What is float32 on disk is mapped, not copied; of anything else never more than a few tensors are held twice.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path, prefix in weight_sources(folder):
        names = {key: full_name(key, prefix) for key in read_sizes(path)}
        check_dtypes(path)
        check_keys(names.values(), str(path.parent))
        wanted = [key for key, name in names.items() if name.startswith(prefixes)]
        for start in range(0, len(wanted), READ_AT_ONCE):
            with _opened(path, "pt") as file:
                tensors |= {
                    names[key]: file.get_tensor(key).float() for key in wanted[start : start + READ_AT_ONCE]
                }
    return tensors
