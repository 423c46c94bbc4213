"""The MLX decoder, loaded in one thread and used from another, as a web interface or an API server does it."""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import torch

from ..harness.imports import CannotProbe, describe
from .application import Prepared, model_config, prepare, short, stopped_early
from .context import INSTRUCTION
from .line import SERIES, Finding, Line, found
from .site import Site

LINE = Line("worker threads", "a12a25a (2026-02-11)", "3b2bb82 (2026-04-30)", SERIES)
ASKED = "the same from a worker thread"


def look(site: Site) -> Finding:
    """A tiny decoder of the checkout's own, with weights of zeros, loaded here; the request runs elsewhere."""
    prepared = prepare(site.application, instruction=INSTRUCTION, config=model_config())
    where = _load(site, prepared)
    worker = threading.Thread(target=prepared.run, name="probe-worker")
    worker.start()
    worker.join()
    seen = prepared.seen
    if seen.mlx_ended:
        return found(False, ASKED, f"MLX ran, with mlx {_mlx_version()}", where)
    if seen.swallowed is None or "Stream" not in str(seen.swallowed):
        raise CannotProbe(stopped_early(seen))
    then = "PyTorch ran in its place" if seen.fell_back else "it failed"
    return found(True, ASKED, f"{then}: {short(seen.swallowed)} (mlx {_mlx_version()})", where)


def _load(site: Site, prepared: Prepared) -> str:
    """The decoder on the host, by the checkout's own loader where it has one. Returns the file that made it."""
    host = prepared.host
    site.module("generate")
    package = _package(site)
    try:
        decoder = _fresh(package, host.config)
        if not hasattr(host, "_init_mlx_dit"):
            host.mlx_decoder = decoder
            return "dit_model.py"
        host.model.decoder = _Weights(decoder)
        sys.modules[package].mlx_available = lambda: True  # type: ignore[attr-defined]
        made = host._init_mlx_dit()
    except CannotProbe:
        raise
    except Exception as error:
        raise CannotProbe(f"its MLX decoder is not to be had in tiny: {describe(error)}") from error
    if not made or host.mlx_decoder is None:
        raise CannotProbe("its loader does not take the tiny MLX decoder's weights")
    return "dit_model.py"


def _package(site: Site) -> str:
    parts = site.files["generate"].relative_to(site.root).with_suffix("").parts
    return ".".join(parts[:-1])


def _fresh(package: str, config: Any) -> Any:
    """A decoder of the config's shape, its parameters computed."""
    import mlx.core as mx

    for name in ("dit_model", "model"):
        try:
            module = importlib.import_module(f"{package}.{name}")
            break
        except ModuleNotFoundError:
            continue
    else:
        raise CannotProbe(f"{package} has no decoder")
    decoder = module.MLXDiTDecoder.from_config(config)
    mx.eval(decoder.parameters())
    return decoder


class _Weights:
    """The same weights as PyTorch would have them, for the checkout's converter."""

    def __init__(self, decoder: Any) -> None:
        from mlx.utils import tree_flatten

        self.weights = {}
        for name, value in tree_flatten(decoder.parameters()):
            tensor = torch.zeros(value.shape)
            if name.startswith(("proj_in.", "proj_out.")):
                outward = name.startswith("proj_out.")
                if name.endswith(".weight"):
                    tensor = tensor.permute(2, 0, 1) if outward else tensor.transpose(1, 2)
                name = name.replace(
                    "proj_out." if outward else "proj_in.", "proj_out.1." if outward else "proj_in.1."
                )
            self.weights[name] = tensor.contiguous()

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self.weights


def _mlx_version() -> str:
    import mlx.core as mx

    return str(getattr(mx, "__version__", "?"))
