"""Random damage to the files of a checkpoint: refused with one sentence, or what is loaded is what was there.

A bit flipped within the numbers of a weight file, which has no checksum, is refused or loaded as another number of the
same shape. Left out is a config that says another model.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from acestep.handler import AceStepHandler
from tests.checkpoint_forms import DIT, TEXT, VAE, rewrite, rewrite_json

FLIP_DATA = "flip in the data of"
EXAMPLES = int(os.environ.get("RANDOM_EXAMPLES", "12"))
WEIGHTS = [
    f"{DIT}/model.safetensors",
    f"{VAE}/diffusion_pytorch_model.safetensors",
    f"{TEXT}/model.safetensors",
]
CONFIGS = [f"{DIT}/config.json", f"{VAE}/config.json", f"{TEXT}/config.json"]
FILES = [
    *WEIGHTS, *CONFIGS, f"{DIT}/silence_latent.pt", f"{TEXT}/tokenizer.json", f"{TEXT}/tokenizer_config.json"
]  # fmt: skip
DTYPES = [torch.int8, torch.int32, torch.bool, torch.float64, torch.complex64, torch.float8_e5m2]
KEYS = [
    "is_turbo", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "in_channels", "patch_size",
    "layer_types", "timbre_fix_frame", "hidden_act", "use_sliding_window", "rope_scaling", "model_type",
    "sampling_rate", "audio_channels", "downsampling_ratios", "vocab_size", "quantization_config",
]  # fmt: skip
odd = st.one_of(
    st.none(), st.integers(-2, 10**12), st.floats(), st.text(max_size=5), st.lists(st.integers(), max_size=3)
)


def loaded_numbers(handler: AceStepHandler) -> dict[str, np.ndarray]:
    """Every weight that a request computes with."""
    parts = {
        "encoder": handler.model.encoder,
        "vae": handler.vae.vae,
        "text": handler.text_encoder.encoder,
        "decoder": handler.mlx_decoder.reference,
    }
    numbers = {
        f"{part}.{key}": np.array(value)
        for part, module in parts.items()
        for key, value in tree_flatten(module.parameters())
    }
    return numbers | {"silence": handler.model.silence_latent}


def fill(tensors: dict[str, torch.Tensor], draw: Any) -> None:
    """One tensor becomes NaN, infinite, or a matrix of zeros."""
    used = sorted(key for key in tensors if not key.startswith(("tokenizer.", "detokenizer.")))
    value = draw(st.sampled_from([torch.nan, torch.inf, 0.0]))
    matrices = [key for key in used if sum(size > 1 for size in tensors[key].shape) > 1]
    tensors[draw(st.sampled_from(matrices))].fill_(value)


def change_dtype(tensors: dict[str, torch.Tensor], draw: Any) -> None:
    used = sorted(key for key in tensors if not key.startswith(("tokenizer.", "detokenizer.")))
    key = draw(st.sampled_from(used))
    tensors[key] = tensors[key].to(draw(st.sampled_from(DTYPES)))


def flip(path: Path, draw: Any, of_data: bool = False) -> None:
    """Bits of a weight file: of the header or of the numbers behind it."""
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    first, last = (header, len(content) - 1) if of_data else (0, header - 1)
    for _ in range(draw(st.integers(1, 3))):
        content[draw(st.integers(first, last))] ^= 1 << draw(st.integers(0, 7))
    path.write_bytes(content)


def damage(checkpoints: Path, draw: Any) -> str:
    """Does one thing to one file; returns what."""
    kind = draw(st.sampled_from(["cut", "swap", "flip", FLIP_DATA, "dtype", "fill", "config"]))
    files = {"dtype": WEIGHTS, "fill": WEIGHTS, "config": CONFIGS, "flip": WEIGHTS, FLIP_DATA: WEIGHTS}.get(
        kind, FILES
    )
    path = checkpoints / draw(st.sampled_from(files))
    if kind == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: draw(st.integers(0, len(content) - 1))])
    elif kind == "swap":
        shutil.copy(checkpoints / draw(st.sampled_from(FILES)), f"{path}_")
        Path(f"{path}_").replace(path)
    elif kind in ("flip", FLIP_DATA):
        flip(path, draw, of_data=kind == FLIP_DATA)
    elif kind == "config":
        rewrite_json(path, **{draw(st.sampled_from(KEYS)): draw(odd)})
    else:
        rewrite(path, lambda tensors: {"dtype": change_dtype, "fill": fill}[kind](tensors, draw))
    return f"{kind} {path.relative_to(checkpoints)}"


@given(data=st.data())
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_damage_is_a_sentence_or_changes_nothing(
    mlx_handler: AceStepHandler,
    tiny_root: Callable[..., Path],
    tmp_path_factory: Any,
    data: st.DataObject,
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    try:
        checkpoints = Path(shutil.copytree(tiny_root() / "checkpoints", root / "checkpoints"))
        what = damage(checkpoints, data.draw)
        handler = AceStepHandler()
        message, loaded = handler.initialize_service(root, device="cpu")
    finally:
        shutil.rmtree(root)
    event(f"{what.rpartition(' ')[0]}: {'loaded' if loaded else 'refused'}")
    assert "\n" not in message
    if not loaded:
        before, after = vars(AceStepHandler()), vars(handler)
        assert {**after, "lock": None} == {**before, "lock": None}
        return
    want, got = loaded_numbers(mlx_handler), loaded_numbers(handler)
    assert got.keys() == want.keys(), what
    assert all(got[key].shape == want[key].shape for key in want), what
    if not what.startswith(FLIP_DATA):
        assert all(np.array_equal(got[key], want[key]) for key in want), what
    assert handler.config == mlx_handler.config, what
