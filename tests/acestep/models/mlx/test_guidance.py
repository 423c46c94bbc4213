"""APG in MLX, held to diffusers' normalized_guidance over a run of several steps."""

import mlx.core as mx
import numpy as np
import pytest
import torch

from acestep.models.mlx.guidance import AdaptiveProjectedGuidance, norm_over_time
from tests.parity_helper import assert_equal, assert_near

SHAPE = (2, 37, 8)
STEPS = 6


def velocities(apart: float, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Both branches' velocities of each step, about `apart` from one another."""
    draw = torch.Generator().manual_seed(seed)
    conditional = [torch.randn(SHAPE, generator=draw) for _ in range(STEPS)]
    return [(v, v + apart * torch.randn(SHAPE, generator=draw)) for v in conditional]


def by_diffusers(pairs: list[tuple[torch.Tensor, torch.Tensor]], scale: float) -> list[torch.Tensor]:
    """As AceStepPipeline calls it."""
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    momentum = MomentumBuffer(momentum=-0.75)
    return [
        normalized_guidance(
            pred_cond=conditional,
            pred_uncond=null,
            guidance_scale=scale - 1.0,
            momentum_buffer=momentum,
            eta=0.0,
            norm_threshold=2.5,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        for conditional, null in pairs
    ]


def by_mlx(pairs: list[tuple[torch.Tensor, torch.Tensor]], scale: float) -> list[mx.array]:
    guide = AdaptiveProjectedGuidance(scale)
    return [guide(mx.array(conditional.numpy()), mx.array(null.numpy())) for conditional, null in pairs]


# Norms over time of the difference: 0.06 is far below the threshold of 2.5, 60 far above, 2.5 on both sides of it.
@pytest.mark.parametrize(
    "apart", [0.01, 0.4, 10.0], ids=["below_threshold", "around_threshold", "above_threshold"]
)
@pytest.mark.parametrize("scale", [1.5, 7.0, 15.0], ids="guidance_{:g}".format)
def test_each_step_equals_diffusers(scale: float, apart: float) -> None:
    pairs = velocities(apart)
    for step, (ours, theirs) in enumerate(zip(by_mlx(pairs, scale), by_diffusers(pairs, scale), strict=True)):
        assert_near(ours, theirs, largest=1e-6, what=f"step {step}")


def test_steps_depend_on_those_before_them() -> None:
    """The momentum: the second step alone is another one than after the first."""
    pairs = velocities(10.0)
    after_first, alone = by_mlx(pairs, 7.0)[1], by_mlx(pairs[1:], 7.0)[0]
    assert np.abs(np.array(after_first - alone)).max() > 0.1


def test_two_runs_do_not_share_their_momentum() -> None:
    pairs = velocities(10.0)
    assert_equal(by_mlx(pairs, 7.0)[-1], by_mlx(pairs, 7.0)[-1])


def test_momentum_of_a_constant_difference_by_hand() -> None:
    """One channel, two frames; conditional (1, 0), null (1, -d): the difference (0, d) is orthogonal to it.

    Running difference: d, then d - 0.75 d, then d - 0.75 * 0.25 d; all below the threshold, all added whole.
    """
    conditional, null = mx.array([[[1.0], [0.0]]]), mx.array([[[1.0], [-0.5]]])
    guide = AdaptiveProjectedGuidance(3.0)
    guided = [guide(conditional, null)[0, 1, 0].item() for _ in range(3)]
    assert guided == pytest.approx([2 * 0.5, 2 * 0.5 * 0.25, 2 * 0.5 * 0.8125])


def test_difference_is_clipped_to_the_threshold_by_hand() -> None:
    conditional, null = mx.array([[[1.0], [0.0]]]), mx.array([[[1.0], [-100.0]]])
    assert AdaptiveProjectedGuidance(3.0)(conditional, null)[0, :, 0].tolist() == pytest.approx(
        [1.0, 2 * 2.5]
    )


def test_part_along_the_velocity_is_taken_out() -> None:
    """Branches that differ by a factor only have nothing to guide by."""
    conditional = mx.array([[[0.6], [0.8]]])
    assert_near(AdaptiveProjectedGuidance(7.0)(conditional, 0.5 * conditional), conditional, largest=1e-6)


def test_branches_that_agree_give_the_conditional_one() -> None:
    conditional = mx.array(velocities(1.0)[0][0].numpy())
    assert_equal(AdaptiveProjectedGuidance(7.0)(conditional, conditional), conditional)


def test_silent_channel_stays_finite() -> None:
    zero = mx.zeros((1, 5, 2))
    assert_equal(AdaptiveProjectedGuidance(7.0)(zero, zero), zero)
    assert mx.isfinite(AdaptiveProjectedGuidance(7.0)(zero, zero - 1.0)).all().item()


def test_norm_is_over_frames() -> None:
    x = mx.array([[[3.0, 1.0], [4.0, 0.0]]])
    assert norm_over_time(x).tolist() == [[[5.0, 1.0]]]
