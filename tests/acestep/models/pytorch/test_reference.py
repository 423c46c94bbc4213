"""The reference of a comparison: diffusers' decoder, its timestep frequencies rounded once."""

from collections.abc import Callable
from pathlib import Path

import torch

from acestep.models.checkpoint.config import read_config
from acestep.models.mlx.rope import timestep_frequencies
from acestep.models.pytorch.loading import load_decoder
from acestep.models.pytorch.reference import load_reference_decoder


def test_the_timestep_waves_are_those_of_the_nearest_float32(tiny_root: Callable[..., Path]) -> None:
    folder = tiny_root() / "checkpoints" / "acestep-v15-base"
    decoder = load_reference_decoder(folder, read_config(folder))
    frequencies = torch.tensor(timestep_frequencies(256).tolist())
    for embedding in (decoder.time_embed, decoder.time_embed_r):
        waves = embedding.time_sinusoid(torch.tensor([1000.0]))[0]
        angles = 1000.0 * frequencies
        assert (waves - torch.cat([angles.cos(), angles.sin()])).abs().max() <= 1.2e-7


def test_exp_is_torchs_again_after_an_evaluation(tiny_root: Callable[..., Path]) -> None:
    exp, folder = torch.exp, tiny_root() / "checkpoints" / "acestep-v15-base"
    load_reference_decoder(folder, read_config(folder)).time_embed(torch.ones(1))
    assert torch.exp is exp


def test_nothing_but_the_last_digit_changes(tiny_root: Callable[..., Path]) -> None:
    folder = tiny_root() / "checkpoints" / "acestep-v15-base"
    config = read_config(folder)
    for t in (1.0, 0.5, 0.02):
        plain, *_ = load_decoder(folder, config).time_embed(torch.tensor([t]))
        rounded, *_ = load_reference_decoder(folder, config).time_embed(torch.tensor([t]))
        assert (plain - rounded).norm() <= 1e-5 * plain.norm()
