"""The MLX VAE against diffusers' AutoencoderOobleck on the same random weights."""

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckDecoderBlock, OobleckEncoderBlock
from mlx.utils import tree_flatten

from acestep.models.checkpoint.config import read_config
from acestep.models.mlx import vae_model
from acestep.models.mlx.tiling import CACHE_LIMIT, in_tiles, limited_cache, round_up
from acestep.models.mlx.vae_convert import load_layers, load_mlx_vae
from acestep.models.mlx.vae_cpu import BLOCK, WIDE, Function, function, tile_threads, tiled
from acestep.models.mlx.vae_layers import KERNEL, Conv1d, DownsamplingConv1d, UpsamplingConv1d
from acestep.models.mlx.vae_model import MLXAutoencoderOobleck, Stage, VAEConfig
from tests.parity_helper import assert_equal, assert_near

FRAMES = 23
RATIOS = {"even": (2, 4, 6), "odd": (3, 2, 5)}


def random_weights(module: torch.nn.Module, seed: int = 0) -> dict[str, mx.array]:
    """Fills a module of diffusers with random weights, biases, alphas and betas, and returns them for MLX."""
    draw = torch.Generator().manual_seed(seed)
    for key, value in module.state_dict().items():
        # The norm of a filter as PyTorch's own initialization has it.
        mean, size = (3**-0.5, 0.1) if key.endswith("weight_g") else (0.0, 0.3)
        value.copy_(mean + size * torch.randn(value.shape, generator=draw))
    return {key: mx.array(value.numpy()) for key, value in module.state_dict().items()}


def make_pair(ratios: tuple[int, ...]) -> tuple[MLXAutoencoderOobleck, AutoencoderOobleck]:
    config: dict[str, Any] = {
        "encoder_hidden_size": 8,
        "downsampling_ratios": ratios,
        "channel_multiples": (1, 2, 3),
        "decoder_channels": 6,
        "decoder_input_channels": 4,
        "audio_channels": 2,
        "sampling_rate": 48_000,
    }
    reference = AutoencoderOobleck(**{k: list(v) if isinstance(v, tuple) else v for k, v in config.items()})
    reference.requires_grad_(False)
    vae = MLXAutoencoderOobleck(VAEConfig(**config))
    load_layers(vae, random_weights(reference), "random weights")
    return vae, reference


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[MLXAutoencoderOobleck, AutoencoderOobleck]]:
    return {name: make_pair(ratios) for name, ratios in RATIOS.items()}


@pytest.fixture(params=RATIOS)
def pair(request: pytest.FixtureRequest, pairs: Any) -> tuple[MLXAutoencoderOobleck, AutoencoderOobleck]:
    return pairs[request.param]


