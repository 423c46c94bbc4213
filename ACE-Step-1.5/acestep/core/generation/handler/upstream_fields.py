"""Upstream's fields that this fork has no code for: every one is accepted by name, none is ignored in silence."""

from typing import Any

from acestep.core.generation.handler.request_values import plain_number, show
from acestep.errors import RequestError

# Field -> the values with which a LEGO request is what this fork runs, and what any other value would ask for.
OFF_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "reference_audio": (("",), "reference audio for the timbre"),
    "audio_codes": (("",), "audio codes"),
    "global_caption": (("",), "caption for the whole song"),
    "fade_in_duration": ((0,), "fades"),
    "fade_out_duration": ((0,), "fades"),
    "latent_shift": ((0,), "change of the latents before decoding"),
    "latent_rescale": ((1,), "change of the latents before decoding"),
    "use_adg": ((False,), "adaptive dual guidance"),
    "sampler_mode": (("euler",), "sampler but Euler's"),
    "velocity_norm_threshold": ((0,), "limit on the velocity's norm"),
    "velocity_ema_factor": ((0,), "smoothing of the velocity"),
    "dcw_enabled": ((False,), "wavelet correction"),
    "chunk_mask_mode": (("auto", "explicit"), "chunk mask but 1 within the range and 0 outside"),
    "repaint_latent_crossfade_frames": ((0, 10), "crossfade at the ends of a range"),
    "repaint_wav_crossfade_sec": ((0,), "crossfade at the ends of a range"),
    "repaint_mode": (("aggressive", "balanced"), "injection of the source outside a range"),
    "repaint_strength": ((0, 0.5), "injection of the source outside a range"),
    "retake_variance": ((0,), "second noise to mix in"),
    "flow_edit_morph": ((False,), "flow edit"),
    "audio_cover_strength": ((1,), "cover strength"),
    "cover_noise_strength": ((0,), "cover noise"),
}
LANGUAGE_MODEL = ("thinking", "use_cot_metas", "use_cot_caption", "use_cot_language")
# Fields that change nothing about a LEGO request upstream either; the fork's README lists them.
NO_EFFECT = (
    "instrumental", "duration", "retake_seed",
    "dcw_mode", "dcw_scaler", "dcw_high_scaler", "dcw_wavelet",
    "flow_edit_source_caption", "flow_edit_source_lyrics", "flow_edit_n_min", "flow_edit_n_max", "flow_edit_n_avg",
    "lm_temperature", "lm_cfg_scale", "lm_top_k", "lm_top_p", "lm_negative_prompt",
    "use_cot_lyrics", "use_constrained_decoding",
    "cot_bpm", "cot_keyscale", "cot_timesignature", "cot_duration", "cot_vocal_language", "cot_caption", "cot_lyrics",
    "allow_lm_batch", "lm_batch_chunk_size", "constrained_decoding_debug",
)  # fmt: skip
# The same for `initialize_service`; its prefer_source chooses where to download from, and nothing is downloaded.
LOADING_OFF_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "use_flash_attention": ((False,), "flash attention"),
    "compile_model": ((False,), "compiled models"),
    "offload_to_cpu": ((False,), "offloading"),
    "offload_dit_to_cpu": ((False,), "offloading"),
    "quantization": ((), "quantization"),
    "vae_checkpoint": ((), "choice of the VAE, it is the one that belongs to the checkpoint"),
}


def check_off(name: str, value: Any, accepted: tuple[Any, ...], what: str) -> None:
    """RequestError unless a field holds None, which is no value, or one of those accepted."""
    number = plain_number(value)
    if number is not None:
        value = number
    if value is None or (_is_scalar(value) and value in accepted):
        return
    give = " or ".join(repr(choice) for choice in accepted or (None,))
    raise RequestError(f"{name} is {show(value)}; this fork has no {what}: give {give}, or leave it out")


def check_upstream_fields(params: Any) -> None:
    """RequestError, by name, for the first field that asks for something this fork does not have."""
    for name in LANGUAGE_MODEL:
        value = getattr(params, name)
        if value is not None and not (_is_scalar(value) and not value):
            raise RequestError(
                f"{name} is {show(value)}; this fork has no language model, and with one a LEGO request would lose "
                f"its context audio: give False"
            )
    for name, (accepted, what) in OFF_ONLY.items():
        check_off(name, getattr(params, name), accepted, what)


def _is_scalar(value: Any) -> bool:
    """Whether a value can be compared with one of those accepted; numpy's and PyTorch's bool count as bool."""
    return isinstance(value, (bool, int, float, str)) or type(value).__name__ in ("bool", "bool_")
