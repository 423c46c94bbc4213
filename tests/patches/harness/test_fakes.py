"""The fakes record what a checkout does, and do not look like fakes to it."""

from types import ModuleType
from typing import Any

import mlx.core as mx
import pytest

from patches.harness.fakes import CountingDecoder, build_host, class_with
from patches.harness.imports import CannotProbe


def test_decoder_counts_each_evaluation_and_a_doubled_batch() -> None:
    decoder = CountingDecoder()
    for batch, t in ((1, 0.75), (2, 0.5)):
        velocity, cache = decoder(
            hidden_states=mx.ones((batch, 8, 64)), timestep=mx.full((batch,), t), cache="kept"
        )
        assert velocity.shape == (batch, 8, 64)
        assert cache == "kept"
    assert decoder.timesteps == [0.75, 0.5]
    assert decoder.guided == 1


def test_decoder_refuses_two_timesteps_in_one_evaluation() -> None:
    with pytest.raises(RuntimeError, match=r"several timesteps: \[0.5, 1.0\]"):
        CountingDecoder()(hidden_states=mx.ones((2, 8, 64)), timestep=mx.array([1.0, 0.5]))


class FailingDiffusion:
    def _mlx_run_diffusion(self) -> None:
        raise ValueError("raised by MLX")


class FallsBackLater:
    """Runs PyTorch after the exception was handled."""

    def execute(self: Any) -> None:
        failed = False
        try:
            self._mlx_run_diffusion()
        except Exception:
            failed = True
        if failed:
            self.model.generate_audio()


class FailsBefore:
    """Fails on the way to MLX, and runs PyTorch while it handles that."""

    def execute(self: Any) -> None:
        try:
            raise KeyError("non-cover conditions")
        except Exception:
            self.model.generate_audio()


@pytest.mark.parametrize(
    ("executor", "reason"),
    [
        pytest.param(FallsBackLater, "ValueError('raised by MLX')", id="after_the_handler"),
        pytest.param(FailsBefore, "KeyError('non-cover conditions')", id="before_the_mlx_run"),
    ],
)
def test_reason_for_a_fallback_is_recorded(executor: type, reason: str) -> None:
    host = build_host(executor, FailingDiffusion, {"is_turbo": False})
    host.execute()
    assert host.model.record.pytorch_ran
    assert repr(host.model.record.mlx_error) == reason


def test_host_has_the_names_of_the_application() -> None:
    host = build_host(FailsBefore, FailingDiffusion, None)
    named = [f"{type(one).__module__}.{type(one).__name__}" for one in (host, host.mlx_decoder)]
    assert named == ["acestep.handler.AceStepHandler", "acestep.models.mlx.dit_model.MLXDiTDecoder"]


def test_name_bound_last_is_the_mixin() -> None:
    module = ModuleType("acestep.d")
    module.Earlier = FailingDiffusion  # type: ignore[attr-defined]
    module.DiffusionMixin = type("Clamped", (FailingDiffusion,), {})  # type: ignore[attr-defined]
    assert class_with(module, "_mlx_run_diffusion") is module.DiffusionMixin


def test_missing_mixin_is_reported() -> None:
    with pytest.raises(CannotProbe, match=r"^acestep.d has no class that defines _mlx_run_diffusion$"):
        class_with(ModuleType("acestep.d"), "_mlx_run_diffusion")
