"""report.html: what report.json holds, drawn and to be listened to, in one file that needs no other and no network."""

import base64
import io
import math
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import soundfile
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.pictures import RANGE_DB, colour_bar, height_of, power_picture, schedule_svg, spectrogram_webp

TEMPLATE = "report.html.j2"
BLOCK = 10 * SAMPLE_RATE  # samples written at once: the MP3 encoder keeps a whole block on its stack
MP3 = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "VARIABLE", "compression_level": 0.5}
WIDE, NARROW = (900, 340), (330, 300)  # of the schedule, in pixels of the page
LABELLED_HZ = (100, 1000, 2000, 5000, 10000, 20000)
LOWEST_DISTANCE = 1e-9  # where the bars of the distances begin; they end at 1


@dataclass(frozen=True)
class Sound:
    """A sound as the page has it: `power` is drawn once the loudest of all sounds is known."""

    name: str
    seconds: float
    broken: int  # samples that are not numbers, played and drawn as silence
    power: np.ndarray
    mp3: bytes


def write_html(report: Mapping[str, Any], context: np.ndarray, folder: Path) -> None:
    """Writes report.html into `folder`, with the context and every WAV that is in there embedded as MP3.

    report: what report.json holds; context: [samples, 2] at 48 kHz.
    """
    sounds = take_in(context, folder)
    loudest = max(float(sound.power.max()) for sound in sounds)
    runs, pytorch = report["runs"], report["pytorch_timesteps"]
    page = environment().get_template(TEMPLATE).render(
        report=report,
        failing=[check["name"] for check in report["checks"] if not check["holds"]],
        most_steps=max([report["asked"], *(run["evaluated"] for run in runs)]),
        schedules={
            name: Markup(schedule_svg(runs, pytorch, *size))
            for name, size in (("wide", WIDE), ("narrow", NARROW))
        },
        sounds=[figure(sound, loudest) for sound in sounds],
        colour_bar=Markup(colour_bar()),
        range_db=RANGE_DB,
        frequencies=[
            (f"{hz / 1000:g} kHz" if hz >= 1000 else f"{hz} Hz", 100 * height_of(hz, SAMPLE_RATE))
            for hz in LABELLED_HZ
        ],
        seconds=spent(report["time_costs"]),
        command=shlex.join(report["machine"]["command"]),
        made=datetime.now().astimezone(),
    )  # fmt: skip
    (folder / "report.html").write_text(page, encoding="utf-8")


def take_in(context: np.ndarray, folder: Path) -> list[Sound]:
    """The context, the stem or stems, and whatever is mixed last."""
    files = sorted(folder.glob("*.wav"), key=lambda path: (path.stem.startswith("mix"), path.name))
    with (
        ThreadPoolExecutor() as threads
    ):  # the encoder takes seconds for a long sound, and lets go of the GIL
        first = threads.submit(sound, "context", context)
        rest = [
            threads.submit(lambda path: sound(path.name, soundfile.read(path, dtype="float32")[0]), path)
            for path in files
        ]
        return [first.result(), *(each.result() for each in rest)]


def sound(name: str, samples: np.ndarray) -> Sound:
    """Encodes and analyses samples [n, channels] at 48 kHz."""
    broken = int(np.count_nonzero(~np.isfinite(samples).all(axis=1)))
    samples = np.nan_to_num(samples, nan=0.0, posinf=0.0, neginf=0.0)
    power = power_picture(samples, SAMPLE_RATE)
    return Sound(name, len(samples) / SAMPLE_RATE, broken, power, encoded(samples))


def encoded(samples: np.ndarray) -> bytes:
    """MP3 at about 120 kbit/s; samples beyond full scale are clipped, as any player would."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE, samples.shape[1], **MP3) as writer:
        for start in range(0, len(samples), BLOCK):
            writer.write(np.clip(samples[start : start + BLOCK], -1, 1))
    return file.getvalue()


def figure(sound: Sound, loudest: float) -> dict[str, Any]:
    """A sound as the template takes it."""
    ticks = MaxNLocator(6, steps=[1, 2, 3, 5, 6, 10]).tick_values(0, sound.seconds)
    return {
        "name": sound.name,
        "seconds": sound.seconds,
        "broken": sound.broken,
        "audio": data_uri("audio/mpeg", sound.mp3),
        "picture": data_uri("image/webp", spectrogram_webp(sound.power, loudest)),
        "times": [
            (words.clock(tick), 100 * tick / sound.seconds) for tick in ticks if tick < 0.97 * sound.seconds
        ],
    }


def data_uri(kind: str, content: bytes) -> Markup:
    """A file as an address that holds it."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def spent(time_costs: Mapping[str, float]) -> dict[str, float]:
    """What took how long, without the sum and the mean of the steps."""
    named = {key.removeprefix("dit_").removesuffix("_time_cost"): cost for key, cost in time_costs.items()}
    return {
        key.replace("_", " ").replace("vae", "VAE"): cost
        for key, cost in named.items()
        if key not in ("total", "diffusion_per_step")
    }


def environment() -> jinja2.Environment:
    """Escapes everything that is not Markup; a name that the report lacks is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        clock=words.clock,
        dbfs=words.dbfs,
        distance=words.distance,
        gigabytes=words.gigabytes,
        place=place,
        seconds=words.seconds,
    )
    return made


def place(value: float) -> float:
    """Where a distance is on the bars' logarithmic scale, 0 to 100 %."""
    if not math.isfinite(value):
        return 100.0
    share = 1 - math.log10(max(value, LOWEST_DISTANCE)) / math.log10(LOWEST_DISTANCE)
    return 100 * min(share, 1.0)
