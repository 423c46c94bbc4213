"""A checkout's whole application with stand-ins for its models: what a LEGO request meets on its way.

Everything between `acestep.inference.generate_music` and the decoder is the checkout's own code. Made up are the
audio that is read, both ends of the VAE, the text encoder, what the PyTorch model makes of its conditions, and
the decoder.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import torch

from ..harness.fakes import CountingDecoder
from ..harness.imports import CannotProbe, import_file

RATE, PER_FRAME, CHANNELS, TOKENS, WIDTH = 48_000, 1920, 64, 3, 8
SILENCE = -3.0  # what silence is as a latent here; the source is around +1, and LM codes are made of -9
CODES = -9.0


@dataclass
class Seen:
    """What one request made the stand-ins see.

    prompts: every text that reached the tokenizer. conditions: the keywords of `prepare_condition`. context: what
    the decoder got as context latents, float32 [batch, frames, 128], None if it never ran. states: what it got as
    hidden states in its first and its last evaluation. request: the keywords for both backends. mlx_ended: the
    MLX run came to its end. pytorch: the keywords that PyTorch ran with in MLX's place, `swallowed` why. success,
    error: what the caller was told.
    """

    prompts: list[str] = field(default_factory=list)
    conditions: dict[str, Any] = field(default_factory=dict)
    context: torch.Tensor | None = None
    timesteps: list[float] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)
    request: dict[str, Any] = field(default_factory=dict)
    mlx_ended: bool = False
    pytorch: dict[str, Any] | None = None
    swallowed: BaseException | None = None
    success: bool = False
    error: str = ""
    result: Any = None

    @property
    def fell_back(self) -> bool:
        return self.pytorch is not None

    @property
    def claimed_steps(self) -> Any:
        """The step count that the first stem's own record names; None where there is no such record."""
        stems = getattr(self.result, "audios", None) or [{}]
        return (stems[0].get("params") or {}).get("inference_steps")


class Decoder(CountingDecoder):
    """Counts, and keeps the context latents that it was given."""

    def __init__(self, seen: Seen, failure: Exception | None) -> None:
        super().__init__()
        self.seen, self.failure = seen, failure

    def __call__(
        self, hidden_states: Any, timestep: Any, *rest: Any, cache: Any = None, **given: Any
    ) -> tuple[Any, Any]:
        if self.failure is not None:
            raise self.failure
        if self.seen.context is None and given.get("context_latents") is not None:
            self.seen.context = torch.tensor(given["context_latents"].astype(mx.float32).tolist())
        self.seen.states[1:] = [torch.tensor(hidden_states.astype(mx.float32).tolist())]
        answer = super().__call__(hidden_states, timestep, *rest, cache=cache, **given)
        self.seen.timesteps = self.timesteps
        return answer


