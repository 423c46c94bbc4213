"""report.html: what report.json holds, drawn and to be listened to, in one file that needs no other and no network."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.pictures import RANGE_DB, colour_bar, height_of, schedule_svg
from smoke.sounds import sounds_of

TEMPLATE = "report.html.j2"
SCHEDULES = {"wide": (900, 340), "narrow": (330, 300)}  # pixels of the page
LABELLED_HZ = (100, 1000, 2000, 5000, 10000, 20000)
LOWEST_DISTANCE = 1e-9  # where the bars of the distances begin; they end at 1


def write_html(
    report: Mapping[str, Any],
    context: np.ndarray,
    folder: Path,
    path: Path,
    at: Callable[[int], None] = lambda _: None,
) -> None:
    """Writes the page to `path`, with the context and every WAV that is in `folder` embedded as MP3.

    report: what `report_json` returns; context: [samples, 2] at 48 kHz; at: called with the number of sounds so far.
    """
    runs, several = report["runs"], len(report["stems"]) > 1
    others = runs[: len(runs) - len(report["stems"])]
    run = next(
        seen
        for seen, stem in zip(runs[len(others) :], report["stems"], strict=True)
        if stem["label"] == report["shown"]
    )
    drawn = [*others, run]  # stems that keep the schedule would lie on one another
    page = environment().get_template(TEMPLATE).render(
        report=report,
        judged=run,
        others=others,
        drawn=drawn,
        several=several,
        taken=list(dict.fromkeys(name for seen in runs for name in seen["distances"])),
        failing=failing(report),
        checked=sum(len(stem["checks"]) for stem in report["stems"]),
        most_steps=max([report["requested"], *(seen["evaluated"] for seen in report["runs"])]),
        schedules=schedules(drawn, report["pytorch_timesteps"]),
        sounds=sounds_of(context, folder, at),
        colour_bar=colour_bar(),
        range_db=RANGE_DB,
        frequencies=[(words.pitch(hz), 100 * height_of(hz, SAMPLE_RATE)) for hz in LABELLED_HZ],
        seconds=spent(report["time_costs"]),
        versions=versions(run["versions"], report["machine"]["versions"]),
        command=shlex.join(report["machine"]["command"]),
        made=datetime.now().astimezone(),
    )  # fmt: skip
    path.write_text(page, encoding="utf-8", errors="backslashreplace")  # a name may be no UTF-8


def failing(report: Mapping[str, Any]) -> list[str]:
    """The checks that fail, of several stems with the stem."""
    stems = report["stems"]
    return [
        check["name"] if len(stems) == 1 else f"{stem['label']} {check['name']}"
        for stem in stems
        for check in stem["checks"]
        if not check["holds"]
    ]


def schedules(runs: Sequence[Mapping[str, Any]], pytorch: Sequence[float]) -> dict[str, Markup]:
    """The schedule once for a desk and once for a phone, where the same picture would be too small to read."""
    return {
        name: Markup(schedule_svg(runs, pytorch, width, height))
        for name, (width, height) in SCHEDULES.items()
    }


def spent(time_costs: Mapping[str, float]) -> dict[str, float]:
    """What took how long, without the sum and the mean of the steps."""
    named = {key.removeprefix("dit_").removesuffix("_time_cost"): cost for key, cost in time_costs.items()}
    return {
        key.replace("_", " ").replace("vae", "VAE"): cost
        for key, cost in named.items()
        if key not in ("total", "diffusion_per_step")
    }


def versions(run: Mapping[str, str], reference: Mapping[str, str]) -> dict[str, Mapping[str, str]]:
    """By heading; one alone where the run and PyTorch's side were computed with the same."""
    if run == reference:
        return {"Versions": run}
    return {"Versions of the run": run, "Versions of PyTorch's side": reference}


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
        file_name=lambda path: path.replace("\\", "/").rpartition("/")[2],
        gigabytes=words.gigabytes,
        place=place,
        seconds=words.seconds,
    )
    return made


def place(distance: float) -> float:
    """Where a distance is on the bars' logarithmic scale, 0 to 100 %; at the end where it is no number."""
    if not math.isfinite(distance):
        return 100.0
    return min(100.0, 100 - 100 * math.log10(max(distance, LOWEST_DISTANCE)) / math.log10(LOWEST_DISTANCE))
