"""The MLX loop: its evaluations counted at the decoder, its latents held to AceStepPipeline's from the same tensors."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from acestep.models.mlx import dit_generate
from acestep.models.mlx.dit_generate import draw_noise, mlx_generate_diffusion
from tests.fork_helper import CountingDecoder, float32, linspace_and_shift, random_conditions
from tests.loop_helper import by_mlx, by_torch
from tests.parity_helper import assert_equal, assert_near, relative_l2

BOUND = 2e-6  # relative L2 of the final latents


@pytest.fixture
def given_noise(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.Tensor], None]:
    """Both backends start from the same noise: a seed would not give them that."""

    def give(noise: torch.Tensor) -> None:
        monkeypatch.setattr(
            dit_generate, "draw_noise", lambda seed, shape: mx.array(noise.numpy()).reshape(shape)
        )

    return give


@pytest.mark.parametrize("shift", [1.0, 2.4, 3.0], ids="shift_{:g}".format)
@pytest.mark.parametrize("steps", [1, 2, 8, 27, 50, 200], ids="{}_steps".format)
def test_one_evaluation_a_step(load_pair: Any, steps: int, shift: float) -> None:
    decoder = CountingDecoder()  # what it answers does not matter here
    c = random_conditions(load_pair().config, 1, 5)
    result = by_mlx(decoder, c, infer_steps=steps, shift=shift, is_turbo=False, seed=1)
    assert decoder.evaluations == steps
    assert decoder.timesteps == linspace_and_shift(steps, shift)
    assert result["timesteps"] == linspace_and_shift(steps, shift)
    costs = result["time_costs"]
    assert costs["diffusion_time_cost"] / costs["diffusion_per_step_time_cost"] == pytest.approx(steps)
    assert costs["total_time_cost"] >= costs["diffusion_time_cost"] > 0


class TestParity:
    """From the same noise, context and encoder states to the same latents."""

    @pytest.mark.parametrize("guidance", [1.0, 7.0], ids="guidance_{:g}".format)
    @pytest.mark.parametrize(
        ("batch", "frames", "length", "steps", "shift"),
        [
            pytest.param(2, 75, 13, 50, 1.0, id="fifty_steps_batch_2_odd_above_the_window"),
            pytest.param(1, 131, 40, 27, 3.0, id="27_steps_five_seconds"),
            pytest.param(1, 33, 1, 8, 2.4, id="eight_steps_one_encoder_state"),
            pytest.param(3, 7, 5, 2, 3.0, id="two_steps_batch_3"),
            pytest.param(1, 20, 5, 1, 1.0, id="one_step"),
        ],
    )
    def test_latents_equal_pytorchs(
        self,
        pair: SimpleNamespace,
        given_noise: Any,
        guidance: float,
        batch: int,
        frames: int,
        length: int,
        steps: int,
        shift: float,
    ) -> None:
        c = random_conditions(pair.config, batch, frames, length)
        given_noise(c.noise)
        run = {"infer_steps": steps, "shift": shift, "guidance_scale": guidance}
        ours, theirs = by_mlx(pair.mlx, c, is_turbo=False, **run), by_torch(pair.torch, c, **run)
        assert_equal(ours["noise"], c.noise, "noise")
        assert_near(ours["timesteps"], theirs.timesteps, largest=1e-6, what="schedule")
        assert_near(ours["target_latents"], theirs.latents, l2=BOUND, what="latents")

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            pytest.param(0.0, 0.45, id="late_steps"),
            pytest.param(0.55, 1.0, id="early_steps"),
            pytest.param(0.31, 0.84, id="steps_in_the_middle"),
            pytest.param(0.999, 0.9991, id="no_step"),
        ],
    )
    def test_guidance_interval_is_counted_in_t(
        self, pair: SimpleNamespace, given_noise: Any, start: float, end: float
    ) -> None:
        c = random_conditions(pair.config, 1, 35)
        given_noise(c.noise)
        run: dict[str, Any] = {
            "infer_steps": 27,
            "shift": 2.4,
            "guidance_scale": 7.0,
            "cfg_interval_start": start,
            "cfg_interval_end": end,
        }
        decoder = CountingDecoder(pair.mlx)
        ours, theirs = by_mlx(decoder, c, is_turbo=False, **run), by_torch(pair.torch, c, **run)
        assert decoder.batches == [2 if start <= t <= end else 1 for t in linspace_and_shift(27, 2.4)]
        assert_near(ours["target_latents"], theirs.latents, l2=BOUND, what="latents")

    def test_guidance_acts_at_both_ends_of_its_interval(self, load_pair: Any, given_noise: Any) -> None:
        pair = load_pair()
        c = random_conditions(pair.config, 1, 35)
        given_noise(c.noise)
        run = {"infer_steps": 8, "shift": 1.0, "guidance_scale": 7.0}
        run |= {"cfg_interval_start": 0.25, "cfg_interval_end": 0.75}
        decoder = CountingDecoder(pair.mlx)
        ours, theirs = by_mlx(decoder, c, is_turbo=False, **run), by_torch(pair.torch, c, **run)
        assert [t for t, batch in zip(decoder.timesteps, decoder.batches, strict=True) if batch == 2] == [
            0.75, 0.625, 0.5, 0.375, 0.25
        ]  # fmt: skip
        assert_near(ours["target_latents"], theirs.latents, l2=BOUND, what="latents")

    def test_custom_timesteps(self, pair: SimpleNamespace, given_noise: Any) -> None:
        c = random_conditions(pair.config, 2, 35)
        given_noise(c.noise)
        timesteps = [1.0, 0.83, 0.7, 0.7, 0.41, 0.12, 0.013, 0.0, 0.0]
        run: dict[str, Any] = {"infer_steps": 8, "shift": 3.0, "guidance_scale": 4.0, "timesteps": timesteps}
        decoder = CountingDecoder(pair.mlx)
        ours, theirs = by_mlx(decoder, c, is_turbo=False, **run), by_torch(pair.torch, c, **run)
        assert decoder.timesteps == float32(timesteps[:7])
        assert_near(ours["timesteps"], theirs.timesteps, largest=1e-6, what="schedule")
        assert_near(ours["target_latents"], theirs.latents, l2=BOUND, what="latents")

    @pytest.mark.parametrize("shift", [1.0, 2.0, 3.0], ids="shift_{:g}".format)
    def test_turbo_takes_its_eight_steps_as_pytorch_does(
        self, load_pair: Any, given_noise: Any, shift: float
    ) -> None:
        turbo = load_pair("plain", "turbo")
        c = random_conditions(turbo.config, 1, 35)
        given_noise(c.noise)
        ours = by_mlx(turbo.mlx, c, infer_steps=50, shift=shift, is_turbo=True)
        theirs = by_torch(turbo.torch, c, infer_steps=8, shift=shift)
        assert_near(ours["target_latents"], theirs.latents, l2=BOUND, what="latents")

    def test_the_bound_tells_a_wrong_step_count_apart(self, load_pair: Any, given_noise: Any) -> None:
        """8 steps in place of 50 are far outside it, as they are on real weights."""
        pair = load_pair()
        c = random_conditions(pair.config, 1, 75)
        given_noise(c.noise)
        ours = by_mlx(pair.mlx, c, infer_steps=8, shift=1.0, is_turbo=False)
        theirs = by_torch(pair.torch, c, infer_steps=50, shift=1.0)
        assert relative_l2(ours["target_latents"], theirs.latents) > 1000 * BOUND


class TestGuidanceAtTheDecoder:
    """One evaluation covers both branches; uncond is given the null condition, not the encoder states."""

    def test_guidance_costs_no_further_evaluation(self, load_pair: Any) -> None:
        decoder = CountingDecoder(load_pair().mlx)
        by_mlx(
            decoder,
            random_conditions(load_pair().config, 2, 5),
            infer_steps=9,
            guidance_scale=7.0,
            is_turbo=False,
        )
        assert decoder.batches == [4] * 9

    @pytest.mark.parametrize("scale", [0.0, 1.0], ids="guidance_{:g}".format)
    def test_no_guidance_at_1_and_0(self, load_pair: Any, scale: float) -> None:
        decoder = CountingDecoder(load_pair().mlx)
        c = random_conditions(load_pair().config, 2, 5)
        by_mlx(decoder, c, infer_steps=3, guidance_scale=scale, is_turbo=False)
        assert decoder.batches == [2] * 3

    def test_guidance_without_a_null_condition_is_refused(self, load_pair: Any) -> None:
        decoder = CountingDecoder(load_pair().mlx)
        c = random_conditions(load_pair().config, 1, 5)
        with pytest.raises(
            ValueError, match=r"guidance_scale is 7\.0, which needs null_condition_emb_np; it is None"
        ):
            mlx_generate_diffusion(
                decoder, c.states.numpy(), c.context.numpy(), (1, 5, 8), guidance_scale=7.0
            )
        assert decoder.evaluations == 0

    def test_no_null_condition_is_needed_without_guidance(self, load_pair: Any) -> None:
        c = random_conditions(load_pair().config, 1, 5)
        alone = mlx_generate_diffusion(
            load_pair().mlx, c.states.numpy(), c.context.numpy(), (1, 5, 8), seed=3, disable_tqdm=True
        )
        assert_equal(alone["target_latents"], by_mlx(load_pair().mlx, c, seed=3)["target_latents"])


class TestOldCallers:
    """Who says nothing of steps and kind gets what there was before: turbo's eight."""

    def test_defaults_are_turbo(self, load_pair: Any) -> None:
        decoder = CountingDecoder(load_pair().mlx)
        by_mlx(decoder, random_conditions(load_pair().config, 1, 5))
        assert decoder.timesteps == linspace_and_shift(8, 3.0)

    def test_positional_arguments_mean_what_they_meant(self, load_pair: Any) -> None:
        """The new parameters stand behind the old ones."""
        decoder = CountingDecoder(load_pair().mlx)
        c = random_conditions(load_pair().config, 1, 5)
        arrays = (c.states.numpy(), c.context.numpy(), tuple(c.noise.shape))
        mlx_generate_diffusion(decoder, *arrays, 7, "ode", 1.0, [1.0, 0.5])
        assert decoder.timesteps == [1.0, 0.5]


