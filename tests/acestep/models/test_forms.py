"""Every form that a checkpoint comes in is the same model: layout, number of files, precision on disk."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten

from acestep.handler import AceStepHandler
from acestep.inference import GenerationConfig, GenerationParams, generate_music
from acestep.models.checkpoint.config import read_config
from acestep.models.checkpoint.weights import diffusers_name, full_name, upstream_name
from tests.checkpoint_forms import (
    DIT,
    PARTS,
    UNPREFIXED,
    read_all,
    read_upstream,
    recast,
    split_into_shards,
    to_diffusers,
    to_upstream,
)
from tests.parity_helper import assert_equal, assert_near

BACKENDS = pytest.mark.parametrize("use_mlx_dit", [True, False], ids=["mlx", "torch"])
HALF_DTYPES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
SHAPES = pytest.mark.parametrize("shape", ["plain", "xl"])


def loaded(folder: Path, use_mlx_dit: bool) -> AceStepHandler:
    handler = AceStepHandler()
    message, ok = handler.initialize_service(
        folder.parent, str(folder), device="cpu", use_mlx_dit=use_mlx_dit
    )
    assert ok, message
    return handler


def all_weights(handler: Any) -> dict[str, torch.Tensor]:
    """Whatever a run computes with."""
    parts = {
        "vae": handler.vae.vae,
        "text": handler.text_encoder.encoder,
        "condition": handler.model.encoder,
        "decoder": handler.mlx_decoder.reference if handler.use_mlx_dit else handler.model.decoder,
    }
    weights = {"silence": torch.from_numpy(handler.model.silence_latent)}
    for name, part in parts.items():
        if handler.use_mlx_dit:
            tensors = {
                key: torch.from_numpy(np.array(value)) for key, value in tree_flatten(part.parameters())
            }
        else:
            tensors = part.state_dict()
        weights |= {f"{name}.{key}": value for key, value in tensors.items()}
    return weights


def latents(handler: AceStepHandler, context: Path) -> torch.Tensor:
    """Of 2 guided steps, from the WAV on."""
    params = GenerationParams(
        src_audio=str(context),
        instruction=handler.generate_instruction("lego", track_name="vocals"),
        lyrics="la la la",
        inference_steps=2,
        guidance_scale=7.0,
    )
    result = generate_music(handler, None, params, GenerationConfig(use_random_seed=False, seeds=[3]))
    assert result.success, result.error
    return torch.as_tensor(result.extra_outputs["target_latents"])


def upstream_shards(dit: Path, target: Path) -> Path:
    shutil.copytree(dit.parent, target)
    split_into_shards(target / DIT, 3)
    return target / DIT


def diffusers_shards(dit: Path, target: Path) -> Path:
    """The library's own shards, of every model."""
    folder = to_diffusers(dit, target, max_shard_size="50KB")
    for part in (*PARTS, "vae", "text_encoder"):
        assert len(list((folder / part).glob("*.safetensors"))) > 1
    return folder


FORMS: dict[str, Callable[[Path, Path], Path]] = {
    "upstream": lambda dit, target: Path(shutil.copytree(dit.parent, target)) / DIT,
    "upstream_shards": upstream_shards,
    "diffusers": to_diffusers,
    "diffusers_shards": diffusers_shards,
}


