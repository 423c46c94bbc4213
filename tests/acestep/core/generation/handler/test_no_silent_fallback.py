"""MLX that fails is a failure: the reason is told and PyTorch is not run, from whatever thread."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acestep.core.generation.handler import diffusion
from acestep.errors import AceStepError, BackendError, RequestError
from acestep.inference import GenerationConfig, GenerationParams, GenerationResult, generate_music
from tests.fork_helper import CountingDecoder, FailingDecoder
from tests.parity_helper import assert_equal


def in_a_thread(call: Callable[[], Any]) -> Any:
    """The answer of a call made from a worker thread, or what it raised."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def directly(call: Callable[[], Any]) -> Any:
    return call()


@pytest.fixture
def request_stem(make_context: Callable[..., Path]) -> Callable[[Any], GenerationResult]:
    """A request of a few steps on a handler."""
    params = GenerationParams(src_audio=str(make_context(1.0)), inference_steps=5, guidance_scale=2.0)
    config = GenerationConfig(use_random_seed=False, seeds=[3])
    return lambda handler: generate_music(handler, None, params, config)


@pytest.fixture
def pytorch_runs(
    torch_handler: Any, mlx_handler: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Any]]:
    """Counts every way into PyTorch's loop; its decoder is put within reach, so that a rescue would work."""
    runs: list[Any] = []
    monkeypatch.setattr(mlx_handler.model, "decoder", torch_handler.model.decoder, raising=False)
    monkeypatch.setattr(mlx_handler.model, "generate_audio", lambda **kwargs: runs.append("generate_audio"))
    hook = torch_handler.model.decoder.register_forward_pre_hook(lambda *_: runs.append("decoder"))
    yield runs
    hook.remove()


@pytest.mark.parametrize("call", [directly, in_a_thread], ids=["main_thread", "worker_thread"])
@pytest.mark.parametrize("after", [0, 3], ids="after_{}_steps".format)
@pytest.mark.parametrize(
    "error",
    [RuntimeError("no Stream in current thread"), ValueError("bad\tshape"), MemoryError()],
    ids=["runtime", "value", "memory"],
)
def test_failure_on_mlx_is_told_and_pytorch_is_not_run(
    mlx_handler: Any,
    request_stem: Any,
    pytorch_runs: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    after: int,
    call: Any,
) -> None:
    decoder = FailingDecoder(mlx_handler.mlx_decoder, error, after)
    monkeypatch.setattr(mlx_handler, "mlx_decoder", decoder)
    result = call(lambda: request_stem(mlx_handler))
    assert result.success is False
    assert (
        result.error
        == result.status_message
        == str(result.exception)
        == (
            f"the MLX path failed ({type(error).__name__}: {error}); nothing was generated, and PyTorch was not run in "
            "its place: choose it with use_mlx_dit=False if you want it"
        )
    )
    assert isinstance(result.exception, BackendError)
    assert result.exception.__cause__ is error
    assert result.audios == []
    assert decoder.evaluations == after
    assert pytorch_runs == []


def test_own_errors_pass_as_they_are(
    mlx_handler: Any, request_stem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence of ours is not wrapped into another."""
    error = RequestError("the request is wrong")
    monkeypatch.setattr(mlx_handler, "mlx_decoder", FailingDecoder(mlx_handler.mlx_decoder, error))
    assert request_stem(mlx_handler).exception is error


def test_stop_from_the_keyboard_is_no_failure(
    mlx_handler: Any, request_stem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(diffusion, "mlx_generate_diffusion", stop)
    with pytest.raises(KeyboardInterrupt):
        request_stem(mlx_handler)


def test_worker_thread_gives_the_stem_of_the_main_thread(mlx_handler: Any, request_stem: Any) -> None:
    """mlx binds lazy arrays to the thread that made them: whatever was left so at loading fails here."""
    here, there = request_stem(mlx_handler), in_a_thread(lambda: request_stem(mlx_handler))
    assert there.success, there.error
    assert_equal(there.audios[0]["tensor"], here.audios[0]["tensor"], "stem")
    assert_equal(there.extra_outputs["target_latents"], here.extra_outputs["target_latents"], "latents")


def test_handler_may_be_loaded_in_one_worker_and_run_in_another(
    tiny_root: Callable[..., Path], mlx_handler: Any, request_stem: Any
) -> None:
    from acestep.handler import AceStepHandler

    handler = AceStepHandler()
    message, loaded = in_a_thread(lambda: handler.initialize_service(tiny_root(), device="cpu"))
    assert loaded, message
    run = in_a_thread(lambda: request_stem(handler))
    assert run.success, run.error
    assert_equal(run.audios[0]["tensor"], request_stem(mlx_handler).audios[0]["tensor"], "stem")


def test_pytorch_runs_where_it_was_chosen_and_mlx_does_not(
    torch_handler: Any, request_stem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_handler, "mlx_decoder", CountingDecoder())
    seen: list[float] = []
    hook = torch_handler.model.decoder.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(kwargs["timestep"][0].item()), with_kwargs=True
    )
    result = request_stem(torch_handler)
    hook.remove()
    assert result.success, result.error
    assert len(seen) == 5
    assert torch_handler.mlx_decoder.evaluations == 0
    assert "dit_encoder_time_cost" in result.extra_outputs["time_costs"]


def test_mlx_run_reports_no_pytorch_time(mlx_handler: Any, request_stem: Any) -> None:
    """The key of PyTorch's encoder time is how a fallback is unmasked."""
    assert request_stem(mlx_handler).extra_outputs["time_costs"].keys() == {
        "dit_diffusion_time_cost",
        "dit_diffusion_per_step_time_cost",
        "dit_total_time_cost",
        "dit_vae_decode_time_cost",
    }


def test_empty_handler_says_what_to_do(request_stem: Any) -> None:
    from acestep.handler import AceStepHandler

    result = request_stem(AceStepHandler())
    assert result.error == "no checkpoint is loaded; call initialize_service first"
    assert isinstance(result.exception, AceStepError)
