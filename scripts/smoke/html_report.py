"""report.html: what report.json holds, drawn, with a player for the WAV files beside it; it needs no network.

The sounds are linked, not embedded: twelve long stems would make a page of 100 MB, and a lossy copy cannot be sought
to the sample, which comparing two sounds at one position needs.
"""

import base64
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from acestep.constants import SAMPLE_RATE
from smoke import words
from smoke.pictures import RANGE_DB, colour_bar, height_of, schedule_svg
from smoke.sounds import sounds_of
from smoke.templates import environment, file_name

TEMPLATE, PLAYER = "report.html.j2", "player.js"
CONTEXT_FILE = "context.wav"
SCHEDULES = {"wide": (900, 340), "narrow": (330, 300)}  # pixels of the page
LABELLED_HZ = (100, 1000, 2000, 5000, 10000, 20000)


def write_html(
    report: Mapping[str, Any],
    folder: Path,
    path: Path,
    at: Callable[[int], None] = lambda _: None,
) -> None:
    """Writes the page to `path`. It plays the WAV files of `folder`, in which it is to be: CONTEXT_FILE, stems, mixes.

    report: what `report_json` returns; at: called with the number of sounds so far.
    """
    runs, several = report["runs"], len(report["stems"]) > 1
    others = runs[: len(runs) - len(report["stems"])]
    run = next(
        seen
        for seen, stem in zip(runs[len(others) :], report["stems"], strict=True)
        if stem["label"] == report["shown"]
    )
    drawn = [*others, run]  # stems that keep the schedule would lie on one another
    taken = list(dict.fromkeys(name for seen in runs for name in seen["distances"]))
    titles = titles_of(report)
    player = Path(__file__).with_name(PLAYER).read_text(encoding="utf-8")
    page = environment().get_template(TEMPLATE).render(
        report=report,
        judged=run,
        others=others,
        drawn=drawn,
        several=several,
        taken=taken,
        swept=list(report["stems"][0].get("settings", {})),
        failing=failing(report),
        checked=sum(len(stem["checks"]) for stem in report["stems"]),
        most_steps=max([report["requested"], *(seen["evaluated"] for seen in report["runs"])]),
        schedules=schedules(drawn, report["pytorch_timesteps"]),
        sounds=sounds_of(titles, folder, at),
        places={name: place for place, name in enumerate(titles)},
        player=Markup(player),
        player_hash=base64.b64encode(hashlib.sha256(player.encode()).digest()).decode(),
        terms=words.TERMS,
        colour_bar=colour_bar(),
        range_db=RANGE_DB,
        frequencies=[(words.pitch(hz), 100 * height_of(hz, SAMPLE_RATE)) for hz in LABELLED_HZ],
        seconds=spent(report["time_costs"]),
        versions=versions(run["versions"], report["machine"]["versions"], report["tf32"]),
        command=command_line(report["machine"]["command"]),
        made=datetime.now().astimezone(),
    )  # fmt: skip
    path.write_text(page, encoding="utf-8", errors="backslashreplace")  # a name may be no UTF-8


def titles_of(report: Mapping[str, Any]) -> dict[str, str]:
    """What each file is, by its name: the context, the stems in the order in which they were asked for, the mixes."""
    stems, layered = report["stems"], "layer" in report["request"]
    titles = {CONTEXT_FILE: f"context: {file_name(report['request']['context'])}"}
    titles |= {stem["file"]: f"stem: {stem['label']}" for stem in stems}
    for number, name in enumerate(report["mix_gains"], start=1):
        if layered:
            titles[name] = (
                f"mix: context and layers up to {number}" if number > 1 else "mix: context and layer 1"
            )
        else:
            values = name.removeprefix("mix").removesuffix(".wav").removeprefix("-").replace("-", " ")
            over = "stems" if len(stems) > len(report["mix_gains"]) else "stem"
            titles[name] = f"mix: {over} over context{f', {values}' if values else ''}"
    return titles


def command_line(arguments: Sequence[str]) -> str:
    """A command for a POSIX shell, with the interpreter that ran it: relative where it is below this folder."""
    python = os.path.relpath(sys.executable)
    return shlex.join([sys.executable if python.startswith(os.pardir) else python, *arguments])


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


def versions(run: Mapping[str, str], reference: Mapping[str, str], tf32: str) -> dict[str, Mapping[str, str]]:
    """By heading; one alone where the run and PyTorch's side were computed with the same. tf32: "" on PyTorch."""
    of_run = {**run, "TF32 of mlx": tf32} if tf32 else run
    if run == reference:
        return {"Versions": of_run}
    return {"Versions of the run": of_run, "Versions of PyTorch's side": reference}
