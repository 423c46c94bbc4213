"""Values as in a model's config.json, as `config` of a host: a checkout may decide by any of them.

BASE and TURBO have the defaults of upstream's config class. Of XL the decoder's and the encoders' widths are known; the
number of layers and heads is what such widths have elsewhere.
"""

from __future__ import annotations

from typing import Any

Config = dict[str, Any]

BASE: Config = {
    "is_turbo": False,
    "model_version": "base",
    "model_type": "acestep",
    "architectures": ["AceStepConditionGenerationModel"],
    "dtype": "bfloat16",
    "vocab_size": 64003,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-06,
    "use_cache": True,
    "tie_word_embeddings": True,
    "rope_theta": 1_000_000,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_dropout": 0.0,
    "use_sliding_window": True,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "in_channels": 192,
    "audio_acoustic_hidden_dim": 64,
    "patch_size": 2,
    "pool_window_size": 5,
    "text_hidden_dim": 1024,
    "timbre_hidden_dim": 64,
    "timbre_fix_frame": 750,
    "num_lyric_encoder_hidden_layers": 8,
    "num_timbre_encoder_hidden_layers": 4,
    "num_attention_pooler_hidden_layers": 2,
    "num_audio_decoder_hidden_layers": 24,
    "lyric_alignment_layers_config": None,
    "fsq_dim": 2048,
    "fsq_input_levels": [8, 8, 8, 5, 5, 5],
    "fsq_input_num_quantizers": 1,
    "data_proportion": 0.5,
    "timestep_mu": -0.4,
    "timestep_sigma": 1.0,
}
TURBO: Config = {**BASE, "is_turbo": True, "model_version": "turbo"}
XL_BASE: Config = {
    **BASE,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "layer_types": ["sliding_attention", "full_attention"] * 16,
    "encoder_hidden_size": 2048,
    "encoder_intermediate_size": 6144,
    "encoder_num_attention_heads": 16,
    "encoder_num_key_value_heads": 8,
}
