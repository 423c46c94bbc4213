"""The MLX decoder against diffusers' on the same weights: whole, and stage by stage."""

from dataclasses import replace
from inspect import signature
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from acestep.models.checkpoint.weights import upstream_name
from acestep.models.mlx.dit_convert import convert_decoder_weights
from acestep.models.mlx.dit_model import MLXCrossAttentionCache, MLXDiTDecoder
from acestep.models.mlx.loading import load_strictly
from tests.fork_helper import Conditions, random_conditions
from tests.parity_helper import assert_equal, assert_near

BOUND = 1e-5  # max |a - b| / max |b|
WINDOW_FRAMES = 32  # the tiny window: 16 patches


def inputs(c: Conditions, t: Any, r: Any = None) -> dict[str, torch.Tensor]:
    timestep = torch.as_tensor(t, dtype=torch.float32).expand(len(c.noise)).contiguous()
    return {
        "hidden_states": c.noise,
        "timestep": timestep,
        "timestep_r": timestep if r is None else torch.as_tensor(r, dtype=torch.float32).expand(len(c.noise)),
        "encoder_hidden_states": c.states,
        "context_latents": c.context,
    }


def by_mlx(decoder: Any, tensors: dict[str, torch.Tensor], **cache: Any) -> mx.array:
    velocity, _ = decoder(**{name: mx.array(tensor.numpy()) for name, tensor in tensors.items()}, **cache)
    return velocity


