"""What requests share is encoded once, with the same bits as when it is encoded each time."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from acestep.models.encoding_cache import CONTEXTS_KEPT, TIMBRES_KEPT, EncodingCache
from acestep.models.mlx.condition_encoder import MLXConditionEncoder
from acestep.models.mlx.text_encoder import MLXTextEncoder
from acestep.models.mlx.vae_model import MLXAutoencoderOobleck
from smoke.encoders import Encodings
from tests.parity_helper import assert_equal


@pytest.fixture
def context_wav(make_context: Callable[..., Path]) -> Path:
    """One second, in place of the 5.24 s of other tests: what is encoded how often does not depend on it."""
    return make_context(1.0)


@pytest.fixture(params=[True, False], ids=["mlx", "torch"])
def handler(
    request: pytest.FixtureRequest, load_handler: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """A loaded handler that has encoded nothing yet; its models are left as they were."""
    loaded = load_handler("plain", request.param)
    for part, kept in ((loaded.vae, "_posteriors"), (loaded.text_encoder, "_states")):
        monkeypatch.setattr(part, kept, EncodingCache(16))
    monkeypatch.setattr(type(loaded.vae.vae), "encode", type(loaded.vae.vae).encode)
    model = type(loaded.text_encoder.encoder)
    method = "__call__" if request.param else "forward"
    monkeypatch.setattr(model, method, getattr(model, method))
    return loaded


def stem(handler: Any, context: Path, track: str = "drums", seed: int = 1, **changes: Any) -> np.ndarray:
    params = GenerationParams(
        src_audio=str(context),
        instruction=handler.generate_instruction("lego", track_name=track),
        inference_steps=2,
        **changes,
    )
    result = generate_music(
        handler, None, params, GenerationConfig(use_random_seed=False, seeds=[seed]), save_dir=None
    )
    assert result.success, result.error
    return result.audios[0]["audio"]


def test_twelve_tracks_encode_their_context_once_and_each_its_own_prompt(
    handler: Any, context_wav: Path
) -> None:
    from acestep.constants import TRACK_NAMES

    encodings = Encodings(handler)
    for track in TRACK_NAMES:
        stem(handler, context_wav, track)
    assert encodings.counts() == {"context": 1, "prompt": 12}


def test_other_seeds_and_guidance_encode_nothing_again(handler: Any, context_wav: Path) -> None:
    encodings = Encodings(handler)
    for seed in (1, 2, 3):
        for guidance_scale in (1.0, 3.0):
            stem(handler, context_wav, seed=seed, guidance_scale=guidance_scale)
    assert encodings.counts() == {"context": 1, "prompt": 1}


def test_the_stems_have_the_bits_of_stems_that_are_encoded_each_time(
    handler: Any, context_wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [("drums", 1), ("drums", 2), ("bass", 2), ("drums", 1)]
    kept = [stem(handler, context_wav, track, seed) for track, seed in wanted]
    monkeypatch.setattr(EncodingCache, "get", lambda self, key, encode: encode())
    encodings = Encodings(handler)
    for (track, seed), audio in zip(wanted, kept, strict=True):
        assert_equal(stem(handler, context_wav, track, seed), audio)
    assert encodings.counts() == {"context": 4, "prompt": 4}
    assert not np.array_equal(kept[0], kept[1]), "the posterior and the noise are drawn with each seed"


def test_one_sample_of_another_value_is_another_context(handler: Any, context_wav: Path) -> None:
    audio = handler.process_target_audio(context_wav)
    changed = audio.copy()
    changed[1, -1] += 1e-3
    encodings = Encodings(handler)
    first = handler._encode_audio_to_latents(audio, [1])
    assert not np.array_equal(handler._encode_audio_to_latents(changed, [1]), first)
    assert encodings.counts()["context"] == 2


def test_the_timbre_of_silence_is_encoded_once_on_mlx(
    mlx_handler: Any, context_wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode_timbre = MLXConditionEncoder.encode_timbre

    def counted(*given: Any) -> Any:
        calls.append(1)
        return encode_timbre(*given)

    monkeypatch.setattr(MLXConditionEncoder, "encode_timbre", counted)
    monkeypatch.setattr(mlx_handler.model, "_timbres", EncodingCache(TIMBRES_KEPT))
    first, _ = (stem(mlx_handler, context_wav, track) for track in ("drums", "bass"))
    assert len(calls) == 1
    louder = mlx_handler.model.silence_latent + np.float32(1e-2)
    monkeypatch.setattr(mlx_handler.model, "silence_latent", louder)
    assert not np.array_equal(stem(mlx_handler, context_wav), first)
    assert len(calls) == 2


def test_a_checkpoint_that_is_loaded_anew_begins_with_nothing(
    tiny_root: Callable[..., Path], context_wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MLXAutoencoderOobleck, "encode", MLXAutoencoderOobleck.encode)
    monkeypatch.setattr(MLXTextEncoder, "__call__", MLXTextEncoder.__call__)
    handler = AceStepHandler()
    for _ in range(2):
        assert handler.initialize_service(tiny_root(), device="cpu")[1]
        encodings = Encodings(handler)
        stem(handler, context_wav)
        assert encodings.counts() == {"context": 1, "prompt": 1}


def test_only_the_last_are_kept() -> None:
    cache: EncodingCache[int] = EncodingCache(CONTEXTS_KEPT)
    computed = []

    def compute(key: int) -> int:
        computed.append(key)
        return key

    assert [cache.get(key, partial(compute, key)) for key in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert computed == [1, 2, 3, 2]
