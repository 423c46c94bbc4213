"""What config.json says of a decoder that is stored quantised, under the key that mlx-lm gives it."""

from pathlib import Path

from acestep.core.generation.handler.request_values import show
from acestep.errors import BackendError, CheckpointError
from acestep.models.checkpoint.config import read_json
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import AUTO, FULL_PRECISION, GROUP_SIZE, QUANTISED, Precision

KEY = "quantization"


def quantization_of(bits: int) -> dict[str, int]:
    """The value of KEY for a decoder of so many bits."""
    return {"group_size": GROUP_SIZE, "bits": bits}


def stored_bits(folder: Path) -> int | None:
    """Of a checkpoint's decoder, 8 or 4; None where it is not quantised.

    CheckpointError for a quantisation that is not implemented.
    """
    path = find_layout(folder).decoder / "config.json"
    found = read_json(path).get(KEY)
    if found is None:
        return None
    for bits in QUANTISED.values():
        if found == quantization_of(bits):
            return bits
    raise CheckpointError(
        f"{path}: '{KEY}' is {show(found)}, expected {quantization_of(8)} or {quantization_of(4)}; "
        f"convert the original checkpoint with scripts/convert_checkpoint.py"
    )


def resolve_mlx_precision(asked: str, folder: Path) -> Precision:
    """The precision on MLX; 'auto' is float32, or what the decoder is stored in.

    BackendError where the decoder is stored in other bits than those that are asked for.
    """
    bits = stored_bits(folder)
    if bits is None:
        return Precision(FULL_PRECISION if asked == AUTO else asked)
    stored = Precision(f"{bits}bit")
    if asked not in (AUTO, stored.name):
        raise BackendError(
            f"mlx_precision is '{asked}', but the decoder of {folder} is stored in {bits} bits; give "
            f"'{stored.name}', or the checkpoint that it was converted from"
        )
    return stored