def test_other_methods_are_refused_before_anything_runs(load_pair: Any) -> None:
    decoder = CountingDecoder(load_pair().mlx)
    with pytest.raises(ValueError, match="infer_method is 'heun', expected 'ode' or 'sde'"):
        by_mlx(decoder, random_conditions(load_pair().config, 1, 5), infer_method="heun")
    assert decoder.evaluations == 0


def test_lengths_that_differ_are_refused_before_anything_runs(load_pair: Any) -> None:
    decoder = CountingDecoder(load_pair().mlx)
    c = random_conditions(load_pair().config, 1, 5)
    c.context = c.context[:, :4]
    with pytest.raises(ValueError, match=r"context_latents_np holds \(1, 4\) .* says \(1, 5\)"):
        by_mlx(decoder, c)
    assert decoder.evaluations == 0


@pytest.mark.parametrize("steps", [0, 2.5], ids=repr)
def test_wrong_step_counts_are_refused_before_anything_runs(load_pair: Any, steps: Any) -> None:
    decoder = CountingDecoder(load_pair().mlx)
    with pytest.raises(ValueError, match=f"infer_steps must be >= 1, got {steps}"):
        by_mlx(decoder, random_conditions(load_pair().config, 1, 5), infer_steps=steps, is_turbo=False)
    assert decoder.evaluations == 0


