"""Requests that run, through the public API alone: steps, stems, seeds, files."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from acestep.errors import OutputError
from acestep.inference import GenerationConfig, GenerationParams, GenerationResult, generate_music
from acestep.models.pytorch.loop import torch_generate_diffusion
from tests.fork_helper import CountingDecoder, linspace_and_shift
from tests.parity_helper import assert_equal, assert_near, relative_l2

RATE = 48_000

Generate = Callable[..., GenerationResult]
TENSORS = ("encoder_hidden_states", "context_latents", "noise", "null_condition_emb")


@pytest.fixture
def generate(mlx_handler: Any, make_context: Callable[..., Path]) -> Generate:
    """A request on a context of one second; it has to succeed."""

    def run(handler: Any = mlx_handler, save_dir: Path | None = None, **fields: Any) -> GenerationResult:
        config = {
            name: fields.pop(name) for name in ("seeds", "batch_size", "audio_format") if name in fields
        }
        if "seed" not in fields:
            config.setdefault("seeds", [3])
        request = {"src_audio": str(make_context(1.0)), "inference_steps": 4, **fields}
        result = generate_music(
            handler,
            None,
            GenerationParams(**request),
            GenerationConfig(use_random_seed=False, **config),
            save_dir=save_dir,
        )
        assert result.success, result.error
        assert result.error is None
        return result

    return run


def stem(result: GenerationResult, index: int = 0) -> torch.Tensor:
    return result.audios[index]["tensor"]


class TestSteps:
    """As many decoder evaluations as were asked for, on either backend."""

    @pytest.mark.parametrize(
        ("steps", "shift", "guidance"), [(1, 1.0, 1.0), (8, 3.0, 7.0), (27, 2.4, 1.0), (50, 1.0, 7.0)]
    )
    def test_mlx(
        self,
        generate: Generate,
        mlx_handler: Any,
        monkeypatch: Any,
        steps: int,
        shift: float,
        guidance: float,
    ) -> None:
        decoder = CountingDecoder(mlx_handler.mlx_decoder)
        monkeypatch.setattr(mlx_handler, "mlx_decoder", decoder)
        result = generate(inference_steps=steps, shift=shift, guidance_scale=guidance)
        assert decoder.evaluations == steps
        assert decoder.timesteps == linspace_and_shift(steps, shift)
        assert decoder.batches == [2 if guidance > 1 else 1] * steps
        assert result.status_message == f"1 stem(s) generated in {steps} steps"

    @pytest.mark.parametrize("steps", [1, 27])
    def test_torch(self, generate: Generate, torch_handler: Any, steps: int) -> None:
        seen: list[float] = []
        hook = torch_handler.model.decoder.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(kwargs["timestep"][0].item()), with_kwargs=True
        )
        generate(torch_handler, inference_steps=steps, shift=2.4)
        hook.remove()
        assert seen == linspace_and_shift(steps, 2.4)

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_custom_timesteps_stand_in_for_them(
        self, generate: Generate, load_handler: Any, use_mlx_dit: bool
    ) -> None:
        custom = [1.0, 0.83, 0.41, 0.0]
        result = generate(load_handler("plain", use_mlx_dit), inference_steps=50, timesteps=custom)
        assert result.extra_outputs["timesteps"] == pytest.approx(custom[:3])


class TestGuidanceInterval:
    """Steps at 1, .75, .5, .25; both branches run where t is within the interval, on either backend."""

    INTERVAL = {"guidance_scale": 4.0, "cfg_interval_start": 0.3, "cfg_interval_end": 0.8}  # noqa: RUF012

    def test_mlx(self, generate: Generate, mlx_handler: Any, monkeypatch: Any) -> None:
        decoder = CountingDecoder(mlx_handler.mlx_decoder)
        monkeypatch.setattr(mlx_handler, "mlx_decoder", decoder)
        generate(**self.INTERVAL)
        assert decoder.batches == [1, 2, 2, 1]

    def test_torch(self, generate: Generate, torch_handler: Any) -> None:
        seen: list[int] = []
        hook = torch_handler.model.decoder.register_forward_pre_hook(
            lambda _module, _args, kwargs: seen.append(len(kwargs["timestep"])), with_kwargs=True
        )
        generate(torch_handler, **self.INTERVAL)
        hook.remove()
        assert seen == [1, 2, 2, 1]


class TestParity:
    """What a result hands out is enough to run PyTorch from the same tensors, and it comes out the same."""

    @pytest.mark.parametrize(("shape", "guidance"), [("plain", 7.0), ("xl", 1.0)], ids=["plain_guided", "xl"])
    def test_latents_from_the_tensors_of_the_result(
        self, generate: Generate, load_handler: Any, load_pair: Any, shape: str, guidance: float
    ) -> None:
        result = generate(load_handler(shape), inference_steps=50, guidance_scale=guidance)
        outputs = result.extra_outputs
        tensors: dict[str, Any] = {name: torch.from_numpy(outputs[name]) for name in TENSORS}
        theirs = torch_generate_diffusion(
            load_pair(shape).torch,
            **tensors,
            infer_steps=50,
            shift=1.0,
            guidance_scale=guidance,
            disable_tqdm=True,
        )
        assert_near(outputs["timesteps"], theirs.timesteps, largest=1e-6, what="schedule")
        assert_near(outputs["target_latents"], theirs.latents, l2=2e-6, what="latents")


class TestStem:
    """As long as the context, made from it, at a known level."""

    @pytest.mark.parametrize(
        ("seconds", "rate"),
        [
            pytest.param(1.0, RATE, id="one_second"),
            pytest.param(48_777 / RATE, RATE, id="parts_of_a_frame"),
            pytest.param(3.0, RATE, id="three_seconds"),
            pytest.param(262_143 / RATE, RATE, id="above_128_frames"),
            pytest.param(70_001 / 44_100, 44_100, id="from_44100_hz"),
            pytest.param(1.7, 22_050, id="from_22050_hz_mono"),
        ],
    )
    def test_length_is_the_contexts(
        self, generate: Generate, make_context: Callable[..., Path], seconds: float, rate: int
    ) -> None:
        channels = 1 if rate == 22_050 else 2
        result = generate(
            src_audio=str(make_context(seconds, rate=rate, channels=channels)), inference_steps=1
        )
        assert result.audios[0]["sample_rate"] == RATE
        context = result.extra_outputs["context_audio"]
        assert stem(result).shape == context.shape == (2, round(seconds * RATE))

    def test_short_context_is_run_at_128_frames(self, generate: Generate, mlx_handler: Any) -> None:
        outputs = generate().extra_outputs
        channels = mlx_handler.config.audio_acoustic_hidden_dim
        source, mask = np.split(outputs["context_latents"], 2, axis=-1)
        assert outputs["target_latents"].shape == source.shape == (1, 128, channels)
        assert_equal(source[:, 25:], mlx_handler.model.silence_latent[:, :103])
        assert mask.min() == 1.0

    def test_range_is_marked_in_the_mask_and_keeps_its_source(
        self, generate: Generate, make_context: Callable[..., Path]
    ) -> None:
        request = {"src_audio": str(make_context(3.0)), "inference_steps": 1}
        whole = generate(**request).extra_outputs["context_latents"]
        part = generate(**request, repainting_start=1.0, repainting_end=2.0).extra_outputs["context_latents"]
        source, mask = np.split(part, 2, axis=-1)
        assert_equal(source, np.split(whole, 2, axis=-1)[0])
        assert np.flatnonzero(mask[0, :, 0]).tolist() == list(range(25, 50))

    def test_context_is_heard(self, generate: Generate, tmp_path: Path) -> None:
        """Upstream once took nothing but the length from the WAV: then these two would be one stem."""
        draw = np.random.default_rng(0)
        soundfile.write(tmp_path / "noise.wav", 0.3 * draw.standard_normal((RATE, 2)), RATE)
        assert not torch.equal(stem(generate(src_audio=str(tmp_path / "noise.wav"))), stem(generate()))

    @pytest.mark.parametrize(
        "words",
        [
            {"caption": "loud"},
            {"lyrics": "[Chorus]"},
            {"vocal_language": "de"},
            {"bpm": 120},
            {"keyscale": "E"},
            {"timesignature": "6"},
        ],
        ids=lambda words: next(iter(words)),
    )
    def test_words_are_heard(self, generate: Generate, words: dict[str, Any]) -> None:
        a, b = (generate(inference_steps=1, **w).extra_outputs["encoder_hidden_states"] for w in ({}, words))
        assert a.shape != b.shape or not np.array_equal(a, b)

    def test_track_is_heard(self, generate: Generate, mlx_handler: Any) -> None:
        drums, bass = (
            stem(generate(instruction=mlx_handler.generate_instruction("lego", track_name=track)))
            for track in ("drums", "bass")
        )
        assert relative_l2(drums, bass) > 1e-3

    def test_without_an_instruction_the_lego_text_is_used(self, generate: Generate, mlx_handler: Any) -> None:
        plain = generate(inference_steps=1).extra_outputs["encoder_hidden_states"]
        named = generate(inference_steps=1, instruction=mlx_handler.generate_instruction("lego"))
        assert_equal(named.extra_outputs["encoder_hidden_states"], plain)

    def test_peak_is_brought_to_minus_1_dbfs(self, generate: Generate) -> None:
        audio = generate().audios[0]
        assert audio["tensor"].abs().max().item() == pytest.approx(10 ** (-1 / 20), rel=1e-5)
        assert audio["gain"] * audio["peak"] == pytest.approx(10 ** (-1 / 20), rel=1e-5)

    def test_peak_is_brought_to_what_was_asked_for(self, generate: Generate) -> None:
        assert stem(generate(normalization_db=-6.0)).abs().max().item() == pytest.approx(
            10 ** (-6 / 20), rel=1e-5
        )

    def test_level_is_left_alone_where_it_is_to_be(self, generate: Generate) -> None:
        audio = generate(enable_normalization=False).audios[0]
        assert audio["tensor"].abs().max().item() == pytest.approx(min(1.0, audio["peak"]), rel=1e-5)
        assert audio["gain"] == pytest.approx(1 / max(1.0, audio["peak"]))

    def test_levels_are_those_before_any_gain(self, generate: Generate, mlx_handler: Any) -> None:
        result = generate()
        latents = result.extra_outputs["target_latents"]
        raw = torch.from_numpy(mlx_handler.vae.decode_latents(latents)[0, :, :RATE])
        audio = result.audios[0]
        assert audio["peak"] == pytest.approx(raw.abs().max().item(), rel=1e-4)
        assert audio["rms"] == pytest.approx(raw.square().mean().sqrt().item(), rel=1e-4)
        assert_near(audio["tensor"], raw * audio["gain"], l2=1e-5)

    @pytest.mark.parametrize("enable_normalization", [True, False], ids=["normalized", "as_it_is"])
    def test_gain_leads_from_the_decoded_stem_to_the_one_handed_out(
        self, generate: Generate, mlx_handler: Any, monkeypatch: Any, enable_normalization: bool
    ) -> None:
        """A stem of three times full scale, which the tiny VAE does not give by itself."""
        loud = 3.0 * np.sin(np.arange(2 * 128 * 1920, dtype=np.float32)).reshape(1, 2, -1)
        monkeypatch.setattr(mlx_handler.vae, "decode_latents", lambda _: loud)
        audio = generate(enable_normalization=enable_normalization).audios[0]
        assert audio["peak"] == pytest.approx(3.0, rel=1e-3)
        assert audio["clipped"] > 0.5
        assert_near(audio["tensor"], loud[0, :, :RATE] * audio["gain"], l2=1e-6)

    def test_silent_stem_stays_silent(self, generate: Generate, mlx_handler: Any, monkeypatch: Any) -> None:
        """No gain lifts what is not there, and none divides by zero."""
        silent = np.zeros((1, 2, 128 * 1920), dtype=np.float32)
        monkeypatch.setattr(mlx_handler.vae, "decode_latents", lambda _: silent)
        audio = generate().audios[0]
        assert not audio["tensor"].any()
        assert (audio["peak"], audio["gain"]) == (0.0, 1.0)


class TestSeeds:
    """The same seed, the same stem, in whatever company."""

    def test_same_seed_same_stem(self, generate: Generate) -> None:
        assert_equal(stem(generate(seeds=[5])), stem(generate(seeds=[5])))

    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_another_seed_another_stem(
        self, generate: Generate, load_handler: Any, use_mlx_dit: bool
    ) -> None:
        handler = load_handler("plain", use_mlx_dit)
        assert relative_l2(stem(generate(handler, seeds=[5])), stem(generate(handler, seeds=[6]))) > 1e-2

    def test_params_seed_is_honoured(self, generate: Generate) -> None:
        result = generate(seed=5)
        assert result.audios[0]["seed"] == 5
        assert_equal(stem(result), stem(generate(seeds=[5])))

    @pytest.mark.parametrize("guidance", [1.0, 7.0], ids="guidance_{:g}".format)
    @pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
    def test_batch_of_two_is_two_of_one(
        self, generate: Generate, load_handler: Any, use_mlx_dit: bool, guidance: float
    ) -> None:
        """Up to the last digits: a matmul of another size is summed in another order."""
        handler = load_handler("plain", use_mlx_dit)
        both = generate(handler, seeds=[5, 6], batch_size=2, guidance_scale=guidance)
        assert [audio["seed"] for audio in both.audios] == [5, 6]
        for index, seed in enumerate((5, 6)):
            alone = generate(handler, seeds=[seed], guidance_scale=guidance).extra_outputs
            for name in ("noise", "context_latents"):
                assert_equal(both.extra_outputs[name][index : index + 1], alone[name], name)
            latents = both.extra_outputs["target_latents"][index : index + 1]
            assert_near(latents, alone["target_latents"], l2=2e-6, what=f"latents of seed {seed}")


class TestFiles:
    """Stems are saved whole or not at all."""

    @pytest.mark.parametrize(
        ("audio_format", "suffix", "subtype", "step"),
        [
            ("wav", ".wav", "PCM_16", 2**-15),
            ("wav32", ".wav", "FLOAT", 0.0),
            ("flac", ".flac", "PCM_24", 2**-23),
        ],
        ids=["wav", "wav32", "flac"],
    )
    def test_file_holds_the_stem(
        self, generate: Generate, tmp_path: Path, audio_format: str, suffix: str, subtype: str, step: float
    ) -> None:
        folder = tmp_path / "new" / "out"
        audio = generate(save_dir=folder, audio_format=audio_format).audios[0]
        path = Path(audio["path"])
        assert list(folder.iterdir()) == [path], "nothing else is left"
        assert path.suffix == suffix
        assert soundfile.info(path).subtype == subtype
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == RATE
        assert np.abs(samples.T - audio["tensor"].numpy()).max() <= step

    def test_each_stem_of_a_batch_has_its_file(self, generate: Generate, tmp_path: Path) -> None:
        result = generate(save_dir=tmp_path, seeds=[1, 2], batch_size=2, inference_steps=1)
        assert {str(path) for path in tmp_path.iterdir()} == {audio["path"] for audio in result.audios}
        assert len(set(tmp_path.iterdir())) == 2

    def test_a_folder_whose_name_is_not_utf_8(self, generate: Generate, tmp_path: Path) -> None:
        folder = tmp_path / os.fsdecode(b"out\x97")
        audio = generate(save_dir=folder, inference_steps=1).audios[0]
        assert list(folder.iterdir()) == [Path(audio["path"])]

    def test_nothing_is_saved_where_no_folder_is_given(self, generate: Generate) -> None:
        assert generate().audios[0]["path"] is None

    @pytest.mark.parametrize("place", ["file", "file/below"])
    def test_folder_that_cannot_be_written_to(
        self, mlx_handler: Any, make_context: Callable[..., Path], tmp_path: Path, place: str
    ) -> None:
        (tmp_path / "file").write_text("here already")
        folder = tmp_path / place
        result = generate_music(
            mlx_handler,
            None,
            GenerationParams(src_audio=str(make_context(1.0)), inference_steps=1, seed=1),
            GenerationConfig(use_random_seed=False),
            save_dir=folder,
        )
        assert isinstance(result.exception, OutputError)
        assert [(audio["path"], audio["tensor"].shape) for audio in result.audios] == [(None, (2, RATE))], (
            "the finished stem is handed out"
        )
        reason = {"file": "File exists", "file/below": "Not a directory"}[place]
        assert result.error == (
            f"the stem cannot be written below {folder} ({reason}); give a folder that can be written to"
        )
        assert (tmp_path / "file").read_text() == "here already"

    def test_write_that_fails_half_way_leaves_nothing(
        self, mlx_handler: Any, make_context: Callable[..., Path], tmp_path: Path, monkeypatch: Any
    ) -> None:
        def fail(path: bytes, *_: Any, **__: Any) -> None:
            Path(os.fsdecode(path)).write_bytes(b"RIFF")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(soundfile, "write", fail)
        result = generate_music(
            mlx_handler,
            None,
            GenerationParams(src_audio=str(make_context(1.0)), inference_steps=1, seed=1),
            GenerationConfig(use_random_seed=False),
            save_dir=tmp_path,
        )
        assert result.error == (
            f"the stem cannot be written below {tmp_path} (No space left on device); "
            "give a folder that can be written to"
        )
        assert list(tmp_path.iterdir()) == []


def test_progress_starts_and_ends(mlx_handler: Any, make_context: Callable[..., Path]) -> None:
    told: list[tuple[float, str]] = []
    generate_music(
        mlx_handler,
        None,
        GenerationParams(src_audio=str(make_context(1.0)), inference_steps=1),
        GenerationConfig(),
        progress=lambda fraction, desc: told.append((fraction, desc)),
    )
    assert told == [(0.0, "Reading and encoding the context"), (1.0, "Done")]


class TestProgress:
    """A callback that fails loses no finished work."""

    def run(self, handler: Any, context: Path, progress: Any) -> GenerationResult:
        params = GenerationParams(src_audio=str(context), inference_steps=1)
        return generate_music(handler, None, params, GenerationConfig(), progress=progress)

    def test_raises_before_the_run(self, mlx_handler: Any, make_context: Callable[..., Path]) -> None:
        result = self.run(mlx_handler, make_context(1.0), lambda *_, **__: 1 / 0)
        assert not result.success
        assert result.error == ("the progress callback failed (ZeroDivisionError('division by zero'))")

    def test_raises_after_the_run(self, mlx_handler: Any, make_context: Callable[..., Path]) -> None:
        def fail_at_the_end(fraction: float, desc: str) -> None:
            if fraction == 1.0:
                raise OSError("closed")

        result = self.run(mlx_handler, make_context(1.0), fail_at_the_end)
        assert result.success
        assert len(result.audios) == 1
        assert result.status_message.endswith("in 1 steps; the progress callback failed (OSError('closed'))")

    def test_takes_no_desc(self, mlx_handler: Any, make_context: Callable[..., Path]) -> None:
        told: list[float] = []
        assert self.run(mlx_handler, make_context(1.0), lambda fraction: told.append(fraction)).success
        assert told == [0.0, 1.0]


def test_unexpected_failure_is_a_sentence(
    mlx_handler: Any, make_context: Callable[..., Path], monkeypatch: Any
) -> None:
    def fail(*_: Any) -> None:
        raise IndexError("two\nlines")

    monkeypatch.setattr(mlx_handler.vae, "decode_latents", fail)
    params = GenerationParams(src_audio=str(make_context(1.0)), inference_steps=1)
    result = generate_music(mlx_handler, None, params, GenerationConfig())
    assert result.error == r"the request failed unexpectedly (IndexError('two\nlines')); nothing was saved"
    assert result.exception is not None
    assert isinstance(result.exception.__cause__, IndexError)


def test_result_says_what_was_asked(generate: Generate) -> None:
    audio = generate(inference_steps=2, caption="soft").audios[0]
    assert audio["params"]["inference_steps"] == 2
    assert audio["params"]["caption"] == "soft"


def test_time_costs_add_up(generate: Generate) -> None:
    costs = generate(inference_steps=4).extra_outputs["time_costs"]
    assert costs["dit_diffusion_time_cost"] / costs["dit_diffusion_per_step_time_cost"] == pytest.approx(4)
    assert (
        costs["dit_total_time_cost"] >= costs["dit_diffusion_time_cost"] + costs["dit_vae_decode_time_cost"]
    )
