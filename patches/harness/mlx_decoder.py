"""A tiny MLX decoder of a checkout's own code, with random weights, loaded the way that the checkout loads it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import torch
from mlx.utils import tree_flatten

from .imports import CannotProbe, describe


def load_mlx_decoder(root: Path, generate: Path, handler: Any) -> None:
    """Puts the decoder on `handler`, by the checkout's own loader where it has one.

    `generate` is the checkout's file of the MLX loop; the decoder is beside it. Arrays that the loader left unevaluated
    stay so: since mlx 0.32 only this thread can use them (see `evaluate_all`). Raises CannotProbe.
    """
    package = ".".join(generate.relative_to(root).parent.parts)
    try:
        decoder = _new_decoder(package, handler.config)
        if not hasattr(handler, "_init_mlx_dit"):
            handler.mlx_decoder = decoder
            return
        handler.model.decoder = _TorchWeights(decoder)
        sys.modules[package].mlx_available = lambda: True  # type: ignore[attr-defined]
        loaded = handler._init_mlx_dit()
    except CannotProbe:
        raise
    except Exception as error:
        raise CannotProbe(f"a tiny MLX decoder cannot be loaded: {describe(error)}") from error
    if not loaded or handler.mlx_decoder is None:
        raise CannotProbe("its loader does not accept the weights of a tiny MLX decoder")


def evaluate_all(handler: Any) -> None:
    """Evaluates every array of the decoder, private ones included, so that any thread can use it."""
    mx.eval(handler.mlx_decoder)


def _new_decoder(package: str, config: Any) -> Any:
    """A decoder of the config's shape, its parameters evaluated."""
    for name in ("dit_model", "model"):  # today's name, and the one of acestep/mlx_dit
        try:
            module = importlib.import_module(f"{package}.{name}")
            break
        except ModuleNotFoundError:
            continue
    else:
        raise CannotProbe(f"{package} has no decoder")
    mx.random.seed(1)  # modules draw their first weights from mlx's global generator
    decoder = module.MLXDiTDecoder.from_config(config)
    mx.eval(decoder.parameters())
    return decoder


class _TorchWeights:
    """The PyTorch decoder that the checkout's converter reads: weights under the names and shapes of PyTorch.

    They are drawn with a fixed seed, small enough that the output of two layers stays near 1.
    """

    def __init__(self, decoder: Any) -> None:
        generator = torch.Generator().manual_seed(1)
        self.weights = {}
        for name, value in tree_flatten(decoder.parameters()):
            tensor = 0.3 * torch.randn(value.shape, generator=generator)
            if name.startswith(("proj_in.", "proj_out.")):
                is_out = name.startswith("proj_out.")
                if name.endswith(".weight"):
                    tensor = tensor.permute(2, 0, 1) if is_out else tensor.transpose(1, 2)
                name = name.replace(
                    "proj_out." if is_out else "proj_in.", "proj_out.1." if is_out else "proj_in.1."
                )
            self.weights[name] = tensor.contiguous()

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.weights

    def to(self, *_: Any, **__: Any) -> _TorchWeights:
        return self

    def eval(self) -> _TorchWeights:
        return self
