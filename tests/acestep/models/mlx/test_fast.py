"""The fast decoder against the plain one, which is its reference, on every branch that the fast one has."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
import torch

from acestep.models.mlx import attention, dit_generate
from acestep.models.mlx.attention import KeysAndValues
from acestep.models.mlx.cpu_math import power_of_two
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
from acestep.models.mlx.rope import sliding_window_mask
from tests.fork_helper import CountingDecoder, random_conditions
from tests.loop_helper import by_mlx, by_torch
from tests.parity_helper import assert_equal, assert_near

BOUND = 5e-6  # max |a - b| / max |b|
WINDOW = 16  # patches, of 2 frames
SCHEDULE = [1.0, 0.7, 0.3]


def evaluate(
    decoder: Any, c: Any, t: float, cache: MLXCrossAttentionCache | None, guided: bool = False
) -> mx.array:
    states, context, x = (mx.array(tensor.numpy()) for tensor in (c.states, c.context, c.noise))
    if guided:
        null = mx.broadcast_to(mx.array(c.null.numpy()), states.shape)
        states, context, x = (
            mx.concatenate([states, null]),
            mx.concatenate([context] * 2),
            mx.concatenate([x] * 2),
        )
    timestep = mx.full((len(x),), t)
    velocity, given_back = decoder(
        hidden_states=x,
        timestep=timestep,
        timestep_r=timestep,
        encoder_hidden_states=states,
        context_latents=context,
        cache=cache,
        use_cache=cache is not None,
    )
    assert given_back is cache
    return velocity


def assert_fast_is_plain(plain: MLXDiTDecoder, c: Any, guided: bool) -> None:
    run = MLXCrossAttentionCache(SCHEDULE, guided)
    for t in SCHEDULE:
        fast = evaluate(MLXFastDecoder(plain), c, t, run, guided)
        assert_near(fast, evaluate(plain, c, t, None, guided), largest=BOUND, what=f"velocity at t = {t}")
    assert run.prepared is not None, "the plain decoder answered for the fast one"


@pytest.mark.parametrize("guided", [False, True], ids=["alone", "guided"])
@pytest.mark.parametrize(
    "frames",
    [1, 2, 3, *(2 * (k * WINDOW + d) for k in (1, 2, 3, 5) for d in (-1, 0, 1)), 2 * WINDOW + 3, 163],
    ids="{}_frames".format,
)
def test_lengths_about_the_window(pair: SimpleNamespace, frames: int, guided: bool) -> None:
    assert_fast_is_plain(pair.mlx, random_conditions(pair.config, 1, frames), guided)


@pytest.mark.parametrize("guided", [False, True], ids=["alone", "guided"])
@pytest.mark.parametrize("batch", [2, 3, 4], ids="batch_{}".format)
def test_batches(pair: SimpleNamespace, batch: int, guided: bool) -> None:
    assert_fast_is_plain(pair.mlx, random_conditions(pair.config, batch, 75), guided)


@pytest.mark.parametrize(
    ("length", "guided"), [(1, True), (2, True), (500, True), (2000, False)], ids="{}_states".format
)
def test_encoder_lengths(pair: SimpleNamespace, length: int, guided: bool) -> None:
    assert_fast_is_plain(pair.mlx, random_conditions(pair.config, 2, 21, length), guided)


def test_2000_null_states_are_summed_with_less_rounding_than_one_by_one(pair: SimpleNamespace) -> None:
    """The plain decoder, adding 2,000 equal values up, is itself off by more than the bound: float64 judges."""
    c = random_conditions(pair.config, 2, 21, 2000)
    run = MLXCrossAttentionCache(SCHEDULE, guided=True)
    fast = evaluate(MLXFastDecoder(pair.mlx), c, 0.7, run, guided=True)[2:]
    exact = deepcopy(pair.torch).double()
    timestep = torch.full((2,), 0.7, dtype=torch.float32).double()
    with torch.inference_mode():
        velocity = exact(
            hidden_states=c.noise.double(),
            timestep=timestep,
            timestep_r=timestep,
            encoder_hidden_states=c.null.double().expand_as(c.states),
            context_latents=c.context.double(),
        ).sample
    assert_near(fast, velocity.float(), largest=BOUND / 2, what="velocity of uncond")


class TestLoop:
    """The loop on the fast decoder, behind a wrapper that counts, against AceStepPipeline."""

    @pytest.mark.parametrize(
        ("batch", "frames", "options"),
        [
            pytest.param(2, 75, {"guidance_scale": 7.0}, id="guided_batch_2"),
            pytest.param(1, 131, {"guidance_scale": 1.0}, id="alone_five_seconds"),
            pytest.param(
                1,
                35,
                {"guidance_scale": 7.0, "cfg_interval_start": 0.3, "cfg_interval_end": 0.8},
                id="guided_in_an_interval",
            ),
            pytest.param(
                1,
                35,
                {"guidance_scale": 4.0, "timesteps": [1.0, 0.7, 0.7, 0.41, 0.013]},
                id="custom_timesteps",
            ),
        ],
    )
    def test_latents_equal_pytorchs(
        self, pair: SimpleNamespace, monkeypatch: Any, batch: int, frames: int, options: dict[str, Any]
    ) -> None:
        c = random_conditions(pair.config, batch, frames)
        monkeypatch.setattr(dit_generate, "draw_noise", lambda _seed, _shape: mx.array(c.noise.numpy()))
        reference_calls: list[Any] = []
        fast = MLXFastDecoder(pair.mlx)
        monkeypatch.setattr(fast, "reference", WithoutCalls(pair.mlx, reference_calls))
        decoder = CountingDecoder(fast)
        ours = by_mlx(decoder, c, shift=2.4, infer_steps=27, is_turbo=False, **options)
        theirs = by_torch(pair.torch, c, shift=2.4, infer_steps=27, **options)
        assert decoder.evaluations == len(options.get("timesteps", range(27)))
        assert reference_calls == []
        assert_near(ours["target_latents"], theirs.latents, l2=2e-6, what="latents")

    def test_a_loaded_handler_has_it(self, mlx_handler: Any) -> None:
        assert isinstance(mlx_handler.mlx_decoder, MLXFastDecoder)


class WithoutCalls:
    """The plain decoder's parts, for who needs parts; calls are noted, which none should be."""

    def __init__(self, plain: MLXDiTDecoder, calls: list[Any]) -> None:
        self._plain, self._calls = plain, calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def __call__(self, *inputs: Any) -> Any:
        self._calls.append(inputs)
        return self._plain(*inputs)


