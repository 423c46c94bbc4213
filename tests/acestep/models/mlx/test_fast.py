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
from acestep.models.mlx.dit_fast import MLXFastDecoder
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
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
    """What the attention holds at once, seen at the operation."""

    @pytest.fixture
    def scores(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows by the number of scores of each attention: queries x keys, of all heads."""
        seen: list[int] = []
        original = attention.attend

        def noting(queries: mx.array, keys_and_values: KeysAndValues, *rest: Any) -> mx.array:
            seen.append(queries.size // queries.shape[-1] * keys_and_values.keys.shape[2])
            return original(queries, keys_and_values, *rest)

        monkeypatch.setattr(attention, "attend", noting)
        return seen

    def random(self, length: int) -> tuple[mx.array, KeysAndValues]:
        queries, keys, values = (
            mx.random.normal((2, heads, length, 16), key=mx.random.key(heads)) for heads in (4, 2, 2)
        )
        return queries, KeysAndValues(keys, values)

    @pytest.mark.parametrize("length", [1, 30, 31, 64], ids="{}_queries".format)
    def test_blocks_of_queries_stay_within_the_bound(
        self, scores: list[int], monkeypatch: pytest.MonkeyPatch, length: int
    ) -> None:
        whole = attention.attend(*self.random(length))
        scores.clear()
        monkeypatch.setattr(attention, "CPU_SCORES", 8 * 7 * length)
        assert_near(attention.attend_in_blocks(*self.random(length)), whole, largest=1e-6)
        assert max(scores) <= 8 * 7 * length
        assert sum(scores) == 8 * length * length

    def test_one_query_is_the_smallest_block(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attention, "CPU_SCORES", 1)
        inputs = self.random(9)
        assert_near(attention.attend_in_blocks(*inputs), attention.attend(*inputs), largest=1e-6)

    def test_window_layers_grow_with_the_length_not_with_its_square(self, scores: list[int]) -> None:
        for length in (1024, 4096):
            attention.attend_in_window(*self.random(length), 32)
        assert scores == [8 * 1024 * 96, 8 * 4096 * 96]

    def test_no_mask_where_the_window_reaches_all(self, scores: list[int]) -> None:
        attention.attend_in_window(*self.random(17), 16)
        assert scores == [8 * 17 * 17]
