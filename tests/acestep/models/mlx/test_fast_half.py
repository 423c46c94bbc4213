"""float16 and bfloat16: half the memory of the large matmuls, and latents that are still those of float32."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from acestep.handler import AceStepHandler
from acestep.models.mlx.dit_fast import MLXFastDecoder
from tests.loop_helper import latents, load_mlx_decoder
from tests.parity_helper import assert_near, relative_l2

HALF_DTYPES = ("float16", "bfloat16")


@pytest.fixture(params=["plain", "xl"])
def folder(request: pytest.FixtureRequest, tiny_root: Any) -> Path:
    return tiny_root("base", request.param) / "checkpoints" / "acestep-v15-base"


@pytest.mark.parametrize("guidance", [1.0, 7.0], ids="guidance_{:g}".format)
@pytest.mark.parametrize("precision", HALF_DTYPES)
def test_latents_are_near_those_of_float32(folder: Path, precision: str, guidance: float) -> None:
    near = latents(MLXFastDecoder(load_mlx_decoder(folder, precision)), guidance)
    assert near.dtype == "float32"
    assert_near(
        near, latents(MLXFastDecoder(load_mlx_decoder(folder, "float32")), guidance), l2=2e-2, what="latents"
    )


@pytest.mark.parametrize("precision", HALF_DTYPES)
def test_matrices_alone_are_halved(folder: Path, precision: str) -> None:
    """Norms, tables, biases and both ends stay float32: they are small, and there it matters."""
    whole = dict(tree_flatten(load_mlx_decoder(folder, "float32").parameters()))
    half = dict(tree_flatten(load_mlx_decoder(folder, precision).parameters()))
    assert {str(value.dtype) for value in whole.values()} == {"mlx.core.float32"}
    for name, value in half.items():
        kept = (
            "norm" in name or name.endswith(("table", ".bias")) or name.startswith(("proj_in.", "proj_out."))
        )
        assert value.dtype == (mx.float32 if kept else getattr(mx, precision)), name
    assert sum(v.nbytes for v in half.values()) < 0.55 * sum(v.nbytes for v in whole.values())


@pytest.mark.parametrize("precision", HALF_DTYPES)
def test_handler_loads_decoder_and_encoders_in_what_was_asked_for(
    tiny_root: Any, mlx_handler: Any, precision: str
) -> None:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(tiny_root(), device="cpu", mlx_precision=precision)
    assert loaded, message
    decoder, encoder, text = handler.mlx_decoder.reference, handler.model.encoder, handler.text_encoder
    for part in (decoder, encoder, text.encoder):
        for name, value in tree_flatten(part.parameters()):
            assert value.dtype == (getattr(mx, precision) if value.ndim == 2 else mx.float32), name
    tokens = list(range(20))
    for states in ("encode", "embed"):
        near, whole = (getattr(of.text_encoder, states)(tokens) for of in (handler, mlx_handler))
        assert near.dtype == "float32"
        assert 0 < relative_l2(near, whole) < 1e-2


def test_unknown_precision_is_refused(tiny_root: Any) -> None:
    handler = AceStepHandler()
    message, loaded = handler.initialize_service(tiny_root(), device="cpu", mlx_precision="int8")
    assert (message, loaded) == (
        "mlx_precision is 'int8', expected auto, float32, float16, bfloat16, 8bit, 4bit",
        False,
    )
    assert handler.mlx_decoder is None
