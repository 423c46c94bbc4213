"""Names and shapes of all tensors of a checkpoint, as upstream's files have them.

Matrices of linear layers are [outputs, inputs], weights of convolutions [outputs, inputs, kernel], those of transposed
ones [inputs, outputs, kernel].
"""

from collections.abc import Mapping
from typing import Any

from acestep.models.checkpoint.weights import NULL_CONDITION

Shapes = dict[str, tuple[int, ...]]

TIME_FEATURES = 256
MODULATIONS = 6  # shift, scale and gate, of self-attention and of the MLP


def dit_shapes(config: Mapping[str, Any]) -> Shapes:
    """model.safetensors of the DiT folder; config: its config.json."""
    encoder = dict(config)
    for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"):
        encoder[key] = config.get(f"encoder_{key}", config[key])
    return (
        _below("decoder", _decoder(config, encoder["hidden_size"]))
        | _below("encoder", _condition_encoder(encoder))
        | {NULL_CONDITION: (1, 1, encoder["hidden_size"])}
        | _below("tokenizer", _audio_tokenizer(encoder))
        | _below("detokenizer", _audio_detokenizer(encoder))
    )


def text_encoder_shapes(config: Mapping[str, Any]) -> Shapes:
    """model.safetensors of Qwen3; config: its config.json."""
    width = config["hidden_size"]
    return {"embed_tokens.weight": (config["vocab_size"], width)} | _encoder_layers(
        config, config["num_hidden_layers"]
    )


def vae_shapes(config: Mapping[str, Any]) -> Shapes:
    """diffusion_pytorch_model.safetensors of AutoencoderOobleck, all channel multiples 1; config: its config.json."""
    strides = config["downsampling_ratios"]
    width, channels = config["encoder_hidden_size"], config["audio_channels"]
    encoder = _weight_norm_conv("conv1", width, channels, 7)
    for i, stride in enumerate(strides):
        block = _residual_units(width) | _snake("snake1", width)
        encoder |= _below(f"block.{i}", block | _weight_norm_conv("conv1", width, width, 2 * stride))
    encoder |= _snake("snake1", width) | _weight_norm_conv("conv2", width, width, 3)

    width = config["decoder_channels"]
    decoder = _weight_norm_conv("conv1", width, config["decoder_input_channels"], 7)
    for i, stride in enumerate(reversed(strides)):
        block = _snake("snake1", width) | _weight_norm_conv("conv_t1", width, width, 2 * stride)
        decoder |= _below(f"block.{i}", block | _residual_units(width))
    decoder |= _snake("snake1", width) | _weight_norm_conv("conv2", channels, width, 7, bias=False)
    return _below("encoder", encoder) | _below("decoder", decoder)


