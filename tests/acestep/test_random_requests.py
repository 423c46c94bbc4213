"""Random requests over types and ranges of every public field: a stem with the requested steps, or one sentence."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from acestep.errors import AceStepError
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from tests.fork_helper import CountingDecoder

EXAMPLES = int(os.environ.get("RANDOM_EXAMPLES", "20"))
FIELDS = [f.name for cls in (GenerationParams, GenerationConfig) for f in dataclasses.fields(cls)]
OF_CONFIG = {f.name for f in dataclasses.fields(GenerationConfig)}

steps = st.integers(1, 5)
texts = st.text(max_size=12)
odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.binary(max_size=5),
    st.lists(st.one_of(st.none(), st.floats(), st.integers(), texts), max_size=4),
    st.dictionaries(texts, st.integers(), max_size=2),
    st.floats(width=32).map(np.float32),
    st.integers(-9, 9).map(np.int64),
    st.floats(width=32).map(torch.tensor),
    st.lists(st.floats(width=32), max_size=4).map(np.array),
    st.sampled_from(["\udc80", "a\0b", 10**400, 10**5000, 1e308, object(), int, Path("x"), b"", 2j]),
)
# Values that may run, so that many requests do.
USUAL = {
    "inference_steps": st.one_of(steps, steps.map(float), steps.map(np.int32), steps.map(torch.tensor)),
    "guidance_scale": st.one_of(st.sampled_from([0, 1]), st.floats(1, 1000), st.floats(1, 9).map(np.float64)),
    "shift": st.floats(0.001, 1000),
    "cfg_interval_start": st.floats(0, 0.5),
    "cfg_interval_end": st.floats(0.5, 1),
    "infer_method": st.sampled_from(["ode", "sde"]),
    "timesteps": st.lists(st.floats(2.0**-20, 1, width=32), min_size=1, max_size=4).map(
        lambda values: np.array(sorted(values, reverse=True))
    ),
    "repainting_start": st.floats(0, 0.4),
    "repainting_end": st.one_of(st.just(-1), st.floats(0.5, 1)),
    "bpm": st.one_of(st.none(), st.integers(30, 300), st.integers(30, 300).map(float)),
    "normalization_db": st.floats(-60, 0),
    "enable_normalization": st.booleans(),
    "caption": texts,
    "lyrics": texts,
    "keyscale": texts,
    "seed": st.integers(-1, 2**32 - 1),
    "seeds": st.one_of(st.none(), st.integers(0, 9), st.lists(st.integers(0, 9), max_size=2)),
    "use_random_seed": st.one_of(st.none(), st.booleans()),
    "batch_size": st.sampled_from([None, 1, 2]),
    "audio_format": st.sampled_from(["wav", "FLAC", "mp3", "opus"]),
    "duration": st.floats(),
    "lm_temperature": odd,
}
requests = st.builds(
    lambda usual, odd_fields: usual | odd_fields,
    st.fixed_dictionaries({}, optional=USUAL),
    st.one_of(st.just({}), st.just({}), st.dictionaries(st.sampled_from(FIELDS), odd, max_size=2)),
)


@given(fields=requests)
@example(fields={"guidance_scale": 1000, "inference_steps": 5, "shift": 1000})
@example(fields={"guidance_scale": 1000, "inference_steps": 5, "shift": 0.001, "infer_method": "sde"})
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
def test_request_runs_its_steps_or_is_refused(
    mlx_handler: Any, make_context: Callable[..., Path], fields: dict[str, Any]
) -> None:
    decoder = CountingDecoder(mlx_handler.mlx_decoder)
    of_params = {name: value for name, value in fields.items() if name not in OF_CONFIG}
    params = GenerationParams(**{"src_audio": str(make_context(1.0)), **of_params})
    config = GenerationConfig(**{name: value for name, value in fields.items() if name in OF_CONFIG})
    mlx_handler.mlx_decoder = decoder
    try:
        result = generate_music(mlx_handler, None, params, config)
    finally:
        mlx_handler.mlx_decoder = decoder.decoder
    event("ran" if result.success else "refused")
    if not result.success:
        assert isinstance(result.exception, AceStepError)
        assert result.error is not None
        assert result.error.encode("utf-8")
        assert "\n" not in result.error
        assert "unexpectedly" not in result.error
        assert decoder.evaluations == 0, "what is refused is refused before the run"
        return
    timesteps = fields.get("timesteps")
    requested = int(params.inference_steps) if timesteps is None else np.count_nonzero(timesteps)
    assert decoder.evaluations == requested
    assert all(torch.isfinite(audio["tensor"]).all() for audio in result.audios)
