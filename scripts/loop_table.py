"""The loop table: LEGO in every setting through the fork's public API on MLX, held to PyTorch from the same tensors.

Exit status: 0 every row is within its bound; 1 some are not.
"""

import argparse
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ACE-Step-1.5"), str(ROOT / "scripts")]
os.environ["MLX_ENABLE_TF32"] = "0"  # before mlx is imported: the bound is float32's
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore", category=FutureWarning)

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
import torch  # noqa: E402
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer, normalized_guidance  # noqa: E402

from acestep.handler import AceStepHandler  # noqa: E402
from acestep.inference import GenerationConfig, GenerationParams, generate_music  # noqa: E402
from acestep.models.checkpoint.config import read_config  # noqa: E402
from acestep.models.mlx.dit_generate import draw_noise  # noqa: E402
from acestep.models.pytorch.loop import torch_generate_diffusion, without_trailing_zeros  # noqa: E402
from acestep.models.pytorch.reference import load_reference_decoder  # noqa: E402
from acestep.models.tiny import write_tiny_checkpoint  # noqa: E402
from smoke.compare import relative_l2  # noqa: E402

BOUND = 2e-6  # relative L2 of the final latents, float32
SHAPES = ("plain", "xl")
TABLE = ROOT / "docs/parity.md"
HEADING = "## The loop in every LEGO setting\n"
CONTEXT = ROOT / "scripts/smoke.wav"


@dataclass(frozen=True)
class Setting:
    """A row: what is asked of the public API beyond its defaults, for a context of so many seconds."""

    name: str
    asked: dict[str, Any] = field(default_factory=dict)
    seconds: float = 6.0
    seeds: tuple[int, ...] = (3,)


def setting(name: str, steps: int = 20, guidance: float = 7.0, **more: Any) -> Setting:
    """A row at guidance 7 unless it says otherwise."""
    own = {key: more.pop(key) for key in ("seconds", "seeds") if key in more}
    return Setting(name, {"inference_steps": steps, "guidance_scale": guidance, **more}, **own)


SETTINGS = (
    setting("50 steps, no guidance", 50, 1.0),
    setting("50 steps, guidance 7", 50),
    setting("1 step", 1),
    setting("2 steps", 2),
    setting("200 steps", 200, 1.0),
    setting("guidance 1.5", guidance=1.5),
    setting("guidance 15", guidance=15.0),
    setting("shift 0.5", shift=0.5),
    setting("shift 2.4", shift=2.4),
    setting("shift 3, no guidance", guidance=1.0, shift=3.0),
    setting("shift 3", shift=3.0),
    setting("guidance while t >= 0.4", cfg_interval_start=0.4),
    setting("guidance while t <= 0.6", cfg_interval_end=0.6),
    setting(
        "guidance while 0.25 <= t <= 0.75, shift 3", shift=3.0, cfg_interval_start=0.25, cfg_interval_end=0.75
    ),
    setting("1 custom timestep", timesteps=[1.0]),
    setting("7 custom timesteps, two equal, zeros at the end", timesteps=[1, 0.83, 0.7, 0.7, 0.41, 0.12, 0.013, 0, 0]),
    setting("custom timesteps that begin below 1", timesteps=[0.9, 0.6, 0.3]),
    setting("200 custom timesteps", guidance=1.0, timesteps=[(1 - i / 200) ** 2 for i in range(200)]),
    setting("range 2 s to 4 s", repainting_start=2.0, repainting_end=4.0),
    setting("range from 3 s", repainting_start=3.0),
    setting("3 s context, filled up to 5.12 s", seconds=3.0),
    setting("1 s context, a range in it", seconds=1.0, repainting_start=0.2, repainting_end=0.7),
    setting("context of an odd number of frames", seconds=5.24),
    setting("3 seeds in a batch", seeds=(3, 4, 5)),
    setting("caption, lyrics, bpm and key", caption="warm choir", lyrics="la la la", bpm=90, keyscale="C major"),
    setting("sde, no guidance", guidance=1.0, infer_method="sde"),
    setting("sde, guidance 7, shift 3", shift=3.0, infer_method="sde"),
    setting("sde, 2 seeds, custom timesteps", seeds=(3, 4), infer_method="sde", timesteps=[1, 0.8, 0.5, 0.2]),
)  # fmt: skip


@torch.inference_mode()
def sde_in_torch(
    decoder: Any, asked: GenerationParams, seeds: list[int], given: dict[str, Any]
) -> torch.Tensor:
    """The SDE loop on PyTorch's decoder and diffusers' guidance, with the very noise that MLX draws.

    No library has this loop. A step goes to the predicted end, x - v t, and is noised back to the next t of the
    schedule: the level that the decoder is told next, so the shifted one.
    """
    line = torch.linspace(1, 0, asked.inference_steps + 1)[:-1]
    levels = (asked.shift * line / (1 + (asked.shift - 1) * line)).tolist()
    levels = [*(without_trailing_zeros(asked.timesteps) if asked.timesteps else levels), 0.0]
    guided, momentum = asked.guidance_scale > 1, MomentumBuffer(momentum=-0.75)
    x, states = given["noise"], given["encoder_hidden_states"]
    branches = [states, given["null_condition_emb"].expand_as(states)][: 1 + guided]
    context = given["context_latents"].repeat(len(branches), 1, 1)
    for step, (t, t_next) in enumerate(pairwise(levels), start=1):
        at = torch.full((len(context),), t)
        batch = {"hidden_states": x.repeat(len(branches), 1, 1), "context_latents": context}
        velocity = decoder(
            timestep=at, timestep_r=at, encoder_hidden_states=torch.cat(branches), **batch
        ).sample
        if guided:
            velocity = normalized_guidance(
                *velocity.chunk(2), asked.guidance_scale - 1, momentum, 0.0, 2.5, True, norm_dim=(1,)
            )
        noise = torch.from_numpy(np.array(draw_noise(seeds, tuple(x.shape), step)))
        x = t_next * noise + (1 - t_next) * (x - velocity * t)
    return x