def _below(prefix: str, shapes: Shapes) -> Shapes:
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _attention(config: Mapping[str, Any]) -> Shapes:
    width, head_dim = config["hidden_size"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    return {
        "q_proj.weight": (heads, width),
        "k_proj.weight": (kv_heads, width),
        "v_proj.weight": (kv_heads, width),
        "o_proj.weight": (width, heads),
        "q_norm.weight": (head_dim,),
        "k_norm.weight": (head_dim,),
    }


def _mlp(config: Mapping[str, Any]) -> Shapes:
    width, inner = config["hidden_size"], config["intermediate_size"]
    return {
        "gate_proj.weight": (inner, width),
        "up_proj.weight": (inner, width),
        "down_proj.weight": (width, inner),
    }


def _decoder_layer(config: Mapping[str, Any]) -> Shapes:
    width = config["hidden_size"]
    return {
        "self_attn_norm.weight": (width,),
        **_below("self_attn", _attention(config)),
        "cross_attn_norm.weight": (width,),
        **_below("cross_attn", _attention(config)),
        "mlp_norm.weight": (width,),
        **_below("mlp", _mlp(config)),
        "scale_shift_table": (1, MODULATIONS, width),
    }


def _encoder_layers(config: Mapping[str, Any], count: int) -> Shapes:
    """Qwen3's layers and the norm after them; the condition encoder and the audio tokenizer have the same ones."""
    width = config["hidden_size"]
    layer = {
        "input_layernorm.weight": (width,),
        **_below("self_attn", _attention(config)),
        "post_attention_layernorm.weight": (width,),
        **_below("mlp", _mlp(config)),
    }
    shapes: Shapes = {"norm.weight": (width,)}
    for i in range(count):
        shapes |= _below(f"layers.{i}", layer)
    return shapes


def _decoder(config: Mapping[str, Any], condition_width: int) -> Shapes:
    width, patch = config["hidden_size"], config["patch_size"]
    latents = config["audio_acoustic_hidden_dim"]
    time_embed = (
        _linear("linear_1", width, TIME_FEATURES)
        | _linear("linear_2", width, width)
        | _linear("time_proj", MODULATIONS * width, width)
    )
    shapes = {
        "proj_in.1.weight": (width, config["in_channels"], patch),
        "proj_in.1.bias": (width,),
        **_below("time_embed", time_embed),
        **_below("time_embed_r", time_embed),
        **_linear("condition_embedder", width, condition_width),
        "norm_out.weight": (width,),
        "proj_out.1.weight": (width, latents, patch),  # transposed
        "proj_out.1.bias": (latents,),
        "scale_shift_table": (1, 2, width),
    }
    for i in range(config["num_hidden_layers"]):
        shapes |= _below(f"layers.{i}", _decoder_layer(config))
    return shapes


def _condition_encoder(config: Mapping[str, Any]) -> Shapes:
    width, text_width = config["hidden_size"], config["text_hidden_dim"]
    lyrics = _linear("embed_tokens", width, text_width)
    lyrics |= _encoder_layers(config, config["num_lyric_encoder_hidden_layers"])
    timbre = _linear("embed_tokens", width, config["timbre_hidden_dim"]) | {"special_token": (1, 1, width)}
    timbre |= _encoder_layers(config, config["num_timbre_encoder_hidden_layers"])
    return {
        "text_projector.weight": (width, text_width),
        **_below("lyric_encoder", lyrics),
        **_below("timbre_encoder", timbre),
    }


def _audio_tokenizer(config: Mapping[str, Any]) -> Shapes:
    width, codes = config["hidden_size"], len(config["fsq_input_levels"])
    pooler = _linear("embed_tokens", width, width) | {"special_token": (1, 1, width)}
    pooler |= _encoder_layers(config, config["num_attention_pooler_hidden_layers"])
    return (
        _linear("audio_acoustic_proj", width, config["audio_acoustic_hidden_dim"])
        | _below("attention_pooler", pooler)
        | _linear("quantizer.project_in", codes, config["fsq_dim"])
        | _linear("quantizer.project_out", config["fsq_dim"], codes)
    )


def _audio_detokenizer(config: Mapping[str, Any]) -> Shapes:
    width = config["hidden_size"]
    return (
        _linear("embed_tokens", width, width)
        | {"special_tokens": (1, config["pool_window_size"], width)}
        | _encoder_layers(config, config["num_attention_pooler_hidden_layers"])
        | _linear("proj_out", config["audio_acoustic_hidden_dim"], width)
    )


def _weight_norm_conv(name: str, outputs: int, inputs: int, kernel: int, bias: bool = True) -> Shapes:
    """A convolution whose weight is stored as direction and length, one length for each entry of the first axis."""
    shapes: Shapes = {
        f"{name}.weight_v": (outputs, inputs, kernel),
        f"{name}.weight_g": (outputs, 1, 1),
    }
    return shapes | ({f"{name}.bias": (outputs,)} if bias else {})


def _snake(name: str, channels: int) -> Shapes:
    return {f"{name}.alpha": (1, channels, 1), f"{name}.beta": (1, channels, 1)}


def _residual_units(channels: int) -> Shapes:
    unit = (
        _snake("snake1", channels)
        | _weight_norm_conv("conv1", channels, channels, 7)
        | _snake("snake2", channels)
        | _weight_norm_conv("conv2", channels, channels, 1)
    )
    return {name: shape for i in (1, 2, 3) for name, shape in _below(f"res_unit{i}", unit).items()}