@pytest.fixture(scope="module")
def written(tiny_root: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """written(form, shape, *dtypes): the tiny checkpoint in a form, stored through the dtypes; not to be changed."""

    @cache
    def write(form: str, shape: str = "plain", *dtypes: torch.dtype) -> Path:
        root = tmp_path_factory.mktemp(form)
        folder = FORMS[form](tiny_root("base", shape) / "checkpoints" / DIT, root / "form")
        if dtypes:
            recast(root, *dtypes)
        return folder

    return write


@SHAPES
@pytest.mark.parametrize("form", ["upstream_shards", "diffusers", "diffusers_shards"])
def test_every_form_loads_the_weights_of_the_float32_single_file(
    written: Callable[..., Path], load_handler: Callable[..., Any], form: str, shape: str
) -> None:
    """On both backends, all parts, bit for bit."""
    folder = written(form, shape)
    for use_mlx_dit in (True, False):
        reference = load_handler(shape, use_mlx_dit)
        handler = loaded(folder, use_mlx_dit)
        assert handler.config == reference.config
        want, got = all_weights(reference), all_weights(handler)
        assert got.keys() == want.keys()
        for key, value in want.items():
            assert_equal(got[key], value, key)


@HALF_DTYPES
@pytest.mark.parametrize("form", ["upstream", "upstream_shards", "diffusers"])
def test_half_precision_on_disk_loads_its_rounded_values_as_float32(
    written: Callable[..., Path], load_handler: Callable[..., Any], form: str, dtype: torch.dtype
) -> None:
    """All parts, the silence latent too."""
    folder = written(form, "plain", dtype)
    for use_mlx_dit in (True, False):
        want, got = all_weights(load_handler("plain", use_mlx_dit)), all_weights(loaded(folder, use_mlx_dit))
        assert got.keys() == want.keys()
        for key, value in want.items():
            assert got[key].dtype == torch.float32
            if use_mlx_dit and key.startswith("vae."):  # weight norm is folded into what was rounded
                assert_near(got[key], value, largest=2**-7, what=key)
            else:
                assert_equal(got[key], value.to(dtype).float(), key)


@BACKENDS
def test_latents_from_shards_of_diffusers_layout_are_those_of_upstreams_single_file(
    written: Callable[..., Path],
    load_handler: Callable[..., Any],
    make_context: Callable[..., Path],
    use_mlx_dit: bool,
) -> None:
    """A context of 1 s is filled up with silence latents: these count too."""
    got = latents(loaded(written("diffusers_shards", "xl"), use_mlx_dit), make_context(1.0))
    assert_equal(got, latents(load_handler("xl", use_mlx_dit), make_context(1.0)), "latents")


@BACKENDS
def test_latents_from_half_precision_on_disk_are_those_of_a_float32_file_of_the_rounded_values(
    written: Callable[..., Path],
    load_handler: Callable[..., Any],
    make_context: Callable[..., Path],
    use_mlx_dit: bool,
) -> None:
    context = make_context(1.0)
    stored = loaded(written("diffusers", "plain", torch.bfloat16), use_mlx_dit)
    rounded = loaded(written("upstream", "plain", torch.bfloat16, torch.float32), use_mlx_dit)
    got = latents(stored, context)
    assert_equal(got, latents(rounded, context), "latents")
    assert not torch.equal(got, latents(load_handler("plain", use_mlx_dit), context)), "nothing was rounded"


class TestThereAndBack:
    """Conversion loses nothing, and converting what is converted changes nothing."""

    @pytest.fixture(scope="class", params=["plain", "xl"])
    @staticmethod
    def pair(
        request: pytest.FixtureRequest,
        tiny_root: Callable[..., Path],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> tuple[Path, Path]:
        """A checkpoint in both layouts."""
        dit = tiny_root("base", request.param) / "checkpoints" / DIT
        return dit, to_diffusers(dit, tmp_path_factory.mktemp("forms") / "pipeline")

    def test_upstream_to_diffusers_and_back(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        dit, folder = pair
        back = to_upstream(folder, tmp_path)
        before, after = read_upstream(dit), read_upstream(back)
        assert after.keys() == before.keys()
        for key, value in before.items():
            assert_equal(after[key], value, key)
        assert read_config(back) == read_config(dit)

    def test_diffusers_to_upstream_and_back(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        _, folder = pair
        back = to_diffusers(to_upstream(folder, tmp_path), tmp_path / "back")
        for part in (*PARTS, "vae", "text_encoder"):
            before, after = read_all(folder / part), read_all(back / part)
            assert after.keys() == before.keys()
            for key, value in before.items():
                assert_equal(after[key], value, f"{part}: {key}")
        assert read_config(back) == read_config(folder)

    def test_every_name_has_one_counterpart_and_stays_itself(self, pair: tuple[Path, Path]) -> None:
        dit, folder = pair
        names = set()
        for part, prefix in PARTS.items():
            for key in read_all(folder / part):
                assert diffusers_name(upstream_name(key)) == key
                assert diffusers_name(key) == key, "converted twice"
                name = full_name(key, prefix)
                assert full_name(name, "") == name, "converted twice"
                names.add(key if key in UNPREFIXED else name)
        assert names == read_upstream(dit).keys()

    def test_diffusers_itself_loads_what_is_converted(
        self, tiny_root: Callable[..., Path], tmp_path: Path
    ) -> None:
        """As published, with 10 minutes of silence, which is what the library's own loader asks for."""
        from diffusers import AceStepPipeline

        from acestep.models.pytorch.loading import load_condition_encoder, load_decoder

        shutil.copytree(tiny_root() / "checkpoints", tmp_path / "checkpoints")
        dit = tmp_path / "checkpoints" / DIT
        silence = torch.load(dit / "silence_latent.pt", weights_only=True)
        torch.save(silence.repeat(1, 1, 20), dit / "silence_latent.pt")
        folder = to_diffusers(dit, tmp_path / "pipeline")
        pipeline = AceStepPipeline.from_pretrained(folder, local_files_only=True)
        config = read_config(folder)
        for theirs, ours in (
            (pipeline.transformer, load_decoder(folder, config)),
            (pipeline.condition_encoder, load_condition_encoder(folder, config)),
        ):
            want = theirs.state_dict()
            got = ours.state_dict()
            assert got.keys() == want.keys()
            for key, value in want.items():
                assert_equal(got[key], value, key)
