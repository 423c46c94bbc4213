"""The way into diffusers' loop: nothing is changed on it.

The loop, guidance and decoder behind it are the library's. So that this module can serve as the reference, a bare
AceStepPipeline, built from the same folders, is called from the audio on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDiagonalGaussianDistribution
from transformers import AutoTokenizer

from acestep.inference import GenerationConfig, GenerationParams, generate_music
from acestep.models.checkpoint.config import read_config
from acestep.models.mlx.dit_generate import draw_noise
from acestep.models.mlx.model import POSTERIOR_DRAW
from acestep.models.pytorch.loading import load_condition_encoder, load_decoder, load_text_encoder, load_vae
from acestep.models.pytorch.loop import torch_generate_diffusion, without_trailing_zeros
from acestep.models.pytorch.reference import round_timestep_frequencies
from tests.fork_helper import linspace_and_shift, random_conditions
from tests.loop_helper import by_torch
from tests.parity_helper import assert_equal, assert_near, relative_l2

SEED = 11


def bare_pipeline(root: Path) -> Any:
    """diffusers' own class, nothing in between."""
    from diffusers import AceStepPipeline, FlowMatchEulerDiscreteScheduler

    checkpoints = root / "checkpoints"
    dit = checkpoints / "acestep-v15-base"
    config = read_config(dit)
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "Qwen3-Embedding-0.6B")
    text_encoder = load_text_encoder(checkpoints / "Qwen3-Embedding-0.6B", config)
    pipeline = AceStepPipeline(
        vae=load_vae(checkpoints / "vae", config),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=load_decoder(dit, config),
        condition_encoder=load_condition_encoder(dit, config),
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_of_mlx(posterior: Any, generator: Any = None) -> torch.Tensor:
    """diffusers' posterior, sampled with what MLX draws."""
    batch, channels, frames = posterior.mean.shape
    draw = np.array(draw_noise([SEED], (batch, frames, channels), POSTERIOR_DRAW))
    return posterior.mean + posterior.std * torch.from_numpy(draw).transpose(1, 2)


@pytest.mark.parametrize(
    ("shape", "use_mlx_dit", "guidance"),
    [
        pytest.param("plain", False, 7.0, id="torch_backend_plain_guided"),
        pytest.param("xl", False, 1.0, id="torch_backend_xl"),
        pytest.param("plain", True, 1.0, id="mlx_backend_plain"),
        pytest.param("xl", True, 7.0, id="mlx_backend_xl_guided"),
    ],
)
def test_whole_request_equals_a_bare_pipeline(
    tiny_root: Callable[..., Path],
    load_handler: Callable[..., Any],
    context_wav: Path,
    shape: str,
    use_mlx_dit: bool,
    guidance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the WAV and the words to the stem, at 12 steps; the noise is the run's own, handed to the library.

    On MLX, as measured, relative L2 of the final latents: all together 2.5e-7 to 6.2e-7, the decoder's loop on the same
    inputs 2.2e-7 to 6.0e-7, the context latents (apart by 1.1e-7) 1.5e-7 to 2.8e-7, the encoder states (2.1e-7 to
    2.8e-7) 1.4e-7 to 2.8e-7. The last digit of torch.exp, which depends on the machine, is taken out: it alone moves
    them by 2.6e-7 to 5.8e-7 here, by more elsewhere.
    """
    handler = load_handler(shape, use_mlx_dit)
    params = GenerationParams(
        src_audio=str(context_wav),
        instruction=handler.generate_instruction("lego", track_name="drums"),
        caption="dry drums, close and warm",
        lyrics="[Verse]\nla la",
        bpm=96,
        keyscale="D minor",
        inference_steps=12,
        guidance_scale=guidance,
        shift=2.4,
    )
    run = generate_music(handler, None, params, GenerationConfig(use_random_seed=False, seeds=[SEED]))
    assert run.success, run.error

    samples, _ = soundfile.read(context_wav, dtype="float32")
    torch.manual_seed(SEED)  # the pipeline draws the context's posterior from torch's own state
    if use_mlx_dit:
        monkeypatch.setattr(OobleckDiagonalGaussianDistribution, "sample", sample_of_mlx)
    request: dict[str, Any] = {
        "prompt": params.caption,
        "lyrics": params.lyrics,
        "vocal_language": params.vocal_language,
        "bpm": params.bpm,
        "keyscale": params.keyscale,
        "task_type": "lego",
        "track_name": "drums",
        "src_audio": torch.from_numpy(samples.T.copy()),
        "audio_duration": 0,
        "num_inference_steps": 12,
        "guidance_scale": guidance,
        "shift": 2.4,
        "latents": torch.from_numpy(run.extra_outputs["noise"]),
    }
    states = []
    pipeline = bare_pipeline(tiny_root("base", shape))
    if use_mlx_dit:
        round_timestep_frequencies(pipeline.transformer)
    audio = pipeline(**request, callback=lambda _step, _t, latents: states.append(latents)).audios
    bound = {True: 2e-6, False: 0.0}[use_mlx_dit]
    assert len(states) == 12
    assert_near(run.extra_outputs["target_latents"], states[-1], l2=bound, what="latents")
    assert_near(run.audios[0]["tensor"], audio[0], l2=1e-5, what="stem")


class TestWhatIsHandedOver:
    """Each argument reaches the loop, and the loop's answer comes back."""

    @pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (27, 2.4), (50, 3.0)])
    def test_evaluations_and_timesteps(self, load_pair: Any, steps: int, shift: float) -> None:
        pair, seen = load_pair(), []
        hook = pair.torch.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(kwargs["timestep"][0].item()), with_kwargs=True
        )
        result = by_torch(pair.torch, random_conditions(pair.config, 1, 5), infer_steps=steps, shift=shift)
        hook.remove()
        assert seen == result.timesteps == linspace_and_shift(steps, shift)

    def test_one_step_by_hand(self, load_pair: Any) -> None:
        """From t = 1 to 0 in one step: the noise less the velocity."""
        pair = load_pair()
        c = random_conditions(pair.config, 2, 9)
        one = torch.ones(2)
        with torch.inference_mode():
            velocity = pair.torch(c.noise, one, one, c.states, c.context).sample
        assert_equal(by_torch(pair.torch, c, infer_steps=1, shift=3.0).latents, c.noise - velocity)

    @pytest.mark.parametrize("name", ["states", "context", "noise", "null"])
    def test_every_tensor_matters(self, load_pair: Any, name: str) -> None:
        pair = load_pair()
        c, other = (random_conditions(pair.config, 1, 9, seed=seed) for seed in (0, 1))
        run: dict[str, Any] = {"infer_steps": 2, "shift": 1.0, "guidance_scale": 4.0}
        before = by_torch(pair.torch, c, **run).latents
        setattr(c, name, getattr(other, name))
        assert relative_l2(by_torch(pair.torch, c, **run).latents, before) > 1e-3

    def test_tensors_are_not_changed(self, load_pair: Any) -> None:
        pair = load_pair()
        c = random_conditions(pair.config, 1, 9)
        by_torch(pair.torch, c, infer_steps=2, shift=1.0, guidance_scale=4.0)
        for name, value in vars(random_conditions(pair.config, 1, 9)).items():
            assert_equal(getattr(c, name), value, name)

    def test_custom_timesteps_end_at_zero(self, load_pair: Any) -> None:
        pair = load_pair()
        c = random_conditions(pair.config, 1, 9)
        run: dict[str, Any] = {"infer_steps": 8, "shift": 3.0}
        custom = by_torch(pair.torch, c, **run, timesteps=[1.0, 0.5, 0.0, 0.0])
        assert custom.timesteps == [1.0, 0.5]
        assert_equal(custom.latents, by_torch(pair.torch, c, infer_steps=2, shift=1.0).latents)

    def test_repeated_first_timestep_is_a_step_of_no_length(self, load_pair: Any) -> None:
        pair = load_pair()
        c = random_conditions(pair.config, 1, 9)
        twice = by_torch(pair.torch, c, infer_steps=8, shift=3.0, timesteps=[1.0, 1.0, 0.5])
        assert twice.timesteps == [1.0, 1.0, 0.5]
        assert_equal(twice.latents, by_torch(pair.torch, c, infer_steps=2, shift=1.0).latents)

    def test_bar_is_named(self, load_pair: Any, capsys: pytest.CaptureFixture[str]) -> None:
        pair = load_pair()
        c = random_conditions(pair.config, 1, 5)
        torch_generate_diffusion(
            pair.torch,
            encoder_hidden_states=c.states,
            context_latents=c.context,
            noise=c.noise,
            null_condition_emb=c.null,
            infer_steps=3,
            shift=1.0,
        )
        shown = capsys.readouterr().err
        assert "PyTorch DiT diffusion: 100%" in shown
        assert "3/3" in shown


@pytest.mark.parametrize(
    ("given", "taken"),
    [([1, 0.5, 0, 0.0], [1.0, 0.5]), ([1.0], [1.0]), ([0.0], []), ((0.5, -0.0), [0.5])],
    ids=["zeros", "none", "zero_alone", "negative_zero"],
)
def test_trailing_zeros_are_left_out(given: Any, taken: list[float]) -> None:
    assert without_trailing_zeros(given) == taken
