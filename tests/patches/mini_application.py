"""A small application of our own writing around the small checkouts: upstream's interface from the public API to
the decoder, as far as the doctor and the series `lego` look at it.

`SICK` has every defect that upstream had at one time or another; `WELL` has none. Each is one text, with the
defects put in, or taken out, by named edits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tests.patches.mini_checkout import BEFORE, FIXED, PATCHED, MiniCheckout, edit

HANDLER = "acestep/core/generation/handler"
MASKS, REQUEST = f"{HANDLER}/conditioning_masks.py", f"{HANDLER}/generate_music_request.py"
APPLICATION, INFERENCE, CONSTANTS = "acestep/handler.py", "acestep/inference.py", "acestep/constants.py"
DIT_MODEL = "acestep/models/mlx/dit_model.py"
MODEL = "acestep/models/base/modeling_mini.py"

CONSTANTS_TEXT = """\
TASK_INSTRUCTIONS = {
    "text2music": "Make music of the words:",
    "cover": "Play the codes:",
    "lego": "Add the {TRACK_NAME} track based on the audio context:",
    "lego_default": "Add the track based on the audio context:",
}
"""

MASKS_TEXT = '''\
import torch


class ConditioningMaskMixin:
    def _build_chunk_masks_and_src_latents(
        self,
        batch_size,
        max_latent_length,
        instructions,
        audio_code_hints,
        target_wavs,
        target_latents,
        repainting_start,
        repainting_end,
        silence_latent_tiled,
    ):
        """Which frames are new, and what the decoder hears meanwhile."""
        ranges, masks, covers, sources = {}, [], [], []
        for i in range(batch_size):
            mask = torch.ones(max_latent_length)
            end = repainting_end[i] if repainting_end is not None else None
            if end is not None:
                first, last = int(repainting_start[i] * 25), int(end * 25)
                ranges[i] = (first, last)
                mask[:first], mask[last:] = 0, 0
            masks.append(mask)
            covers.append(end is None and audio_code_hints[i] is not None)
        for i in range(batch_size):
            if i in ranges:
                heard = target_latents[i].clone()
                first, last = ranges[i]
                heard[first:last] = silence_latent_tiled[first:last]
                sources.append(heard)
            else:
                sources.append(target_latents[i].clone())
        return torch.stack(masks), torch.tensor(covers), torch.stack(sources)
'''
CONTEXT_KEPT = (
    "                heard[first:last] = ",
    "                if 'audio context' not in instructions[i]:\n                    heard[first:last] = ",
)

REQUEST_TEXT = '''\
from acestep.constants import TASK_INSTRUCTIONS


class GenerateMusicRequestMixin:
    def _resolve_generate_music_task(self, task_type, audio_code_string, instruction):
        """A text with codes is a cover."""
        if task_type == "text2music" and audio_code_string:
            return "cover", TASK_INSTRUCTIONS["cover"]
        return task_type, instruction
'''

APPLICATION_TEXT = """\
import contextlib

import mlx.core as mx
import torch
import sounds_that_are_not_installed

from acestep.core.generation.handler.conditioning_masks import ConditioningMaskMixin
from acestep.core.generation.handler.diffusion import DiffusionMixin
from acestep.core.generation.handler.generate_music_request import GenerateMusicRequestMixin
from acestep.core.generation.handler.service_generate_execute import ServiceGenerateExecuteMixin
from acestep.models.mlx.dit_model import MLXDiTDecoder


