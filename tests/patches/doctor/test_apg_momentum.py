"""The formula that the check apg-momentum computes the expected latents with."""

import torch

from patches.doctor.checks import apg_momentum


def test_formula_is_that_of_diffusers() -> None:
    from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance

    generator = torch.Generator().manual_seed(3)
    buffer = MomentumBuffer(apg_momentum.MOMENTUM)
    running = None
    for _ in range(3):
        cond, uncond = torch.randn(2, 2, 24, 8, generator=generator, dtype=torch.float64)
        difference = cond - uncond
        running = difference if running is None else difference + apg_momentum.MOMENTUM * running
        expected = normalized_guidance(
            cond,
            uncond,
            apg_momentum.SCALE - 1,  # as AceStepPipeline calls it
            buffer,
            eta=0.0,
            norm_threshold=apg_momentum.THRESHOLD,
            use_original_formulation=True,
            norm_dim=(1,),
        )
        assert torch.allclose(apg_momentum.guided(cond, running), expected, rtol=0, atol=1e-9)
