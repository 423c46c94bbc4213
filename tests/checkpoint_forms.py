"""The tiny checkpoint in the other forms that checkpoints are published in, written by the libraries' own writers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AceStepPipeline,
    AceStepTransformer1DModel,
    AutoencoderOobleck,
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.pipelines.ace_step.modeling_ace_step import (
    AceStepAudioTokenDetokenizer,
    AceStepAudioTokenizer,
    AceStepConditionEncoder,
)
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen3Model

from acestep.models.checkpoint.weights import diffusers_name, upstream_name

DIT, VAE, TEXT = "acestep-v15-base", "vae", "Qwen3-Embedding-0.6B"
# diffusers' folder of each part of upstream's model.safetensors, and the part's prefix there
PARTS = {
    "transformer": "decoder.",
    "condition_encoder": "encoder.",
    "audio_tokenizer": "tokenizer.",
    "audio_token_detokenizer": "detokenizer.",
}
CLASSES = {
    "transformer": AceStepTransformer1DModel,
    "condition_encoder": AceStepConditionEncoder,
    "audio_tokenizer": AceStepAudioTokenizer,
    "audio_token_detokenizer": AceStepAudioTokenDetokenizer,
}
UNPREFIXED = ("null_condition_emb", "silence_latent")  # of the condition encoder

Tensors = dict[str, torch.Tensor]


def read_all(folder: Path) -> Tensors:
    """Every tensor of the safetensors of a folder, single file or shards."""
    return {
        key: value for path in sorted(folder.glob("*.safetensors")) for key, value in load_file(path).items()
    }


def read_upstream(dit: Path) -> Tensors:
    """Every tensor of a DiT folder; the silence latent as diffusers has it, [1, frames, channels]."""
    silence = torch.load(dit / "silence_latent.pt", weights_only=True)
    return {**read_all(dit), "silence_latent": silence.transpose(1, 2).contiguous()}


def _of_part(tensors: Tensors, part: str) -> Tensors:
    own = UNPREFIXED if part == "condition_encoder" else ()
    prefix = PARTS[part]
    return {
        diffusers_name(key.removeprefix(prefix)): value
        for key, value in tensors.items()
        if key.startswith((prefix, *own))
    }


def _module(part: str, config: dict[str, Any], tensors: Tensors) -> Any:
    """A part as diffusers' module, which itself holds that no tensor lacks and none is left over."""
    cls = CLASSES[part]
    if part != "transformer":
        config = config | {
            name.removeprefix("encoder_"): value
            for name, value in config.items()
            if name.startswith("encoder_")
        }
        config = {key: value for key, value in config.items() if key != "layer_types"}
    takes = cls.__init__.__wrapped__.__code__.co_varnames
    module = cls(**{key: value for key, value in config.items() if key in takes})
    if part == "condition_encoder":
        module.silence_latent = torch.empty_like(tensors["silence_latent"])
    module.load_state_dict(tensors, strict=True)
    return module


def to_diffusers(
    dit: Path, target: Path, dtype: torch.dtype = torch.float32, max_shard_size: str = "10GB"
) -> Path:
    """Upstream's layout -> what AceStepPipeline.save_pretrained writes of it into `target`."""
    config, tensors = json.loads((dit / "config.json").read_text()), read_upstream(dit)
    modules = {part: _module(part, config, _of_part(tensors, part)) for part in PARTS}
    text, tokenizer = dit.parent / TEXT, AutoTokenizer.from_pretrained(dit.parent / TEXT)
    # By default the library makes a model on the meta device first, which takes 0.03 s more here.
    vae = AutoencoderOobleck.from_pretrained(dit.parent / VAE, low_cpu_mem_usage=False)
    pipeline = AceStepPipeline(
        **modules,
        vae=vae,
        text_encoder=Qwen3Model.from_pretrained(text),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
    )
    pipeline.to(dtype).save_pretrained(target, max_shard_size=max_shard_size)
    return target


def to_upstream(folder: Path, root: Path) -> Path:
    """diffusers' layout -> upstream's below `root`; returns the DiT folder."""
    dit = root / "checkpoints" / DIT
    dit.mkdir(parents=True)
    tensors = {
        key if key in UNPREFIXED else prefix + upstream_name(key): value
        for part, prefix in PARTS.items()
        for key, value in read_all(folder / part).items()
    }
    torch.save(tensors.pop("silence_latent").transpose(1, 2).contiguous(), dit / "silence_latent.pt")
    save_file(tensors, dit / "model.safetensors", metadata={"format": "pt"})
    encoder, tokenizer, decoder = (
        {
            key: value
            for key, value in json.loads((folder / part / "config.json").read_text()).items()
            if key[0] != "_"
        }
        for part in ("condition_encoder", "audio_tokenizer", "transformer")
    )
    own = {
        f"encoder_{key}": value for key, value in encoder.items() if key in decoder and key != "layer_types"
    }
    config = {**tokenizer, **encoder, **decoder, **own, "timbre_fix_frame": 750}
    (dit / "config.json").write_text(json.dumps(config))
    shutil.copytree(folder / "vae", dit.parent / VAE)
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, dit.parent / TEXT, dirs_exist_ok=True)
    return dit


def recast(folder: Path, *dtypes: torch.dtype) -> None:
    """Stores every weight below `folder` through the dtypes: bfloat16 alone, or bfloat16 then float32 to round."""

    def through(value: torch.Tensor) -> torch.Tensor:
        for dtype in dtypes:
            value = value.to(dtype)
        return value

    for path in folder.rglob("*.safetensors"):
        if path.stat().st_size:
            tensors = {key: through(value) for key, value in load_file(path).items()}
            save_file(tensors, path, metadata={"format": "pt"})
    for path in folder.rglob("*.pt"):
        torch.save(through(torch.load(path, weights_only=True)), path)


def split_into_shards(folder: Path, shards: int, stem: str = "model") -> None:
    """As large models are published: {stem}-0000i-of-0000n.safetensors and an index."""
    tensors = load_file(folder / f"{stem}.safetensors")
    weight_map: dict[str, str] = {}
    for i in range(shards):
        name = f"{stem}-{i + 1:05}-of-{shards:05}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[i::shards]}
        save_file(part, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    (folder / f"{stem}.safetensors").unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def rewrite(path: Path, change: Callable[[Tensors], Any]) -> None:
    """Changes the tensors of one safetensors file."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def rewrite_json(path: Path, **changes: Any) -> None:
    """Changes keys of a JSON file; None as a value is null, ... takes the key away."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))
