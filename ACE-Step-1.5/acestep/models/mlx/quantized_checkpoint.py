"""A checkpoint with a quantised decoder, written beside the one that it is made of."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np

from acestep.errors import CheckpointError
from acestep.models.checkpoint.config import ModelConfig, read_config, read_json
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import FULL_PRECISION
from acestep.models.checkpoint.quantization import KEY, quantization_of, stored_bits
from acestep.models.checkpoint.silence import SILENCE
from acestep.models.checkpoint.weights import (
    DECODER_PREFIX,
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    UNUSED_PREFIXES,
    check_weights,
    diffusers_name,
    weight_sources,
)
from acestep.models.mlx.dit_convert import convert_and_load, convert_decoder_weights
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_generate import draw_noise, mlx_generate_diffusion
from acestep.models.mlx.dit_model import MLXDiTDecoder
from acestep.models.mlx.loading import check_shapes, read_checkpoint, shapes_of
from acestep.models.mlx.quantize import quantize_layers, quantize_weights

STEPS, FRAMES, ENCODER_LENGTH = 8, 125, 64  # of the run that float32 and bits are compared in


def check_target(folder: Path, target: Path) -> None:
    """CheckpointError where a converted checkpoint cannot be made of `folder` or be at `target`."""
    layout = find_layout(folder)
    if (bits := stored_bits(folder)) is not None:
        raise CheckpointError(
            f"the decoder of {folder} is stored in {bits} bits already; give the original checkpoint"
        )
    if os.path.lexists(target):
        raise CheckpointError(f"{target} exists; nothing is overwritten: give another --out or remove it")
    if not target.parent.is_dir():
        raise CheckpointError(f"{target.parent} does not exist; give an --out in a folder that does")
    if not layout.is_diffusers and target.parent.resolve() != layout.vae.parent.resolve():
        raise CheckpointError(
            f"{target} is not beside {layout.vae}, which is loaded from there; give an --out in {layout.vae.parent}"
        )


def write_quantized(folder: Path, target: Path, bits: int) -> None:
    """Copies a checkpoint, in either layout, its decoder quantised to 8 or 4 bits; `target` is there whole or not at
    all.

    Parts of the checkpoint that LEGO does not read are left out in upstream's layout.
    """
    check_target(folder, target)
    layout, config = find_layout(folder), read_config(folder)
    for path, _ in weight_sources(folder):
        check_weights(path)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        if layout.is_diffusers:
            shutil.copytree(folder, partial, ignore=_ignore_weights(layout.decoder), dirs_exist_ok=True)
            decoder, stem = partial / layout.decoder.name, DIFFUSERS_STEM
            prefixes: tuple[str, ...] = (DECODER_PREFIX,)
        else:
            shutil.copy2(folder / f"{SILENCE}.pt", partial)
            decoder, stem, prefixes = partial, TRANSFORMERS_STEM, ("",)
        arrays = quantized_arrays(folder, config, bits, prefixes)
        mx.save_safetensors(
            str(decoder / f"{stem}.safetensors"),
            {_name_in_diffusers(n): v for n, v in arrays.items()} if layout.is_diffusers else arrays,
            metadata={"format": "mlx"},
        )
        values = read_json(layout.decoder / "config.json") | {KEY: quantization_of(bits)}
        (decoder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's folder is for its owner alone
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _ignore_weights(of: Path) -> Callable[[str, list[str]], set[str]]:
    """For copytree: the weight files of one folder."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if Path(folder) == of and name.startswith(DIFFUSERS_STEM)}

    return ignored


def _name_in_diffusers(name: str) -> str:
    return diffusers_name(name.removeprefix(DECODER_PREFIX))


def quantized_arrays(
    folder: Path, config: ModelConfig, bits: int, prefixes: tuple[str, ...]
) -> dict[str, mx.array]:
    """The arrays of a checkpoint by upstream's names, the decoder's matrices quantised, all else as it is stored."""
    decoder = MLXDiTDecoder.from_config(config)
    shapes = shapes_of(decoder)
    arrays = read_checkpoint(folder, prefixes)
    check_shapes(shapes, convert_decoder_weights(arrays), str(find_layout(folder).decoder))
    quantize_layers(decoder, bits)
    stored = {name: value for name, value in arrays.items() if not name.startswith(UNUSED_PREFIXES)}
    arrays.clear()
    quantised = quantize_weights(decoder, stored, DECODER_PREFIX)
    stored.clear()
    for value in quantised.values():  # one at a time: all at once, they would be held as stored too
        mx.eval(value)
    return quantised


def final_latents(folder: Path, precision: str = FULL_PRECISION) -> np.ndarray:
    """Of a short run of a checkpoint's decoder on random inputs, the same for every decoder of a shape."""
    config = read_config(folder)
    decoder = MLXDiTDecoder.from_config(config)
    convert_and_load(folder, decoder, precision)
    channels, width = config.audio_acoustic_hidden_dim, config.encoder_hidden_size
    source = np.array(draw_noise(1, (1, FRAMES, channels)))
    latents: np.ndarray = mlx_generate_diffusion(
        MLXFastDecoder(decoder),
        np.array(draw_noise(2, (1, ENCODER_LENGTH, width))),
        np.concatenate([source, np.ones_like(source)], axis=-1),
        source.shape,
        seed=3,
        shift=1.0,
        disable_tqdm=True,
        infer_steps=STEPS,
        is_turbo=False,
    )["target_latents"]
    return latents


def decoder_bytes(folder: Path) -> int:
    """What a checkpoint's decoder takes in memory, float32 where it is not quantised."""
    weights = convert_decoder_weights(read_checkpoint(folder, (DECODER_PREFIX,)))
    return sum(value.nbytes for value in weights.values())
