"""Calls on one handler: each gives the bits that it gives alone, whatever ran before or runs beside it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from acestep.inference import GenerationConfig, GenerationParams, GenerationResult, generate_music
from tests.parity_helper import assert_equal


@pytest.fixture
def request_stem(mlx_handler: Any, make_context: Callable[..., Path]) -> Callable[..., GenerationResult]:
    def generate(seed: int = 1, **changes: Any) -> GenerationResult:
        params = GenerationParams(
            src_audio=str(make_context(1.0)), **{"inference_steps": 2, "guidance_scale": 4.0, **changes}
        )
        return generate_music(
            mlx_handler, None, params, GenerationConfig(use_random_seed=False, seeds=[seed])
        )

    return generate


def test_same_request_gives_the_same_bits(
    mlx_handler: Any, request_stem: Callable[..., GenerationResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again, after a failed one, and from another thread."""
    want = request_stem().audios[0]["audio"]
    assert_equal(request_stem().audios[0]["audio"], want, "again")
    with monkeypatch.context() as patch:
        patch.setattr(mlx_handler, "mlx_decoder", None)
        assert not request_stem().success
    assert_equal(request_stem().audios[0]["audio"], want, "after a failed one")
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(request_stem).result()
    assert_equal(there.audios[0]["audio"], want, "from another thread")


def test_calls_from_several_threads_are_queued(
    mlx_handler: Any, request_stem: Callable[..., GenerationResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [request_stem(seed).audios[0]["audio"] for seed in (1, 2, 3)]
    running, most = [], []
    plain = mlx_handler.service_generate

    def watched(**request: Any) -> Any:
        running.append(1)
        most.append(len(running))
        try:
            return plain(**request)
        finally:
            running.pop()

    monkeypatch.setattr(mlx_handler, "service_generate", watched)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(request_stem, (1, 2, 3)))
    for got, want in zip(results, alone, strict=True):
        assert_equal(got.audios[0]["audio"], want)
    assert most == [1, 1, 1]
