"""What is watched while a checkout runs: its decoders, its VAE, its tokenizer, and why its MLX path failed.

Runs inside the process that runs a checkout, under the checkout's own interpreter: beyond the standard library it
imports only what the checkout itself has loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patches.harness.arrays import as_array
from patches.harness.counted_decoder import watch_mlx, watch_torch
from patches.harness.evaluations import Calls
from patches.harness.recorders import named, record_calls

if TYPE_CHECKING:
    import numpy as np

DECODING = "_decode_generate_music_pred_latents"
MLX_LOOP, TORCH_LOOP = "_mlx_run_diffusion", "generate_audio"
WITH_CODES = "llm_dit"  # upstream's name for a request of metadata and audio codes
AUDIO_CODES = "audio codes"


class Watched:
    """All that is watched on a loaded handler, for a run of `batch_size` stems on MLX or on PyTorch.

    evaluating: is called with the number of evaluations so far; decoding: when the latents are about to become sound.
    """

    def __init__(
        self,
        handler: Any,
        batch_size: int,
        on_mlx: bool,
        evaluating: Callable[[int], None] = lambda _: None,
        decoding: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_mlx = on_mlx
        self.mlx, self.torch = Calls(batch_size, evaluating), Calls(batch_size, evaluating)
        self.failures: list[str] = []
        self.dcw: bool | None = None
        self._waves: list[np.ndarray] = []
        if on_mlx and handler.mlx_decoder is not None:
            handler.mlx_decoder = watch_mlx(handler.mlx_decoder, self.mlx)
        if getattr(handler.model, "decoder", None) is not None:
            watch_torch(handler.model.decoder, self.torch)
        self._texts: list[str] = []
        watch_tokenizer(getattr(handler, "text_tokenizer", None), self._texts)
        # a tree that falls back to PyTorch may not say why it failed
        record_calls(
            handler,
            MLX_LOOP,
            before=self._see_options,
            raised=lambda error: self.failures.append(first_line(error)),
        )
        record_calls(handler.model, TORCH_LOOP, before=self._see_options)
        # what the VAE decodes, before the tree makes it louder or quieter
        record_calls(handler, "tiled_decode", returned=lambda wave: self._waves.append(as_array(wave)))
        record_calls(handler, DECODING, before=lambda _: decoding())

    def start_over(self, record: Path | None) -> None:
        """Forgets the run that was, for the next one on the same handler; `record`: a folder for its steps."""
        self.mlx.start_over(record if self._on_mlx else None)
        self.torch.start_over(None if self._on_mlx else record)
        self.failures.clear()
        self.dcw = None
        self._waves.clear()

    def _see_options(self, arguments: Mapping[str, Any]) -> None:
        """`dcw`: whether a denoising loop was called with the wavelet correction on; None where it has none."""
        if "dcw_enabled" in arguments:
            self.dcw = bool(arguments["dcw_enabled"])

    def missing_from_prompt(self, wanted: Sequence[str]) -> str | None:
        """A sentence for the first of the wanted texts that was never tokenized, "" for none; None: nothing was seen.

        Texts of earlier runs count: a checkout may keep what it has encoded.
        """
        if not self._texts:
            return None
        missing = [text for text in wanted if not any(text.strip() in seen for seen in self._texts)]
        return f"the text encoder was never given {missing[0].strip()!r}" if missing else ""

    @property
    def requested(self) -> Calls:
        """The evaluations of the requested decoder."""
        return self.mlx if self._on_mlx else self.torch

    def tensors(self, outputs: Mapping[str, Any], null_condition_emb: Any) -> dict[str, np.ndarray]:
        """What the run started from and ended in, of the decoder that ran to the end; what it hid is not there."""
        first = (self.torch if self.torch.timesteps else self.mlx).first
        # Upstream's own target_latents are those of the context.
        latents = outputs["pred_latents"] if "pred_latents" in outputs else outputs["target_latents"]
        names = {"hidden_states": "noise"}
        return {
            **{names.get(name, name): array for name, array in first.items()},
            "null_condition_emb": as_array(null_condition_emb),
            "target_latents": as_array(latents),
        }

    def levels(self, stem: Mapping[str, Any]) -> dict[str, float]:
        """Peak, root mean square and clipped share before any gain, and the gain.

        A tree that says nothing of them is measured where its VAE decodes, or at the stem where that is hidden.
        """
        if "rms" in stem:
            return {name: stem[name] for name in ("peak", "rms", "clipped", "gain")}
        final = as_array(stem["tensor"])
        raw = self._waves[-1] if self._waves else final
        peak = float(abs(raw).max())
        return {
            "peak": peak,
            "rms": float((raw.astype("float64") ** 2).mean() ** 0.5),
            "clipped": float((abs(raw) > 1.0).mean()),
            "gain": float(abs(final).max()) / peak if peak else 1.0,
        }


class FakeLanguageModel:
    """Given to a tree as its language model: returns nothing, and keeps what it is asked for.

    asked_for: "audio codes" where codes are requested, else the use_cot_ options that a request switches on.
    """

    llm_initialized = True

    def __init__(self) -> None:
        self.asked_for: list[str] = []

    def generate_with_stop_condition(self, *_: Any, infer_type: str = "", **options: Any) -> dict[str, Any]:
        if infer_type == WITH_CODES:
            self.asked_for.append(AUDIO_CODES)
        self.asked_for += [name for name, value in options.items() if name.startswith("use_cot_") and value]
        return {"success": True, "metadata": {}, "audio_codes": "", "extra_outputs": {"time_costs": {}}}


def first_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def watch_tokenizer(tokenizer: Any, texts: list[str]) -> None:
    """Keeps every text that is tokenized by a tokenizer whose class is written in Python."""
    cls = type(tokenizer)
    plain = inspect.getattr_static(cls, "__call__", None)
    if not inspect.isfunction(plain):
        return

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        text = named(plain.__get__(self), args, kwargs).get("text")
        texts.extend([text] if isinstance(text, str) else [str(each) for each in text or ()])
        return plain(self, *args, **kwargs)

    cls.__call__ = watched
