"""Every part of a checkpoint on PyTorch, as the handler calls it: numpy in, numpy out."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderOobleck
from transformers import Qwen3Model

from acestep.models.base.modeling_acestep_v15_base import AceStepConditionGenerationModel
from acestep.models.checkpoint.config import ModelConfig
from acestep.models.checkpoint.layout import find_layout
from acestep.models.checkpoint.precision import FULL_PRECISION
from acestep.models.checkpoint.tokenizer import load_tokenizer
from acestep.models.encoding_cache import CONTEXTS_KEPT, PROMPTS_KEPT, EncodingCache, content_key
from acestep.models.parts import Parts
from acestep.models.pytorch.half import to_half
from acestep.models.pytorch.loading import load_condition_encoder, load_decoder, load_text_encoder, load_vae


class TorchAudioVAE:
    """`parts.AudioVAE` by diffusers."""

    # Enough for every VAE: the published one needs 9, the tiny checkpoint's 30, one whose strides are all as small as
    # they can be 43.
    frames_behind = 48

    def __init__(self, vae: AutoencoderOobleck) -> None:
        self.vae = vae
        self._posteriors: EncodingCache[Any] = EncodingCache(CONTEXTS_KEPT)

    def _encode(self, audio: np.ndarray) -> Any:
        """diffusers' distribution of latents [1, 64, frames]."""
        return self.vae.encode(torch.from_numpy(audio)[None].to(self.vae.device)).latent_dist

    @torch.inference_mode()
    def sample_latents(self, audio: np.ndarray, seeds: list[int]) -> np.ndarray:
        """[2, samples], whole frames -> [batch, frames, 64]; a seed gives the same latents alone and in a batch.

        The same audio is encoded once, whatever the seeds.
        """
        posterior = self._posteriors.get(content_key(audio), lambda: self._encode(audio))
        samples = [posterior.sample(torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(samples).transpose(1, 2).contiguous().cpu().numpy()

    @torch.inference_mode()
    def decode_latents(self, latents: np.ndarray) -> np.ndarray:
        """[batch, frames, 64] -> [batch, 2, samples]"""
        tensor = torch.from_numpy(latents).to(self.vae.device).transpose(1, 2)
        return self.vae.decode(tensor).sample.cpu().numpy()


class TorchTextStates:
    """`parts.TextEncoder` by transformers."""

    def __init__(self, encoder: Qwen3Model) -> None:
        self.encoder = encoder
        self._states: EncodingCache[np.ndarray] = EncodingCache(PROMPTS_KEPT)

    def _tensor(self, tokens: list[int]) -> torch.Tensor:
        return torch.tensor([tokens], device=self.encoder.device)

    @torch.inference_mode()
    def encode(self, tokens: list[int]) -> np.ndarray:
        """The last layer's states, [1, tokens, text width]; the same tokens are encoded once."""
        return self._states.get(tuple(tokens), lambda: self._encode(tokens))

    def _encode(self, tokens: list[int]) -> np.ndarray:
        return self.encoder(input_ids=self._tensor(tokens)).last_hidden_state.cpu().numpy()

    @torch.inference_mode()
    def embed(self, tokens: list[int]) -> np.ndarray:
        """The embeddings alone, [1, tokens, text width]."""
        return self.encoder.get_input_embeddings()(self._tensor(tokens)).cpu().numpy()


def load_parts(folder: Path, config: ModelConfig, device: str, precision: str) -> Parts:
    """Loaded strictly; the matmuls of decoder and encoders have the precision, all else is float32."""
    layout = find_layout(folder)

    def converted(model: Any, attention: bool = False) -> Any:
        """In the precision and on the device."""
        if precision != FULL_PRECISION:
            to_half(model, getattr(torch, precision), attention)
        return model.to(device)

    # The largest part last: what the libraries hold twice while they load is gone by then.
    text_encoder = converted(load_text_encoder(layout.text_encoder, config))
    tokenizer = load_tokenizer(layout.tokenizer, text_encoder.config.vocab_size)
    vae = load_vae(layout.vae, config).to(device)
    encoder = converted(load_condition_encoder(folder, config))
    decoder = converted(load_decoder(folder, config), attention=True)
    return Parts(
        model=AceStepConditionGenerationModel(config, encoder, decoder),
        vae=TorchAudioVAE(vae),
        text_encoder=TorchTextStates(text_encoder),
        tokenizer=tokenizer,
    )