class AceStepHandler(
    ConditioningMaskMixin, DiffusionMixin, GenerateMusicRequestMixin, ServiceGenerateExecuteMixin
):
    def __init__(self):
        self.model = self.vae = self.text_tokenizer = self.text_encoder = self.silence_latent = None
        self.lora_loaded = False

    def is_turbo_model(self):
        return self.config.is_turbo

    def _init_mlx_dit(self):
        self.mlx_decoder = MLXDiTDecoder.from_config(self.config)
        self.mlx_decoder.gain = mx.array(self.model.decoder.state_dict()["gain"].numpy())
        return True

    def load_lora(self, path):
        from peft import PeftModel

        self.model.decoder = PeftModel.from_pretrained(self.model.decoder, path)
        self.lora_loaded = True
        return "loaded"

    @contextlib.contextmanager
    def _load_model_context(self, name):
        yield getattr(self, name)

    def process_src_audio(self, path):
        return sounds_that_are_not_installed.read(path)

    def generate_music(
        self, src_audio, audio_code_string, instruction, task_type, seeds, inference_steps, guidance_scale,
        shift, timesteps, infer_method, repainting_start, repainting_end, **options,
    ):
        task_type, instruction = self._resolve_generate_music_task(task_type, audio_code_string, instruction)
        batch = len(seeds)
        hints = [audio_code_string or None] * batch
        wav = self.process_src_audio(src_audio)
        latents = self.vae.encode(wav[None]).latent_dist.sample().transpose(1, 2)
        frames = latents.shape[1]
        seconds = frames / 25
        padding = self.silence_latent[:, : max(0, 128 - frames)]
        latents = torch.cat([latents, padding], dim=1).expand(batch, -1, -1)
        lego = task_type == "lego" and not audio_code_string
        end = repainting_end if repainting_end > 0 else seconds
        masks, covers, sources = self._build_chunk_masks_and_src_latents(
            batch, latents.shape[1], [instruction] * batch, hints, wav[None], latents,
            [repainting_start] * batch if lego else None, [end] * batch if lego else None,
            self.silence_latent[0, : latents.shape[1]],
        )
        prompt = f"# Instruction\\n{instruction}\\n\\n# Caption\\n"
        self.text_encoder(input_ids=self.text_tokenizer(prompt, return_tensors="pt").input_ids)
        payload = {
            "src_latents": sources,
            "chunk_mask": masks[..., None].expand_as(sources),
            "generated": masks > 0,
            "is_covers": covers,
            "text_inputs": [prompt],
        }
        request = self._build_service_generate_kwargs(
            payload, seeds, inference_steps, guidance_scale, infer_method, shift, timesteps
        )
        request.update(options)
        return self._execute_service_generate_diffusion(payload, request, seeds, infer_method, shift, 1.0)