class TestWithoutARun:
    """What the fast decoder was not prepared for, the plain one answers."""

    def test_no_cache(self, pair: SimpleNamespace) -> None:
        c = random_conditions(pair.config, 2, 35)
        assert_equal(evaluate(MLXFastDecoder(pair.mlx), c, 0.7, None), evaluate(pair.mlx, c, 0.7, None))

    def test_cache_that_knows_no_timesteps(self, pair: SimpleNamespace) -> None:
        c, cache = random_conditions(pair.config, 2, 35), MLXCrossAttentionCache()
        assert_equal(evaluate(MLXFastDecoder(pair.mlx), c, 0.7, cache), evaluate(pair.mlx, c, 0.7, None))
        assert cache.prepared is None

    def test_t_that_the_run_does_not_have(self, pair: SimpleNamespace) -> None:
        c = random_conditions(pair.config, 1, 35)
        fast = evaluate(
            MLXFastDecoder(pair.mlx), c, 0.55, MLXCrossAttentionCache(SCHEDULE, True), guided=True
        )
        assert_equal(fast, evaluate(pair.mlx, c, 0.55, None, guided=True))


def test_a_second_evaluation_reads_what_the_first_prepared(pair: SimpleNamespace) -> None:
    c = random_conditions(pair.config, 1, 35)
    run, fast = MLXCrossAttentionCache(SCHEDULE, guided=True), MLXFastDecoder(pair.mlx)
    first = evaluate(fast, c, 0.7, run, guided=True)
    c.states, c.null = torch.zeros_like(c.states), torch.zeros_like(c.null)
    assert_equal(evaluate(fast, c, 0.7, run, guided=True), first)


def test_other_threads_may_run_it(pair: SimpleNamespace) -> None:
    """Streams belong to threads: one that is kept from the first would fail in the second."""
    c = random_conditions(pair.config, 1, 35)
    fast = MLXFastDecoder(pair.mlx)

    def velocity(_: int) -> Any:
        return evaluate(fast, c, 0.7, MLXCrossAttentionCache(SCHEDULE, True), guided=True).tolist()

    here = velocity(0)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        assert [*one.map(velocity, range(2)), *other.map(velocity, range(2))] == [here] * 4