@pytest.fixture(params=["numpy", "mlx"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """numpy computes the layers, as on the CPU, or mlx, as on a GPU."""
    monkeypatch.setattr(vae_model, "is_on_cpu", lambda: request.param == "numpy")
    return str(request.param)


def to_mlx(x: torch.Tensor) -> mx.array:
    """[batch, channels, length] -> [batch, length, channels]"""
    return mx.array(x.transpose(1, 2).numpy())


def to_torch(x: mx.array) -> torch.Tensor:
    """[batch, length, channels] -> [batch, channels, length]"""
    return torch.from_numpy(np.array(x)).transpose(1, 2)


def draw_audio(vae: MLXAutoencoderOobleck, batch: int = 2, extra: int = 0) -> torch.Tensor:
    samples = FRAMES * vae.config.hop_length + extra
    return torch.rand(batch, 2, samples, generator=torch.Generator().manual_seed(1)) - 0.5


def draw_latents(batch: int = 2, frames: int = FRAMES) -> torch.Tensor:
    return torch.randn(batch, 4, frames, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("extra", [0, 7], ids=["whole frames", "part of a frame"])
@pytest.mark.usefixtures("backend")
def test_encode_is_diffusers(pair: Any, extra: int) -> None:
    vae, reference = pair
    audio = draw_audio(vae, extra=extra)
    mean, std = vae.encode(to_mlx(audio))
    want = reference.encode(audio).latent_dist
    assert_near(to_torch(mean), want.mean, largest=1e-5, what="mean")
    assert_near(to_torch(std), want.std, largest=1e-5, what="standard deviation")


@pytest.mark.usefixtures("backend")
def test_decode_is_diffusers(pair: Any) -> None:
    vae, reference = pair
    latents = draw_latents()
    assert_near(to_torch(vae.decode(to_mlx(latents))), reference.decode(latents).sample, largest=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_block_of_real_width_is_diffusers(kind: str, backend: str) -> None:
    """The blocks of the published VAE between 512 and 1024 channels."""
    if kind == "encoder":
        reference, ours = OobleckEncoderBlock(512, 1024, 6), vae_model.OobleckEncoderBlock(512, 1024, 6)
    else:
        reference, ours = OobleckDecoderBlock(1024, 512, 6), vae_model.OobleckDecoderBlock(1024, 512, 6)
    reference.requires_grad_(False)
    load_layers(ours, random_weights(reference), "random weights")
    length = 18 if kind == "encoder" else 10
    x = torch.randn(1, reference.snake1.alpha.shape[1], length, generator=torch.Generator().manual_seed(3))
    y = to_mlx(x)
    if backend == "numpy":
        y = mx.array(by_numpy(ours.layers(), np.array(y[0]))[None])
    else:
        for layer in ours.layers():
            y = layer(y)
    assert_near(to_torch(y), reference(x), largest=1e-5)


def by_numpy(layers: Any, x: np.ndarray, start: int = 0) -> np.ndarray:
    """The layers of x [length, channels], from position `start` of the whole input on."""
    with tile_threads() as pool:
        return function(layers, pool)(x, start)


def random_layer(layer: Any) -> Any:
    """With weights that keep the size of their input, about."""
    for name, value in tree_flatten(layer.parameters()):
        scale = 0.3 if value.ndim == 1 else (value.size / value.shape[-1]) ** -0.5
        value = scale * mx.random.normal(value.shape, key=mx.random.key(len(name)))
        layer.load_weights([(name, value)], strict=False)
    return layer


def conv_in_float64(layer: Conv1d, x: np.ndarray) -> np.ndarray:
    """`layer` of x [length, inputs]: a product for each position of the kernel."""
    weight = np.array(layer.weight, np.float64)
    padded = np.pad(x.astype(np.float64), [(layer.padding, layer.padding), (0, 0)])
    products = [padded[i * layer.dilation :][: len(x)] @ matrix for i, matrix in enumerate(weight)]
    return np.array(np.sum(products, axis=0) + np.array(layer.bias))


@pytest.mark.parametrize("start", [0, 37])
@pytest.mark.parametrize("length", [1, 5, 71, 72, 100])
@pytest.mark.parametrize("dilation", vae_model.DILATIONS)
def test_wide_conv(length: int, dilation: int, start: int) -> None:
    """Where numpy computes outputs together: at every rest of a group, and shorter than the kernel reaches."""
    layer = random_layer(Conv1d(WIDE, WIDE, KERNEL, dilation))
    x = np.array(mx.random.normal((length, WIDE), key=mx.random.key(length)))
    assert_near(by_numpy([layer], x, start), conv_in_float64(layer, x), largest=2e-6)


@pytest.mark.parametrize(("inputs", "dilation"), [(4, 1), (4, 9), (WIDE, 1), (WIDE, 9)])
def test_conv_of_several_blocks(inputs: int, dilation: int) -> None:
    layer = random_layer(Conv1d(inputs, inputs, KERNEL, dilation))
    x = np.array(mx.random.normal((2 * BLOCK + 5, inputs), key=mx.random.key(0)))
    assert_near(by_numpy([layer], x, 3), conv_in_float64(layer, x), largest=2e-6)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 10])
@pytest.mark.parametrize("stride", [2, 3, 10])
@pytest.mark.parametrize("kind", [DownsamplingConv1d, UpsamplingConv1d])
def test_conv_that_changes_the_rate_is_mlx_conv(kind: Any, stride: int, length: int, start: int) -> None:
    layer = random_layer(kind(4, 6, stride))
    if kind is DownsamplingConv1d:
        length, start = length * stride, start * stride
    x = mx.random.normal((1, length, 4), key=mx.random.key(length))
    assert_near(by_numpy([layer], np.array(x[0]), start), np.array(layer(x)[0]), largest=2e-6)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_tiles_of_wide_blocks_compute_what_the_whole_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a tile starts, also one within a tile: the outputs that are computed together are those of the whole."""
    blocks = [
        random_layer(getattr(vae_model, f"Oobleck{kind.capitalize()}Block")(WIDE, WIDE, stride))
        for stride in (3, 5)
    ]
    stages = [Stage(block.layers(), WIDE) for block in blocks]
    length, frame, ratio = (6000, 15, Fraction(1, 15)) if kind == "encoder" else (600, 1, Fraction(15))
    x = mx.random.normal((1, length, WIDE), key=mx.random.key(1))
    overlap = round_up(stages[0].margin(stages[1].margin(0)), frame)
    whole = vae_model.run_on_cpu(stages, x, length, overlap, ratio)
    starts: list[int] = []
    # Shorter tiles would reach matmuls that OpenBLAS sums in another order because they are small.
    monkeypatch.setattr(vae_model, "CPU_TILE_VALUES", 151 * WIDE)
    monkeypatch.setattr(vae_model, "function", noting_starts(starts))
    tiles = vae_model.run_on_cpu(stages, x, length // 4 // frame * frame, overlap, ratio)
    assert len({start % 16 for start in starts}) > 3
    assert_near(tiles, whole, largest=2e-7)


def noting_starts(starts: list[int]) -> Callable[..., Function]:
    """`function`, whose functions note the positions at which their inputs start."""

    def noting(layers: Any, pool: ThreadPoolExecutor) -> Function:
        run = function(layers, pool)

        def run_noting(x: np.ndarray, start: int) -> np.ndarray:
            starts.append(start)
            return run(x, start)

        return run_noting

    return noting


@pytest.mark.usefixtures("backend")
def test_tiled_is_whole(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, _ = pair
    audio, latents = to_mlx(draw_audio(vae)), to_mlx(draw_latents(frames=60))
    (mean, std), decoded = vae.encode(audio), vae.decode(latents)
    monkeypatch.setattr(vae_model, "TILE_FRAMES", 5)
    monkeypatch.setattr(vae_model, "CPU_TILE_FRAMES", 5)
    monkeypatch.setattr(vae_model, "CPU_TILE_VALUES", 1024)
    tiled_mean, tiled_std = vae.encode(audio)
    assert_near(tiled_mean, mean, largest=1e-6, what="mean")
    assert_near(tiled_std, std, largest=1e-6, what="standard deviation")
    assert_near(vae.decode(latents), decoded, largest=1e-6, what="audio")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_margin_is_the_receptive_field(pair: Any, kind: str) -> None:
    """An input that is one position further away than the margin has no effect; one within it has."""
    for stage in getattr(pair[0], kind).stages():
        margin, x = stage.margin(0), mx.random.normal((1, 160, first_width(stage)), key=mx.random.key(0))
        want, center = run(stage, x), 80 // stage.ratio.denominator * stage.ratio.denominator
        kept = slice(int(center * stage.ratio), int((center + stage.ratio.denominator) * stage.ratio))
        reach = [
            distance
            for distance in range(1, margin + 4)
            if changes(stage, x, center - distance, kept, want)
            or changes(stage, x, center + stage.ratio.denominator - 1 + distance, kept, want)
        ]
        assert max(reach) == margin


def first_width(stage: Stage) -> int:
    first: Any = stage.layers[0]
    if hasattr(first, "weight"):
        return int(first.weight.shape[1])
    return int((first.snake1 if hasattr(first, "snake1") else first).alpha.size)


def run(stage: Stage, x: mx.array) -> mx.array:
    for layer in stage.layers:
        x = layer(x)
    return x


def changes(stage: Stage, x: mx.array, at: int, kept: slice, want: mx.array) -> bool:
    """Whether the outputs `kept` depend on the input at a position."""
    other = mx.concatenate([x[:, :at], x[:, at : at + 1] + 100.0, x[:, at + 1 :]], axis=1)
    return not np.array_equal(np.array(run(stage, other))[:, kept], np.array(want)[:, kept])


@pytest.mark.slow
def test_memory_is_bounded_by_the_tile(pairs: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, _ = pairs["even"]
    monkeypatch.setattr(vae_model, "TILE_FRAMES", 16)
    monkeypatch.setattr(vae_model, "CPU_TILE_FRAMES", 16)

    def peak(frames: int) -> int:
        latents = to_mlx(draw_latents(1, frames))
        mx.reset_peak_memory()
        tracemalloc.start()
        before, output = mx.get_active_memory(), vae.decode(latents)
        by_numpy = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # the output's tiles and, once more, in one piece
        return int(
            mx.get_peak_memory() - before + by_numpy - (3 if backend == "numpy" else 2) * output.nbytes
        )

    # mlx frees in another thread: on a busy machine one measurement in several is too high, never too low.
    short = min(peak(96) for _ in range(3))
    assert any(peak(384) < 1.2 * short for _ in range(5))


def test_items_of_a_batch_are_independent(pairs: Any) -> None:
    vae, _ = pairs["even"]
    latents = to_mlx(draw_latents(batch=3))
    assert_equal(vae.decode(latents)[1:2], vae.decode(latents[1:2]))


def test_cache_is_limited_and_given_back() -> None:
    before = mx.set_cache_limit(12_345)
    try:
        with limited_cache():
            assert mx.set_cache_limit(CACHE_LIMIT) == CACHE_LIMIT
        assert mx.set_cache_limit(12_345) == 12_345
    finally:
        mx.set_cache_limit(before)


def test_checkpoint_in_place(tiny_root: Callable[..., Path]) -> None:
    """Config and weights as a checkpoint has them, through both loaders."""
    root = tiny_root() / "checkpoints"
    vae = load_mlx_vae(root / "vae", read_config(root / "acestep-v15-base"))
    reference = AutoencoderOobleck.from_pretrained(root / "vae").requires_grad_(False)
    assert vae.config.hop_length == 1920
    latents = torch.randn(1, 8, 9, generator=torch.Generator().manual_seed(4))
    assert_near(to_torch(vae.decode(to_mlx(latents))), reference.decode(latents).sample, largest=1e-5)


def test_tiles_cover_what_is_left_over() -> None:
    x = mx.arange(23.0).reshape(1, 23, 1)
    pieces: list[int] = []

    def double(tile: mx.array) -> mx.array:
        pieces.append(tile.shape[1])
        return mx.repeat(tile, 2, axis=1)

    assert_equal(in_tiles(double, x, 5, 2, Fraction(2)), mx.repeat(x, 2, axis=1))
    assert max(pieces) == 9, "no tile is larger than its overlaps make it"


@pytest.mark.parametrize(("overlap", "calls"), [(2, 2), (6, 1)])
def test_a_short_input_has_a_tile_for_each_thread_unless_it_is_overlap_for_the_most(
    overlap: int, calls: int
) -> None:
    x, starts = np.arange(20.0)[:, None], []

    def same(tile: np.ndarray, start: int) -> np.ndarray:
        starts.append(start)
        return tile

    with ThreadPoolExecutor(2) as pool:
        assert_equal(tiled(same, x, 0, 100, overlap, Fraction(1), pool), x)
    assert len(starts) == calls


def test_each_matmul_runs_on_one_thread_while_tiles_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    library = SimpleNamespace(scipy_openblas_set_num_threads64_=threads.append)
    monkeypatch.setattr("acestep.models.mlx.vae_cpu.numpy_openblas", lambda: (library, 2))
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    with tile_threads() as pool:
        assert pool._max_workers == 2
        assert threads == [1]
    assert threads == [1, 2], "numpy's own number of threads is put back"


def test_tiles_take_turns_where_the_threads_of_numpy_cannot_be_set(
    pairs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, _ = pairs["even"]
    latents = to_mlx(draw_latents())
    want = vae.decode(latents)
    monkeypatch.setattr("acestep.models.mlx.vae_cpu.numpy_openblas", lambda: None)
    assert_near(vae.decode(latents), want, largest=1e-6)