def test_bar_is_named_and_ends_in_the_step_count(load_pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
    c = random_conditions(load_pair().config, 1, 5)
    arrays = (c.states.numpy(), c.context.numpy(), tuple(c.noise.shape))
    mlx_generate_diffusion(load_pair().mlx, *arrays, infer_steps=3, is_turbo=False)
    shown = capsys.readouterr().err
    assert "MLX DiT diffusion: 100%" in shown
    assert "3/3" in shown


class TestNoise:
    """Seeds and what is drawn from them."""

    def test_each_step_of_each_seed_draws_its_own(self) -> None:
        drawn = [
            np.array(draw_noise(seed, (1, 7, 3), step)) for seed in (0, 1, 2**32 - 1) for step in range(3)
        ]
        assert len({noise.tobytes() for noise in drawn}) == 9
        assert_equal(draw_noise([5, 6], (2, 7, 3), 2)[1:], draw_noise(6, (1, 7, 3), 2))

    def test_same_seed_same_noise(self) -> None:
        assert_equal(draw_noise(5, (2, 7, 3)), draw_noise(5, (2, 7, 3)))
        assert not np.array_equal(draw_noise(5, (2, 7, 3)), draw_noise(6, (2, 7, 3)))

    def test_a_list_holds_a_seed_for_each_item(self) -> None:
        both = draw_noise([5, 6], (2, 7, 3))
        assert_equal(both[:1], draw_noise(5, (1, 7, 3)))
        assert_equal(both[1:], draw_noise(6, (1, 7, 3)))

    def test_no_seed_draws_anew(self) -> None:
        assert not np.array_equal(draw_noise(None, (1, 7, 3)), draw_noise(None, (1, 7, 3)))

    def test_noise_is_standard_normal_in_float32(self) -> None:
        noise = np.array(draw_noise(0, (2, 5000, 8)))
        assert noise.dtype == np.float32
        assert abs(noise.mean()) < 0.02
        assert abs(noise.std() - 1.0) < 0.02

    def test_a_list_of_another_length_is_refused(self) -> None:
        with pytest.raises(ValueError, match="2 seeds were given for a batch of 3; give one for each item"):
            draw_noise([1, 2], (3, 7, 3))