class TestScores:
    """What the attention holds at once on the CPU."""

    @pytest.fixture
    def scores(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows by the number of scores of each block, of all its heads."""
        seen: list[int] = []

        def noting(scores: mx.array) -> mx.array:
            seen.append(scores.size)
            return power_of_two(scores)

        monkeypatch.setattr(attention, "power_of_two", noting)
        return seen

    def random(self, length: int) -> tuple[mx.array, KeysAndValues]:
        queries, keys, values = (
            mx.random.normal((2, heads, length, 16), key=mx.random.key(heads)) for heads in (4, 2, 2)
        )
        return queries, KeysAndValues(keys, values)

    def of_mlx(self, queries: mx.array, pair: KeysAndValues, mask: mx.array | None = None) -> mx.array:
        """mlx's own attention, all scores at once."""
        mixed = mx.fast.scaled_dot_product_attention(queries, *pair[:2], scale=0.25, mask=mask)
        return mixed.swapaxes(1, 2).flatten(2, 3)

    @pytest.mark.parametrize("length", [1, 30, 31, 64], ids="{}_queries".format)
    @pytest.mark.parametrize("heads_at_once", [1 / 4, 1, 2], ids="{}_groups".format)
    def test_blocks_stay_within_the_bound(
        self, scores: list[int], monkeypatch: pytest.MonkeyPatch, length: int, heads_at_once: float
    ) -> None:
        bound = max(2 * length, int(heads_at_once * 2 * length * length))
        monkeypatch.setattr(attention, "BLOCK_VALUES", bound)
        monkeypatch.setattr(attention, "BLOCK_QUERIES", 1)
        inputs = self.random(length)
        assert_near(attention.attend(*inputs), self.of_mlx(*inputs), largest=2e-6)
        assert max(scores) <= bound
        assert sum(scores) == 8 * length * length

    @pytest.mark.parametrize("kind", ["bool", "added"])
    def test_mask_in_blocks(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        """One query has all its keys masked: it attends to all of them alike."""
        monkeypatch.setattr(attention, "BLOCK_VALUES", 100)
        monkeypatch.setattr(attention, "BLOCK_QUERIES", 3)
        queries, pair = self.random(20)
        there = mx.random.bernoulli(0.5, (2, 1, 20, 20), key=mx.random.key(7))
        there[1, 0, 3] = False
        mask = there if kind == "bool" else mx.where(there, 0.0, attention.MASKED)
        got = attention.attend(queries, pair, mask)
        assert_near(got, self.of_mlx(queries, pair, mask), largest=2e-6)
        assert_near(got[1, 3, :16], pair.values[1, 0].mean(axis=0), largest=2e-6)

    def test_one_query_is_the_smallest_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention, "BLOCK_VALUES", 1)
        monkeypatch.setattr(attention, "BLOCK_QUERIES", 1)
        inputs = self.random(9)
        assert_near(attention.attend(*inputs), self.of_mlx(*inputs), largest=2e-6)

    def test_window_layers_grow_with_the_length_not_with_its_square(self, scores: list[int]) -> None:
        seen = []
        for length in (1024, 4096):
            attention.attend(*self.random(length), window=32)
            seen.append(sum(scores))
            scores.clear()
        assert 8 * 1024 * 65 < seen[0] < 8 * 1024 * 96
        assert seen[1] < 4.1 * seen[0]

    @pytest.mark.parametrize("length", [18, 31, 32, 33, 100], ids="{}_queries".format)
    @pytest.mark.parametrize("place", ["cpu", "gpu"])
    def test_window_is_the_mask(self, monkeypatch: pytest.MonkeyPatch, length: int, place: str) -> None:
        """As a GPU is given it, and as the CPU computes it, in blocks as those of a long context."""
        monkeypatch.setattr(attention, "is_on_cpu", lambda: place == "cpu")
        monkeypatch.setattr(attention, "BLOCK_VALUES", 1)
        inputs = self.random(length)
        want = self.of_mlx(*inputs, sliding_window_mask(length, 16))
        assert_near(attention.attend(*inputs, window=16), want, largest=2e-6)

    @pytest.mark.parametrize("place", ["cpu", "gpu"])
    def test_no_mask_where_the_window_reaches_all(self, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
        monkeypatch.setattr(attention, "is_on_cpu", lambda: place == "cpu")
        inputs = self.random(17)
        assert mx.array_equal(attention.attend(*inputs, window=16), attention.attend(*inputs))