@torch.inference_mode()
def by_torch(decoder: Any, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return decoder(**tensors).sample


@pytest.mark.parametrize(
    ("batch", "frames", "length"),
    [
        pytest.param(1, 1, 13, id="one_frame"),
        pytest.param(1, 2, 1, id="one_patch_one_state"),
        pytest.param(1, WINDOW_FRAMES, 13, id="as_long_as_the_window"),
        pytest.param(1, WINDOW_FRAMES + 3, 13, id="just_above_the_window_odd"),
        pytest.param(2, 75, 7, id="batch_2_above_the_window_odd"),
        pytest.param(2, 250, 1, id="batch_2_ten_seconds_one_state"),
        pytest.param(3, 50, 190, id="batch_3_more_states_than_patches"),
    ],
)
def test_evaluation_equals_pytorchs(pair: SimpleNamespace, batch: int, frames: int, length: int) -> None:
    tensors = inputs(random_conditions(pair.config, batch, frames, length), 0.7)
    assert_near(by_mlx(pair.mlx, tensors), by_torch(pair.torch, tensors), largest=BOUND, what="velocity")


@pytest.mark.parametrize("t", [1.0, 0.5, 0.02, 0.001], ids="t_{:g}".format)
def test_evaluation_equals_pytorchs_at_every_t(pair: SimpleNamespace, t: float) -> None:
    tensors = inputs(random_conditions(pair.config, 1, 75), t)
    assert_near(by_mlx(pair.mlx, tensors), by_torch(pair.torch, tensors), largest=BOUND, what="velocity")


def test_items_of_a_batch_may_have_their_own_t_and_r(pair: SimpleNamespace) -> None:
    tensors = inputs(random_conditions(pair.config, 2, 20), [0.9, 0.3], [0.4, 0.3])
    assert_near(by_mlx(pair.mlx, tensors), by_torch(pair.torch, tensors), largest=BOUND, what="velocity")


def test_full_layers_hear_beyond_the_window(pair: SimpleNamespace) -> None:
    """Parity on lengths above the window means something: with every layer sliding, the velocity is another."""
    config = pair.config
    tensors = inputs(random_conditions(config, 1, 75), 0.7)
    all_sliding = MLXDiTDecoder.from_config(replace(config, layer_types=("sliding_attention",) * 3))
    all_sliding.update(pair.mlx.parameters())
    assert np.abs(np.array(by_mlx(all_sliding, tensors) - by_mlx(pair.mlx, tensors))).max() > 1e-3


def test_lengths_in_any_order_give_the_same(pair: SimpleNamespace) -> None:
    """Tables are kept from call to call: those of one length must not serve another."""
    short, long = (inputs(random_conditions(pair.config, 1, frames), 0.7) for frames in (20, 75))
    first = by_mlx(pair.mlx, short)
    by_mlx(pair.mlx, long)
    assert_equal(by_mlx(pair.mlx, short), first)


class TestCache:
    """The encoder states' keys and values, kept from step to step."""

    def test_cached_evaluations_equal_uncached_ones(self, pair: SimpleNamespace) -> None:
        cache = MLXCrossAttentionCache()
        c = random_conditions(pair.config, 2, 21)
        for t in (0.9, 0.5):
            tensors = inputs(c, t)
            cached = by_mlx(pair.mlx, tensors, cache=cache, use_cache=True)
            assert_equal(cached, by_mlx(pair.mlx, tensors), f"velocity at t = {t}")

    def test_second_evaluation_reads_the_cache(self, pair: SimpleNamespace) -> None:
        cache = MLXCrossAttentionCache()
        tensors = inputs(random_conditions(pair.config, 1, 21), 0.9)
        first = by_mlx(pair.mlx, tensors, cache=cache, use_cache=True)
        others = {**tensors, "encoder_hidden_states": torch.zeros_like(tensors["encoder_hidden_states"])}
        assert_equal(by_mlx(pair.mlx, others, cache=cache, use_cache=True), first)

    def test_cache_is_left_alone_where_it_is_not_to_be_used(self, pair: SimpleNamespace) -> None:
        cache = MLXCrossAttentionCache()
        by_mlx(pair.mlx, inputs(random_conditions(pair.config, 1, 21), 0.9), cache=cache, use_cache=False)
        assert cache.pairs is None

    def test_the_cache_that_was_given_is_handed_back(self, pair: SimpleNamespace) -> None:
        cache = MLXCrossAttentionCache()
        tensors = inputs(random_conditions(pair.config, 1, 4), 0.9)
        arrays = {name: mx.array(tensor.numpy()) for name, tensor in tensors.items()}
        assert pair.mlx(**arrays, cache=cache, use_cache=True)[1] is cache


class TestStages:
    """Each part on the input that PyTorch's part was given, so that the first wrong one is named."""

    @pytest.fixture
    def seen(self, pair: SimpleNamespace) -> dict[str, tuple[tuple[Any, ...], dict[str, Any], Any]]:
        """Positional and keyword inputs and the output of each part of PyTorch's decoder, in one evaluation."""
        seen: dict[str, tuple[tuple[Any, ...], dict[str, Any], Any]] = {}

        def note(name: str) -> Any:
            return lambda _module, args, kwargs, output: seen.update({name: (args, kwargs, output)})

        names = [
            "proj_in_conv",
            "time_embed",
            "time_embed_r",
            "condition_embedder",
            "norm_out",
            "proj_out_conv",
        ]
        names += [f"layers.{i}" for i in range(pair.config.num_hidden_layers)]
        names += [f"layers.0.{part}" for part in ("self_attn", "cross_attn", "mlp")]
        hooks = [
            pair.torch.get_submodule(name).register_forward_hook(note(name), with_kwargs=True)
            for name in names
        ]
        by_torch(pair.torch, inputs(random_conditions(pair.config, 2, 75), 0.7))
        for hook in hooks:
            hook.remove()
        return seen

    @pytest.mark.parametrize("name", ["time_embed", "time_embed_r"])
    def test_timestep_embedding(self, pair: SimpleNamespace, seen: Any, name: str) -> None:
        (t,), _, theirs = seen[name]
        for what, a, b in zip(
            ("embedding", "modulation"), getattr(pair.mlx, name)(mx.array(t.numpy())), theirs, strict=True
        ):
            assert_near(a, b, largest=BOUND, what=what)

    def test_patches(self, pair: SimpleNamespace, seen: Any) -> None:
        c = random_conditions(pair.config, 2, 75)
        ours = pair.mlx._patchify(mx.array(c.context.numpy()), mx.array(c.noise.numpy()))
        assert_near(ours, seen["proj_in_conv"][2].transpose(1, 2), largest=BOUND, what="patches")

    def test_encoder_states(self, pair: SimpleNamespace, seen: Any) -> None:
        (states,), _, theirs = seen["condition_embedder"]
        assert_near(pair.mlx.condition_embedder(mx.array(states.numpy())), theirs, largest=BOUND)

    @pytest.mark.parametrize("index", [0, 1, 2], ids=["sliding", "full", "sliding_again"])
    def test_layer(self, pair: SimpleNamespace, seen: Any, index: int) -> None:
        _, given, theirs = seen[f"layers.{index}"]
        x, modulation, states = (
            mx.array(given[name].numpy()) for name in ("hidden_states", "temb", "encoder_hidden_states")
        )
        layer = pair.mlx.layers[index]
        ours = layer(
            x, modulation, *pair.mlx._tables_for(x.shape[1]), layer.cross_attn.keys_and_values(states)
        )
        assert_near(ours, theirs, largest=BOUND, what=f"layer {index}")

    def test_cross_attention(self, pair: SimpleNamespace, seen: Any) -> None:
        _, given, theirs = seen["layers.0.cross_attn"]
        attention = pair.mlx.layers[0].cross_attn
        keys_and_values = attention.keys_and_values(mx.array(given["encoder_hidden_states"].numpy()))
        ours = attention.attend(attention.queries(mx.array(given["hidden_states"].numpy())), keys_and_values)
        assert_near(ours, theirs, largest=BOUND, what="cross-attention")

    def test_feed_forward(self, pair: SimpleNamespace, seen: Any) -> None:
        (x,), _, theirs = seen["layers.0.mlp"]
        assert_near(pair.mlx.layers[0].mlp(mx.array(x.numpy())), theirs, largest=BOUND, what="feed-forward")

    def test_way_out(self, pair: SimpleNamespace, seen: Any) -> None:
        (x,), _, theirs = seen["proj_out_conv"]
        ours = pair.mlx.proj_out(mx.array(x.transpose(1, 2).contiguous().numpy()))
        assert_near(ours, theirs.transpose(1, 2), largest=BOUND, what="frames from patches")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"attention_bias": True}, id="attention_bias"),
        pytest.param({"patch_size": 1}, id="patch_size_1"),
        pytest.param({"patch_size": 3}, id="patch_size_3"),
        pytest.param({"rope_theta": 10_000.0}, id="other_theta"),
        pytest.param({"rms_norm_eps": 0.1}, id="other_eps"),
        pytest.param({"num_key_value_heads": 4}, id="no_grouped_heads"),
        pytest.param({"sliding_window": 3}, id="narrow_window"),
        pytest.param({"head_dim": 8}, id="heads_narrower_than_the_width"),
    ],
)
def test_every_key_of_the_config_shapes_both_alike(load_pair: Any, changes: dict[str, Any]) -> None:
    from diffusers import AceStepTransformer1DModel

    config = replace(load_pair().config, **changes)
    names = [
        name for name in signature(AceStepTransformer1DModel.__init__).parameters if hasattr(config, name)
    ]
    torch.manual_seed(0)
    theirs = AceStepTransformer1DModel(**{name: getattr(config, name) for name in names}).eval()
    weights = {f"decoder.{upstream_name(key)}": mx.array(v.numpy()) for key, v in theirs.state_dict().items()}
    ours = MLXDiTDecoder.from_config(config)
    load_strictly(ours, convert_decoder_weights(weights), "test")
    tensors = inputs(random_conditions(config, 2, 25), 0.7)
    assert_near(by_mlx(ours, tensors), by_torch(theirs, tensors), largest=BOUND, what="velocity")