class Model:
    """The PyTorch model: conditions are put side by side as upstream's are, LM codes before the source."""

    def __init__(self, seen: Seen, config: Any) -> None:
        self.seen, self.config = seen, config
        self.null_condition_emb = torch.zeros(1, 1, WIDTH)
        self.silence_latent = silence(2_000)[None]
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def eval(self) -> Model:
        return self

    def parameters(self) -> Iterator[torch.Tensor]:
        return iter([self.null_condition_emb])

    def prepare_condition(self, **given: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self.seen.conditions = self.seen.conditions or given
        source, hints = given["src_latents"], given.get("precomputed_lm_hints_25Hz")
        covers = given.get("is_covers")
        if covers is not None and covers.any():
            hints = torch.full_like(source, CODES) if hints is None else hints[:, : source.shape[1]]
            source = torch.where(covers[:, None, None], hints.to(source), source)
        batch = source.shape[0]
        context = torch.cat([source, given["chunk_masks"].to(source)], dim=-1)
        return torch.zeros(batch, TOKENS, WIDTH), torch.ones(batch, TOKENS), context

    def generate_audio(self, **given: Any) -> dict[str, Any]:
        self.seen.pytorch, self.seen.swallowed = given, sys.exc_info()[1] or self.seen.swallowed
        return {
            "target_latents": torch.full_like(given["src_latents"], 0.1),  # zeros are refused by some
            "time_costs": dict.fromkeys(("encoder_time_cost", "diffusion_time_cost", "total_time_cost"), 0.0),
        }


class Tokenizer:
    """Keeps the texts; a token a text."""

    pad_token_id = 0
    model_max_length = 1_000

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def __call__(self, text: Any, *_: Any, **__: Any) -> Any:
        texts = [text] if isinstance(text, str) else list(text)
        self.seen.prompts += texts
        ids = torch.ones(len(texts), TOKENS, dtype=torch.long)
        return _Encoding(input_ids=ids, attention_mask=torch.ones_like(ids))


class _Encoding(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]

    def to(self, *_: Any, **__: Any) -> _Encoding:
        return self


class TextEncoder(torch.nn.Module):
    """Zeros of the right shape."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = torch.nn.Embedding(2, WIDTH)
        self.dtype, self.device, self.config = torch.float32, torch.device("cpu"), SimpleNamespace()

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed_tokens

    def forward(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> Any:
        return _Encoding(last_hidden_state=torch.zeros(*input_ids.shape, WIDTH))


class Vae(torch.nn.Module):
    """Audio of n samples is n / 1920 frames of the one known source."""

    dtype = torch.float32
    config = SimpleNamespace(sampling_rate=RATE)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1), requires_grad=False)  # some ask for its device

    def encode(self, audio: torch.Tensor, *_: Any, **__: Any) -> Any:
        made = source(audio.shape[-1] // PER_FRAME).T[None].expand(audio.shape[0], -1, -1)
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda *_, **__: made, mode=lambda: made))

    def decode(self, latents: torch.Tensor, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(sample=torch.zeros(latents.shape[0], 2, latents.shape[-1] * PER_FRAME))


def source(frames: int) -> torch.Tensor:
    """The latents that any audio is encoded to: [frames, 64], each value its own, around 1."""
    return 1 + torch.linspace(0, 0.5, frames * CHANNELS).reshape(frames, CHANNELS)


def silence(frames: int) -> torch.Tensor:
    return torch.full((frames, CHANNELS), SILENCE)


def tone(seconds: float) -> torch.Tensor:
    """A context audio, float32 [2, samples] at 48 kHz."""
    line = torch.arange(int(seconds * RATE)) * (2 * math.pi * 220 / RATE)
    return 0.5 * torch.sin(line).expand(2, -1)


class Application:
    """One checkout's `inference` module and handler class, imported once."""

    def __init__(self, root: Path) -> None:
        for name in ("acestep/handler.py", "acestep/inference.py"):
            if not (root / name).is_file():
                raise CannotProbe(f"it has no {name}")
        self.root = root
        self.handler_class = _named(import_file(root, root / "acestep/handler.py"), "AceStepHandler")
        self.inference = import_file(root, root / "acestep/inference.py")
        for name in ("generate_music", "GenerationParams", "GenerationConfig"):
            _named(self.inference, name)
        # Whoever asks for its project's folder gets the probe's empty one: nothing is written into a checkout.
        os.environ["ACESTEP_PROJECT_ROOT"] = os.getcwd()

    def host(self, seen: Seen, seconds: float, config: Any) -> Any:
        """A handler with stand-ins in place of all that a checkpoint would bring."""
        host_class = type("ProbeHandler", (self.handler_class,), _overrides(self.handler_class, seconds))
        host = host_class()
        host.config, host.model = config, Model(seen, config)
        host.vae, host.text_tokenizer, host.text_encoder = Vae(), Tokenizer(seen), TextEncoder()
        host.silence_latent = silence(2_000)[None]
        host.use_mlx_dit, host.mlx_dit_compiled = True, False
        host.mlx_vae, host.use_mlx_vae = None, False
        host.device, host.dtype, host.sample_rate = "cpu", torch.float32, RATE
        return host


def model_config(**told: Any) -> Any:
    """What the config of a tiny base model says; `told` comes on top, and None takes a key out."""
    values = {
        "is_turbo": False,
        "timbre_fix_frame": 750,
        "hidden_size": 8,
        "encoder_hidden_size": WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "in_channels": 3 * CHANNELS,
        "audio_acoustic_hidden_dim": CHANNELS,
        "patch_size": 2,
        "sliding_window": 128,
        "layer_types": ["sliding_attention", "full_attention"],
        "use_sliding_window": True,
        "rope_theta": 1_000_000.0,
        "rope_parameters": {"rope_theta": 1_000_000.0},
        "rms_norm_eps": 1e-6,
        "attention_bias": False,
        "max_position_embeddings": 2048,
        "model_version": "base",
        **told,
    }
    return SimpleNamespace(**{name: value for name, value in values.items() if value is not None})


def _named(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise CannotProbe(f"{module.__name__} does not define {name}")
    return getattr(module, name)


def _overrides(handler_class: type, seconds: float) -> dict[str, Any]:
    """The handler's methods that read audio, run a VAE, ask for memory or draw progress; only those it has."""

    @contextmanager
    def context(_self: Any, _name: str) -> Iterator[None]:
        yield

    def read(_self: Any, *_: Any, **__: Any) -> torch.Tensor:
        return tone(seconds)

    def encode(_self: Any, audio: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        batched = audio if audio.dim() == 3 else audio[None]
        made: torch.Tensor = Vae().encode(batched).latent_dist.sample()
        return made if audio.dim() == 3 else made[0]

    def decode(_self: Any, latents: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        made: torch.Tensor = Vae().decode(latents).sample
        return made

    def codes(_self: Any, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full((1, int(seconds * RATE) // PER_FRAME, CHANNELS), CODES)

    made: dict[str, Any] = {
        "_load_model_context": context,
        "process_src_audio": read,
        "process_target_audio": read,
        "tiled_encode": encode,
        "tiled_decode": decode,
        "_decode_audio_codes_to_latents": codes,
        "_vram_guard_reduce_batch": lambda _self, batch, *_, **__: batch,
        "_vram_preflight_check": lambda *_, **__: None,
        "_start_diffusion_progress_estimator": lambda *_, **__: (None, None),
        "_update_progress_estimate": lambda *_, **__: None,
        "_empty_cache": lambda *_, **__: None,
    }
    return {name: method for name, method in made.items() if hasattr(handler_class, name)}


@dataclass
class Prepared:
    """A request before it runs: whoever wants another decoder or a worker thread for it acts on `host` first."""

    seen: Seen
    host: Any
    run: Callable[[], None]


def prepare(
    application: Application,
    *,
    seconds: float = 6.0,
    instruction: str | None = None,
    failure: Exception | None = None,
    config: Any = None,
    language_model: Any = None,
    **asked: Any,
) -> Prepared:
    """A LEGO request to the checkout's public API, for a context of so many seconds.

    `instruction` None leaves the field alone, as a plain call does. `failure` is what MLX raises. `asked` are
    fields of GenerationParams; those that the checkout does not have are left out.
    """
    seen, inference = Seen(), application.inference
    host = application.host(seen, seconds, config or model_config())
    host.mlx_decoder = Decoder(seen, failure)
    _note(host, seen)
    request = {"task_type": "lego", "src_audio": "context.wav", "inference_steps": 4, "guidance_scale": 1.0}
    request |= {"thinking": False, "use_cot_metas": False, "use_cot_caption": False}
    request |= {"use_cot_language": False, "dcw_enabled": False, **asked}
    if instruction is not None:
        request["instruction"] = instruction
    params = _fields(inference.GenerationParams, request)
    settings = {"batch_size": 1, "use_random_seed": "seed" not in asked, "seeds": None}
    settings = _fields(inference.GenerationConfig, settings)

    def run() -> None:
        try:
            seen.result = inference.generate_music(host, language_model, params, settings, save_dir=None)
        except Exception as error:
            seen.error = f"{type(error).__name__}: {error}"
            return
        seen.success = bool(getattr(seen.result, "success", True))
        told = getattr(seen.result, "error", None) or getattr(seen.result, "status_message", "")
        seen.error = "" if seen.success else str(told)

    return Prepared(seen, host, run)


def lego_request(application: Application, **asked: Any) -> Seen:
    """`prepare`, and run."""
    prepared = prepare(application, **asked)
    prepared.run()
    return prepared.seen


def _note(host: Any, seen: Seen) -> None:
    """Keeps what is handed to the backends, whether MLX came to its end, and what it raised if not."""
    build, run = host._build_service_generate_kwargs, host._mlx_run_diffusion

    def noting_request(*given: Any, **named: Any) -> Any:
        seen.request = build(*given, **named)
        return seen.request

    def noting_run(*given: Any, **named: Any) -> Any:
        try:
            made = run(*given, **named)
        except Exception as error:
            seen.swallowed = error
            raise
        seen.mlx_ended = True
        return made

    host._build_service_generate_kwargs, host._mlx_run_diffusion = noting_request, noting_run


def _fields(kind: Any, values: dict[str, Any]) -> Any:
    """A `kind` with those of `values` that it knows; the others keep what the checkout gives them."""
    known = getattr(kind, "__dataclass_fields__", values)
    return kind(**{name: value for name, value in values.items() if name in known})


def stopped_early(seen: Seen) -> str:
    """Why a request did not reach the decoder, in words that follow 'because'."""
    reason = seen.error or (seen.swallowed and repr(seen.swallowed)) or "it ended without a word"
    return f"a LEGO request ends before the decoder: {short(reason)}"


def short(text: object) -> str:
    """On one line, and not all of it."""
    line = " ".join(str(text).split())
    return line if len(line) <= 160 else f"{line[:157]}..."