class Side:
    """A tiny checkpoint of one shape, loaded for MLX behind the public API and for PyTorch."""

    def __init__(self, root: Path, shape: str) -> None:
        self.handler, self.root = AceStepHandler(), root
        folder = write_tiny_checkpoint(root, "base", shape)  # type: ignore[arg-type]
        message, loaded = self.handler.initialize_service(root, folder.name, device="cpu", use_mlx_dit=True)
        if not loaded:
            raise RuntimeError(message)
        self.decoder = load_reference_decoder(folder, read_config(folder))

    def context(self, seconds: float) -> Path:
        """The beginning of the smoke run's context."""
        path = self.root / f"context-{seconds:g}.wav"
        samples, rate = soundfile.read(CONTEXT, frames=round(seconds * 48000))
        soundfile.write(path, samples, rate, subtype="FLOAT")
        return path

    def distance(self, row: Setting) -> float:
        """Relative L2 of the final latents to PyTorch's, from the same noise, context and encoder states."""
        instruction = self.handler.generate_instruction("lego", track_name="vocals")
        asked = GenerationParams(
            src_audio=str(self.context(row.seconds)), instruction=instruction, **row.asked
        )
        seeds = list(row.seeds)
        config = GenerationConfig(len(seeds), use_random_seed=False, seeds=seeds)
        result = generate_music(self.handler, None, asked, config)
        if not result.success:
            raise RuntimeError(f"{row.name}: {result.error}")
        outputs = result.extra_outputs
        names = ("noise", "context_latents", "encoder_hidden_states", "null_condition_emb")
        given = {name: torch.from_numpy(outputs[name]) for name in names}
        if asked.infer_method == "sde":
            want = sde_in_torch(self.decoder, asked, seeds, given)
        else:
            want = torch_generate_diffusion(
                self.decoder,
                infer_steps=asked.inference_steps,
                shift=asked.shift,
                guidance_scale=asked.guidance_scale,
                cfg_interval_start=asked.cfg_interval_start,
                cfg_interval_end=asked.cfg_interval_end,
                timesteps=asked.timesteps,
                disable_tqdm=True,
                **given,
            ).latents
        return relative_l2(torch.from_numpy(outputs["target_latents"]), want)


def measure(sides: dict[str, Side]) -> Iterator[tuple[Setting, dict[str, float]]]:
    """Row by row, the distance in each shape."""
    for row in SETTINGS:
        yield row, {shape: side.distance(row) for shape, side in sides.items()}


def table(rows: list[tuple[Setting, dict[str, float]]]) -> str:
    """Markdown, with where it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("mlx", "torch", "diffusers"))
    head = (
        f"{HEADING}\n"
        "Relative L2 distance of the final latents, MLX to PyTorch, float32, tiny random weights in the plain and\n"
        f"the XL shape. Every row is to be at most {BOUND:.0e}. Made by `make loop-table`; PyTorch's side is\n"
        "diffusers' AceStepPipeline, for SDE, which no library has, the lines in `scripts/loop_table.py`.\n\n"
        f"Measured on {platform.system()} {platform.machine()}, {mx.default_device()}, {versions}.\n\n"
        f"| setting | {' | '.join(SHAPES)} |\n|---|{'---|' * len(SHAPES)}\n"
    )
    return head + "".join(
        f"| {row.name} | {' | '.join(f'{distances[shape]:.1e}' for shape in SHAPES)} |\n"
        for row, distances in rows
    )


def main(target: Path = TABLE) -> int:
    """Measures, writes, and names the rows that are too far."""
    torch.set_num_threads(1)  # tiny sizes gain nothing from more
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sides = {shape: Side(Path(folder) / shape, shape) for shape in SHAPES}
        for row, distances in measure(sides):
            print(f"{row.name}: {distances}", flush=True)
            rows.append((row, distances))
    target.parent.mkdir(parents=True, exist_ok=True)
    before = target.read_text(encoding="utf-8").partition(HEADING)[0] if target.exists() else ""
    target.write_text(before + table(rows), encoding="utf-8")
    far = [
        row.name for row, distances in rows if not all(distance <= BOUND for distance in distances.values())
    ]
    print(f"written: {target}" + (f"; further than {BOUND:.0e}: {', '.join(far)}" if far else ""))
    return 1 if far else 0


def page_asked_for(arguments: list[str]) -> Path:
    """The Markdown file of the command line."""
    parser = argparse.ArgumentParser(description="Measures the loop in every LEGO setting against PyTorch.")
    parser.add_argument(
        "page",
        nargs="?",
        type=Path,
        default=TABLE,
        help="the table is written there, in place of all that follows its heading (default: docs/parity.md)",
    )
    page: Path = parser.parse_args(arguments).page
    return page


if __name__ == "__main__":
    sys.exit(main(page_asked_for(sys.argv[1:])))