"""

DIT_MODEL_TEXT = '''\
import mlx.core as mx
import mlx.nn as nn


class MLXCrossAttentionCache:
    def __init__(self):
        self.kept = {}


class Positions(nn.Module):
    """Cosines and sines by position."""

    def __init__(self, width, length):
        super().__init__()
        angles = mx.arange(length)[:, None] * mx.arange(width)[None]
        self._cos = mx.cos(angles)
        self._sin = mx.sin(angles)


class MLXDiTDecoder(nn.Module):
    """Turns what it is given by its positions, and adds what its encoder states say."""

    def __init__(self, width):
        super().__init__()
        self.positions = Positions(width, 4096)
        self.gain = mx.ones(1)

    @classmethod
    def from_config(cls, config):
        return cls(config.audio_acoustic_hidden_dim)

    def __call__(self, hidden_states, timestep, encoder_hidden_states, cache=None, **given):
        kept = {} if cache is None else cache.kept
        if "states" not in kept:
            kept["states"] = encoder_hidden_states.mean(axis=(1, 2), keepdims=True)
        length = hidden_states.shape[1]
        turned = hidden_states * self.positions._cos[:length] + self.positions._sin[:length]
        return self.gain * turned * (1 + kept["states"] / 4), cache
'''
CACHE_KEPT = (
    "    def __init__(self):\n        self.kept = {}\n",
    "    kept = {}\n",
)

MODEL_TEXT = '''\
import torch

try:
    import pytorch_wavelets
except ImportError:
    pytorch_wavelets = None


def apg_forward(with_text, without, scale, memory):
    gap = with_text - without - 0.75 * memory.get("running", 0)
    memory["running"] = gap
    gap = gap * torch.clamp(2.5 / gap.norm(dim=1, keepdim=True), max=1)
    along = with_text / with_text.norm(dim=1, keepdim=True)
    return with_text + (scale - 1) * (gap - (gap * along).sum(dim=1, keepdim=True) * along)


class MiniModel(torch.nn.Module):
    def generate_audio(
        self, src_latents, seed, infer_steps, shift, infer_method="ode", timesteps=None, repaint_mask=None,
        clean_src_latents=None, dcw_enabled=True, sampler_mode="euler", diffusion_guidance_scale=1.0,
        **conditions
    ):
        """The same walk in PyTorch."""
        states, mask, context = self.prepare_condition(src_latents=src_latents, **conditions)
        x = torch.randn(src_latents.shape, generator=torch.Generator().manual_seed(seed[0]))
        if timesteps is None:
            timesteps = torch.linspace(1, 0, infer_steps + 1)
            timesteps = shift * timesteps / (1 + (shift - 1) * timesteps)
        ends = timesteps
        memory = {}

        def velocity(x, t, corrector=False):
            def branch(states):
                made = self.decoder(
                    hidden_states=x, timestep=t[None], encoder_hidden_states=states, context_latents=context
                )
                return made[0]

            made = branch(states)
            if diffusion_guidance_scale <= 1:
                return made
            null = branch(self.null_condition_emb.expand_as(states))
            if corrector:
                return null + diffusion_guidance_scale * (made - null)
            return apg_forward(made, null, diffusion_guidance_scale, memory)

        for step, (now, then) in enumerate(zip(ends[:-1], ends[1:])):
            v = velocity(x, now)
            if infer_method == "sde":
                level = 1 - (step + 1) / infer_steps
                x = level * torch.randn(x.shape) + (1 - level) * (x - now * v)
            elif sampler_mode == "heun":
                x = x - (v + velocity(x - v * (now - then), then, corrector=True)) / 2 * (now - then)
            else:
                x = x - v * (now - then)
            if repaint_mask is not None and step == 0:
                x = torch.where(repaint_mask[..., None], x, clean_src_latents)
        if dcw_enabled and pytorch_wavelets is not None:
            x = pytorch_wavelets.corrected(x)
        return {"target_latents": x, "time_costs": {}}
'''

INFERENCE_TEXT = '''\
import random
from dataclasses import dataclass
from typing import Optional

from acestep.constants import TASK_INSTRUCTIONS


@dataclass
class GenerationParams:
    task_type: str = "text2music"
    instruction: str = TASK_INSTRUCTIONS["text2music"]
    src_audio: Optional[str] = None
    inference_steps: int = 8
    guidance_scale: float = 7.0
    shift: float = 1.0
    timesteps: Optional[list] = None
    infer_method: str = "ode"
    repainting_start: float = 0.0
    repainting_end: float = -1
    cover_noise_strength: float = 0.0
    use_adg: bool = False
    sampler_mode: str = "euler"
    dcw_enabled: bool = True
    seed: int = -1
    thinking: bool = True


@dataclass
class GenerationConfig:
    batch_size: int = 1
    use_random_seed: bool = True
    seeds: Optional[list] = None


@dataclass
class GenerationResult:
    audios: Optional[list] = None
    success: bool = True
    error: Optional[str] = None


def generate_music(dit_handler, llm_handler, params, config, save_dir=None, progress=None):
    """Ask the handler, and say how it went."""
    user_provided_audio_codes = False
    need_audio_codes = not user_provided_audio_codes
    seed_for_generation = ""
    if config.seeds:
        seed_for_generation = ",".join(map(str, config.seeds))
    options = {
        "dcw_enabled": params.dcw_enabled,
        "use_adg": params.use_adg,
        "sampler_mode": params.sampler_mode,
        "cover_noise_strength": params.cover_noise_strength,
    }
    codes = ""
    if params.thinking and llm_handler is not None and llm_handler.llm_initialized:
        infer_type = "llm_dit" if need_audio_codes else "dit"
        codes = llm_handler.generate_with_stop_condition(infer_type=infer_type)["audio_codes"]
    seeds = [int(seed) for seed in seed_for_generation.split(",") if seed] or [random.randint(0, 2**32 - 1)]
    try:
        outputs = dit_handler.generate_music(
            src_audio=params.src_audio,
            audio_code_string=codes,
            instruction=params.instruction,
            task_type=params.task_type,
            seeds=seeds,
            inference_steps=params.inference_steps,
            guidance_scale=params.guidance_scale,
            shift=params.shift,
            timesteps=params.timesteps,
            infer_method=params.infer_method,
            repainting_start=params.repainting_start,
            repainting_end=params.repainting_end,
            **options,
        )
    except Exception as problem:
        return GenerationResult(success=False, error=str(problem))
    stem = {"tensor": outputs[0]["target_latents"], "params": {"inference_steps": params.inference_steps}}
    return GenerationResult([stem])
'''

OPTIONS_IN_EXECUTE = (
    "    seed=seed_param,\n",
    "    seed=seed_param,\n"
    "                    dcw_enabled=generate_kwargs.get('dcw_enabled', False),\n"
    "                    sampler_mode=generate_kwargs.get('sampler_mode', 'euler'),\n",
)
EVERY_OPTION = (
    "    seed=seed_param,\n",
    "    seed=seed_param,\n"
    "                    use_adg=generate_kwargs['use_adg'],\n"
    "                    cover_noise_strength=generate_kwargs['cover_noise_strength'],\n",
)
OPTIONS_IN_DIFFUSION = (
    (
        "        audio_cover_strength: float = 1.0,\n",
        "        audio_cover_strength: float = 1.0,\n        dcw_enabled=True,\n        sampler_mode='euler',\n"
        "        use_adg=False,\n        cover_noise_strength=0.0,\n",
    ),
    (
        "            seed=seed,\n",
        "            seed=seed,\n            dcw_enabled=dcw_enabled,\n            sampler_mode=sampler_mode,\n"
        "            use_adg=use_adg,\n            cover_noise_strength=cover_noise_strength,\n"
        "            source_np=src_latents.numpy(),\n",
    ),
)
OPTIONS_IN_GENERATE = (
    "    compile_model: bool = False,\n",
    "    compile_model: bool = False,\n    dcw_enabled=True,\n    sampler_mode='euler',\n    use_adg=False,\n"
    "    cover_noise_strength=0.0,\n    source_np=None,\n",
)
COVER_IN_GENERATE = (
    "    cache = MLXCrossAttentionCache()\n",
    "    if cover_noise_strength > 0:\n"
    "        start = min(levels, key=lambda t: abs(t - (1 - cover_noise_strength)))\n"
    "        levels = levels[levels.index(start) :]\n"
    "        x = start * x + (1 - start) * mx.array(source_np)\n"
    "    cache = MLXCrossAttentionCache()\n",
)
GUIDANCE_IN_EXECUTE = (
    "audio_cover_strength=audio_cover_strength,\n                )",
    "audio_cover_strength=audio_cover_strength,\n"
    '                    guidance_scale=generate_kwargs["diffusion_guidance_scale"],\n'
    "                    null_condition_emb=self.model.null_condition_emb,\n                )",
)
GUIDANCE_IN_DIFFUSION = (
    (
        "audio_cover_strength: float = 1.0,\n",
        "audio_cover_strength: float = 1.0,\n        guidance_scale=1.0,\n        null_condition_emb=None,\n",
    ),
    (
        '"mlx_dit_compiled", False),\n',
        '"mlx_dit_compiled", False),\n            guidance_scale=guidance_scale,\n'
        "            null_condition_emb_np=null_condition_emb.numpy(),\n",
    ),
)
GUIDANCE = '''\
def _mlx_apg_forward(with_text, without, guidance_scale, memory, norm_threshold=2.5):
    """Push away from the null branch, less what lies along the other one."""
    import mlx.core as mx

    gap = with_text - without
    gap = gap + memory.get("running", 0)
    memory["running"] = gap
    length = mx.sqrt((gap * gap).sum(axis=1, keepdims=True))
    gap = gap * mx.minimum(1.0, norm_threshold / length)
    along = with_text / mx.sqrt((with_text * with_text).sum(axis=1, keepdims=True))
    gap = gap - (gap * along).sum(axis=1, keepdims=True) * along
    return with_text + (guidance_scale - 1) * gap


def mlx_generate_diffusion('''
GUIDANCE_IN_GENERATE = (
    ("def mlx_generate_diffusion(", GUIDANCE),
    (
        "    compile_model: bool = False,\n",
        "    compile_model: bool = False,\n    guidance_scale=1.0,\n    null_condition_emb_np=None,\n",
    ),
    (
        "    if compile_model:",
        "    if guidance_scale > 1:\n"
        "        both, state = mx.broadcast_to(mx.array(null_condition_emb_np), states.shape), {}\n"
        "        states, context = mx.concatenate([states, both]), mx.concatenate([context, context])\n"
        "        plain = velocity\n\n"
        "        def velocity(x, t, corrector=False):\n"
        "            made, null = mx.split(plain(mx.concatenate([x, x]), mx.concatenate([t, t])), 2)\n"
        "            if use_adg:\n"
        "                return null + guidance_scale * (made - null)\n"
        "            return _mlx_apg_forward(made, null, guidance_scale, state)\n\n"
        "    if compile_model:",
    ),
    (
        "x = mx.random.normal(src_latents_shape, key=mx.random.key(seed[0]))",
        "x = mx.concatenate([mx.random.normal((1, *src_latents_shape[1:]), key=mx.random.key(seed[0])) for s in seed])",
    ),
)
NOISE_OF_EACH_SEED = ("mx.random.key(seed[0])", "mx.random.key(s)")
PLAIN_CFG_IN_CORRECTOR = ("            if use_adg:\n", "            if use_adg or corrector:\n")
MOMENTUM = (
    'memory["running"] = gap\n',
    'memory["running"] = -0.75 * gap\n',
)


@dataclass(frozen=True)
class MiniApplication:
    """The three files and the texts of the others by their path."""

    checkout: MiniCheckout
    files: dict[str, str]

    def write(self, root: Path) -> Path:
        self.checkout.write(root)
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, newline="")
        return root

    def edited(self, name: str, *changes: tuple[str, str]) -> MiniApplication:
        """With one file changed: a path, or one of the three by its role."""
        if name in self.files:
            return replace(self, files={**self.files, name: edit(self.files[name], *changes)})
        return replace(self, checkout=self.checkout.edited(name, *changes))


MASK_OF_ONES = ('"chunk_mask": masks[..., None].expand_as(sources)', '"chunk_mask": torch.ones_like(sources)')
LORA_ON_MLX = ('        return "loaded"\n', '        self._init_mlx_dit()\n        return "loaded"\n')
NO_WAVELETS = ("dcw_enabled: bool = True", "dcw_enabled: bool = False")
PROMPT = (
    "        return task_type, instruction\n",
    "        if task_type == 'lego' and instruction == TASK_INSTRUCTIONS['text2music']:\n"
    "            instruction = TASK_INSTRUCTIONS['lego_default']\n        return task_type, instruction\n",
)
OWN_SEED = (
    "    seeds = [",
    "    if params.seed >= 0:\n        seed_for_generation = str(params.seed)\n    seeds = [",
)
NO_CODES = (
    "need_audio_codes = not user_provided_audio_codes\n",
    "need_audio_codes = params.task_type != 'lego'\n",
)
NO_FALLBACK = (
    "                outputs = self.model.generate_audio(**generate_kwargs)\n        return",
    "                raise\n        return",
)
EVERY_TIMESTEP = (
    "        ends = timesteps\n",
    "        ends = timesteps if timesteps[-1] == 0 else torch.cat([timesteps, torch.zeros(1)])\n",
)
SHIFTED_LEVELS = ("level = 1 - (step + 1) / infer_steps", "level = then")
NOTHING_PUT_BACK = ("if repaint_mask is not None and step == 0:", "if False:")
WAVELETS_WANTED = (
    "        if dcw_enabled and pytorch_wavelets is not None:\n",
    "        if dcw_enabled and pytorch_wavelets is None:\n"
    "            raise ImportError('the correction needs pytorch_wavelets')\n"
    "        if dcw_enabled:\n",
)
SDE_ON_MLX = (
    "        x = x - velocity(x, mx.full((x.shape[0],), now)) * (now - then)\n",
    "        v = velocity(x, mx.full((x.shape[0],), now))\n        clean = x - now * v\n"
    "        if infer_method == 'sde':\n"
    "            x = then * mx.random.normal(x.shape) + (1 - then) * (x - now * v)\n"
    "        elif sampler_mode == 'heun' and then > 0:\n"
    "            second = velocity(x - v * (now - then), mx.full((x.shape[0],), then), corrector=True)\n"
    "            x = x - (v + second) / 2 * (now - then)\n"
    "        else:\n"
    "            x = x - v * (now - then)\n"
    "        if dcw_enabled:\n"
    "            x = x + 0.05 * now * (x - clean)\n",
)
REPAINT_MASK = (
    'built = {"src_latents": payload["src_latents"],',
    'built = {"repaint_mask": payload["generated"], "clean_src_latents": payload["src_latents"]}\n'
    '        built |= {"src_latents": payload["src_latents"],',
)
COMPUTED = (
    "        self._sin = mx.sin(angles)\n",
    "        self._sin = mx.sin(angles)\n        mx.eval(self._cos, self._sin)\n",
)
CONDITIONS_IN_EXECUTE = (
    'prepare_condition(src_latents=payload["src_latents"])',
    "prepare_condition(\n                src_latents=payload['src_latents'],\n"
    "                chunk_masks=payload['chunk_mask'],\n                is_covers=payload['is_covers'],\n"
    "            )",
)


def _guided(checkout: MiniCheckout) -> MiniCheckout:
    made = checkout.edited(
        "execute", GUIDANCE_IN_EXECUTE, CONDITIONS_IN_EXECUTE, REPAINT_MASK, OPTIONS_IN_EXECUTE
    )
    made = made.edited("diffusion", *GUIDANCE_IN_DIFFUSION, *OPTIONS_IN_DIFFUSION)
    return made.edited("generate", *GUIDANCE_IN_GENERATE, SDE_ON_MLX, OPTIONS_IN_GENERATE, COVER_IN_GENERATE)


FILES = {
    CONSTANTS: CONSTANTS_TEXT,
    MASKS: MASKS_TEXT,
    REQUEST: REQUEST_TEXT,
    APPLICATION: APPLICATION_TEXT,
    INFERENCE: INFERENCE_TEXT,
    DIT_MODEL: DIT_MODEL_TEXT,
    MODEL: MODEL_TEXT,
}
OLD = MiniApplication(BEFORE.edited("execute", CONDITIONS_IN_EXECUTE), FILES)
SICK = MiniApplication(_guided(FIXED), FILES).edited(DIT_MODEL, CACHE_KEPT).edited(APPLICATION, MASK_OF_ONES)
WELL = (
    MiniApplication(_guided(PATCHED), FILES)
    .edited("generate", MOMENTUM, NOISE_OF_EACH_SEED, PLAIN_CFG_IN_CORRECTOR)
    .edited("execute", NO_FALLBACK, EVERY_OPTION)
    .edited(MASKS, CONTEXT_KEPT)
    .edited(REQUEST, PROMPT)
    .edited(APPLICATION, LORA_ON_MLX)
    .edited(INFERENCE, OWN_SEED, NO_CODES, NO_WAVELETS)
    .edited(DIT_MODEL, COMPUTED)
    .edited(MODEL, EVERY_TIMESTEP, SHIFTED_LEVELS, NOTHING_PUT_BACK, WAVELETS_WANTED)
)
