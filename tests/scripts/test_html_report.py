"""report.html as its reader has it: offline, every figure in it, the WAV files beside it, whatever the run came to."""

import base64
import hashlib
import io
import itertools
import json
import pickle
import platform
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from PIL import Image

from acestep.constants import TRACK_NAMES
from smoke import html_report, sounds, words
from smoke.compare import Distances
from smoke.folder import RunFolder
from smoke.html_report import command_line, write_html
from smoke.judge import stages
from smoke.machine import versions as versions_here
from smoke.pictures import COLUMNS, ROWS, height_of, power_picture
from smoke.report import Audio, report_json, write_json, write_wav
from smoke.request import Request
from smoke.run import Run
from smoke.sounds import time_labels
from smoke.stem import mix_of, stems_of

RATE = 48_000
VOID = {"meta", "link", "img", "br", "hr", "input", "source"}
FIFTY = [1 - i / 50 for i in range(50)]
EIGHT = [1 - i / 8 for i in range(8)]
LEVELS = {"peak": 0.5, "rms": 0.25, "clipped": 0.0, "gain": 1.78}
SILENT = {"peak": 0.0, "rms": 0.0, "clipped": 0.0, "gain": 1.0}


def drawn_once(draw: Callable[..., Any]) -> Callable[..., Any]:
    """`draw`, which keeps what it returned for the same arguments."""
    kept: dict[bytes, Any] = {}

    def drawn(*given: Any, **named: Any) -> Any:
        key = pickle.dumps((given, named))
        if key not in kept:
            kept[key] = draw(*given, **named)
        return kept[key]

    return drawn


@pytest.fixture(scope="module", autouse=True)
def _pictures_drawn_once() -> Iterator[None]:
    """The pages of this module show the same few sounds and schedules; drawing takes most of a page's time."""
    drawings = ((sounds, "power_picture"), (sounds, "spectrogram_webp"), (html_report, "schedule_svg"))
    with pytest.MonkeyPatch.context() as patch:
        for module, name in drawings:
            patch.setattr(module, name, drawn_once(getattr(module, name)))
        yield


def tone(hertz: float = 1000.0, seconds: float = 0.5) -> np.ndarray:
    """float32 [samples, 2]"""
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)
    return np.stack([wave, 0.5 * wave], axis=1).astype(np.float32)


class Page(HTMLParser):
    """A parsed page: `text` as it is read, `tags` as (name, attributes); an unbalanced one is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "these are never closed"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def embedded(address: str, kind: str) -> io.BytesIO:
    start = f"data:{kind};base64,"
    assert address.startswith(start)
    return io.BytesIO(base64.b64decode(address.removeprefix(start), validate=True))


@pytest.fixture(scope="module")
def make_page(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SimpleNamespace]:
    """make_page(...): a report as the smoke run writes it, without the run; `page`, `report`, `folder`."""
    here = versions_here()

    def make(
        timesteps: list[float] = FIFTY,
        pytorch: list[float] = FIFTY,
        latents: float = 3.8e-7,
        stem: np.ndarray | None = None,
        levels: dict[str, float] = LEVELS,
        before: bool = False,
        context_name: str = "song.wav",
        notes: tuple[str, ...] = (),
        versions: dict[str, str] | None = None,
        tracks: tuple[str, ...] = ("vocals",),
        seeds: tuple[int, ...] = (42,),
        worse: int | None = None,
        not_compared: str | None = None,
        settings: list[dict[str, object]] | None = None,
        layered: bool = False,
    ) -> SimpleNamespace:
        scratch = tmp_path_factory.mktemp("page")
        results = RunFolder(scratch, ["page"], scratch)
        sound = tone(3000) if stem is None else stem
        samples = len(sound)
        request = Request(
            Path("/music") / context_name, None, "vocals", len(pytorch), 1.0, 1.0, 42, "mlx", "auto"
        )

        def row(name: str, ran: list[float], latents: float) -> tuple[str, Run, Distances | None]:
            costs = {
                "dit_diffusion_time_cost": 12.5,
                "dit_diffusion_per_step_time_cost": 0.25,
                "dit_vae_decode_time_cost": 3.5,
            }
            run = Run(
                requested=len(pytorch), timesteps=ran, device="gpu", seconds_a_step=0.25, time_costs=costs,
                stem={"samples": samples, **levels}, tensors={}, notes=notes,
                versions=versions or here,
            )  # fmt: skip
            if not_compared:
                return name, run, None
            apart = [abs(a - b) for a, b in zip(ran, pytorch, strict=False)]
            schedule = max(apart) if len(ran) == len(pytorch) else float("inf")
            return name, run, Distances(schedule=schedule, latents=latents, pytorch_timesteps=pytorch)

        others = [row("before: patches reverted", EIGHT, 0.28)] if before else []
        requests = [replace(request, track=track, seed=seed) for track in tracks for seed in seeds]
        if layered:
            requests = [replace(asked, layer=number) for number, asked in enumerate(requests, start=1)]
        rows = [row("after: this fork", timesteps, latents) for _ in requests]
        if worse is not None:
            rows[worse] = row("after: this fork", EIGHT, 0.28)
        stems = stems_of(requests, rows, samples=len(tone()))
        audio = Audio(tone(), results)
        for made in stems:
            audio.add(made.file, sound, mix_of(requests, made.request), made.request.seed)
        comparison = {"mode": "full", "device": "cpu", "not_compared": not_compared}
        report = report_json(request, others, stems, audio.mix_gains, comparison)
        folder = results.path
        for stem, values in zip(report["stems"], settings or [], strict=False):
            stem["settings"] = values
        write_json(report, folder / "report.json")
        write_wav(folder / "context.wav", tone())
        write_html(report, folder, folder / "report.html")
        return SimpleNamespace(
            page=Page((folder / "report.html").read_text("utf-8")), report=report, folder=folder
        )

    return make


@pytest.fixture(scope="module")
def good(make_page: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return make_page(before=True)


@pytest.fixture(scope="module")
def bad(make_page: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    return make_page(timesteps=EIGHT, latents=float("nan"), stem=0 * tone(), levels=SILENT)


def test_the_page_is_sound_html(good: SimpleNamespace) -> None:
    ids = [attributes["id"] for _, attributes in good.page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert good.page.all("html") == [{"lang": "en"}]
    assert all(attributes["alt"] for attributes in good.page.all("img"))
    assert len(good.page.all("h1")) == 1
    described = {
        attributes["aria-labelledby"] for _, attributes in good.page.tags if "aria-labelledby" in attributes
    }
    assert described <= set(ids)


def test_nothing_is_referred_to_but_the_files_of_the_run(good: SimpleNamespace) -> None:
    addresses = [
        value
        for _, attributes in good.page.tags
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "poster", "action", "data", "xlink:href"}
    ]
    files = {address for address in addresses if not address.startswith(("data:", "#"))}
    assert files == {"context.wav", "stem.wav", "mix.wav", "report.json"}
    assert all((good.folder / name).is_file() for name in files)
    assert set(re.findall(r"url\(.", good.page.html)) <= {"url(#"}
    assert "@import" not in good.page.html
    assert "http:" not in good.page.html
    assert "https:" not in good.page.html
    assert good.page.all("link") == []


def test_the_one_script_is_the_one_that_the_page_allows(good: SimpleNamespace) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", good.page.html, re.DOTALL)
    (policy,) = [
        tag["content"] for tag in good.page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"
    ]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "fetch(" not in script
    assert "innerHTML" not in script


def test_references_inside_the_page_lead_somewhere(good: SimpleNamespace) -> None:
    ids = {attributes["id"] for _, attributes in good.page.tags if "id" in attributes}
    inside = {attributes["href"][1:] for attributes in good.page.all("use")}
    inside |= set(re.findall(r"url\(#([^)]*)\)", good.page.html))
    assert inside
    assert inside <= ids


def test_the_verdict_comes_first(good: SimpleNamespace, bad: SimpleNamespace) -> None:
    assert "50 steps requested, 50 evaluated ✓ PASS: 7 checks" in good.page.text
    assert (
        "50 steps requested, 8 evaluated ✗ FAIL: 4 of 7 checks: steps, schedule, latents, sound"
        in bad.page.text
    )
    assert good.page.text.index("requested, 50") < good.page.text.index("before: patches reverted")


def test_a_run_that_was_not_compared_says_so_and_shows_no_distance(
    make_page: Callable[..., SimpleNamespace],
) -> None:
    text = make_page(not_compared="--compare none").page.text
    assert "✓ PASS: 5 checks Not compared with PyTorch: --compare none." in text
    assert "Distances, stage by stage" not in text


def test_the_figures_of_the_report_are_shown(good: SimpleNamespace) -> None:
    report, text = good.report, good.page.text
    for shown in (
        "before: patches reverted 8 of 50",
        "after: this fork 50 of 50",
        "a step 250 ms diffusion 12.5 s VAE decode 3.5 s schedule to PyTorch 0 final latents to PyTorch 3.8e-07",
        "at most 1e-06 is right",
        "at most 2e-06 is right",
        "vocals for song.wav (0.5 s)",
        "PyTorch, 50",
        "root mean square −12.0 dBFS peak −6.0 dBFS beyond full scale 0.00 % gain applied since × 1.78",  # noqa: RUF001
        f"mix: stem over context mix.wav 0.5 s, at a gain of {report['mix_gain']:.2f}",
        "guidance scale 1.0",
        "seed 42",
        report["machine"]["platform"],
        f"Versions python {platform.python_version()} torch {report['machine']['versions']['torch']}",
    ):
        assert shown in text
    for check in report["checks"]:
        assert f"{check['name']} {check['sentence']}" in text


def test_every_timestep_is_listed_beside_pytorchs_and_the_command_can_be_run_again(
    make_page: Callable[..., SimpleNamespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/lego_smoke.py", "--context", "it's my song.wav"])
    shifted = [t if i != 3 else t + 1e-3 for i, t in enumerate(FIFTY)]
    text = make_page(timesteps=shifted).page.text
    for i, (t, reference) in enumerate(zip(shifted, FIFTY, strict=True), start=1):
        difference = "0" if t == reference else "1.0e-03"
        assert f" {i} {t:.7f} {reference:.7f} {difference} " in text
    command = ["scripts/lego_smoke.py", "--context", "it's my song.wav"]
    assert command_line(command) in text
    assert shlex.split(command_line(command))[1:] == command


def test_the_interpreter_is_relative_below_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = tmp_path / "my env" / "bin" / "python"
    monkeypatch.setattr("sys.executable", str(python))
    assert command_line(["run.py"]) == f"'{python}' run.py"
    monkeypatch.chdir(tmp_path)
    assert command_line(["run.py"]) == "'my env/bin/python' run.py"


def dots(page: Page, colour: str) -> list[list[tuple[float, float]]]:
    """The places of the dots of a colour: from the wide drawing, then from the narrow one."""
    found: dict[str, list[tuple[float, float]]] = {"schedule900": [], "schedule330": []}
    for use in page.all("use"):
        if f"fill: var({colour})" in use["style"]:
            found[use["href"][1:].partition("-")[0]].append((float(use["x"]), float(use["y"])))
    return list(found.values())


def test_each_schedule_is_drawn_dot_by_dot(good: SimpleNamespace) -> None:
    for judged, other, reference in zip(
        dots(good.page, "--judged"), dots(good.page, "--other"), dots(good.page, "--reference"), strict=True
    ):
        assert (len(judged), len(other), len(reference)) == (50, 8, 50)
        assert judged == reference, "equal schedules lie on each other"
        assert other[0] == judged[0]
        assert [x for x, _ in other] == [x for x, _ in judged[:8]]
        assert all(lower[1] < upper[1] for lower, upper in itertools.pairwise(judged)), "t falls"
        assert other[7][1] - other[0][1] > 5 * (judged[7][1] - judged[0][1])


def chosen(page: Page) -> list[tuple[str, str]]:
    """The sounds of the player in their order: file and title."""
    return [(unquote(sound["src"]), sound["aria-label"]) for sound in page.all("audio")]


def test_context_stem_and_mix_have_a_place_in_the_player(good: SimpleNamespace) -> None:
    assert chosen(good.page) == [
        ("context.wav", "context: song.wav"),
        ("stem.wav", "stem: vocals"),
        ("mix.wav", "mix: stem over context"),
    ]
    for sound in good.page.all("audio"):
        samples, rate = soundfile.read(good.folder / sound["src"])
        assert float(sound["data-seconds"]) == len(samples) / rate
        assert "controls" in sound, "they are all that plays where scripts are off"


def test_the_player_can_be_used_by_keyboard_and_is_named(good: SimpleNamespace) -> None:
    buttons = good.page.all("button")
    assert [button.get("data-sound") for button in buttons] == [None, "0", "1", "2"]
    assert [button["aria-keyshortcuts"] for button in buttons] == ["Space", "1", "2", "3"]
    assert all(button["type"] == "button" for button in buttons)
    assert all(button["aria-label"] for button in buttons[1:])
    (slider,) = good.page.all("input")
    assert (slider["type"], slider["aria-label"]) == ("range", "Position")
    assert ":focus-visible" in good.page.html
    assert "outline: none" not in good.page.html


def test_what_the_script_looks_up_is_in_the_page(good: SimpleNamespace) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", good.page.html, re.DOTALL)
    ids = {attributes["id"] for _, attributes in good.page.tags if "id" in attributes}
    looked_up = set(re.findall(r'find\("(\w+)"\)', script))
    assert {"play", "position", "transport"} <= looked_up <= ids
    classes = set(" ".join(tag.get("class", "") for _, tag in good.page.tags).split())
    selected = set(re.findall(r"\.([a-z]+)", " ".join(re.findall(r'All\("([^"]*)"', script))))
    assert {"sound", "head", "picture"} <= selected <= classes


def test_the_spectrograms_are_bright_where_the_sound_is(good: SimpleNamespace) -> None:
    for image, hertz in zip(good.page.all("img"), (1000, 3000), strict=False):
        picture = Image.open(embedded(image["src"], "image/webp")).convert("L")
        assert picture.size == (COLUMNS, ROWS)
        brightest = np.asarray(picture, dtype=float).mean(axis=1).argmax()
        assert brightest == pytest.approx((1 - height_of(hertz, RATE)) * ROWS, abs=3)


def test_a_click_anywhere_in_a_long_sound_is_seen_in_its_place() -> None:
    samples = np.zeros((60 * RATE, 2), dtype=np.float32)
    a_column = len(samples) // COLUMNS
    click = round(500.95 * a_column)
    samples[click : click + 20] = 0.5
    columns = power_picture(samples, RATE).sum(axis=0)
    assert columns.argmax() in (500, 501)
    assert set(np.flatnonzero(columns > columns.max() / 1000)) <= {499, 500, 501, 502}


def test_times_are_labelled_at_round_values() -> None:
    texts, places = zip(*time_labels(6), strict=True)
    assert texts == tuple(f"{i} s" for i in range(6))
    assert places == pytest.approx([100 * i / 6 for i in range(6)])
    assert time_labels(600) == [("0 s", 0), ("2:00", 20), ("4:00", 40), ("6:00", 60), ("8:00", 80)]


def test_a_silent_stem_is_said_to_be_silent(bad: SimpleNamespace) -> None:
    sentence = "sound : the stem's root mean square before any gain is 0.0e+00 of full scale"
    assert sentence in bad.page.text
    assert "root mean square −∞ dBFS peak −∞ dBFS" in bad.page.text  # noqa: RUF001
    silent = Image.open(embedded(bad.page.all("img")[1]["src"], "image/webp")).convert("L")
    assert np.asarray(silent).max() < 5


def test_what_has_no_distance_is_put_into_words(bad: SimpleNamespace) -> None:
    assert "schedule to PyTorch length mismatch final latents to PyTorch contains NaN" in bad.page.text


def test_samples_that_are_not_numbers_do_not_reach_the_files(
    make_page: Callable[..., SimpleNamespace],
) -> None:
    stem = tone(3000)
    stem[100] = np.nan
    made = make_page(stem=stem, levels={**LEVELS, "rms": float("nan"), "peak": float("nan")})
    assert "root mean square contains NaN" in made.page.text
    assert not made.report["ok"]
    for name in ("stem.wav", "mix.wav"):
        assert np.abs(soundfile.read(made.folder / name)[0]).max() < 0.8


def test_a_stem_of_another_length_is_kept_whole(make_page: Callable[..., SimpleNamespace]) -> None:
    made = make_page(stem=tone(3000, seconds=0.75))
    assert soundfile.info(made.folder / "mix.wav").frames == 0.75 * RATE
    assert "stem: vocals stem.wav 0.75 s" in made.page.text


def test_a_hostile_name_is_shown_as_it_is(make_page: Callable[..., SimpleNamespace]) -> None:
    name = "\"onerror='alert(1)' {{ 7 * 7 }} &amp; </title><img src=x><script>alert(1)<%2fscript>.wav"
    page = make_page(context_name=name).page
    assert f"vocals for {name.rpartition('/')[2]} (0.5 s)" in page.text
    assert f"context /music/{name}" in page.text
    assert len(page.all("img")) == 3
    assert page.all("script") == [{}]
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)


@pytest.mark.parametrize("steps", [1, 4, 1000])
def test_any_number_of_steps_fits(steps: int, make_page: Callable[..., SimpleNamespace]) -> None:
    """Also where more were run than asked for: 8 for 4."""
    falling = [1 - i / steps for i in range(steps)]
    page = make_page(timesteps=EIGHT if steps == 4 else falling, pytorch=falling).page
    widths = [
        float(width)
        for width in re.findall(r"width: ([\d.]+)%", " ".join(a.get("style", "") for _, a in page.tags))
    ]
    assert max(widths) == 100
    assert (
        f"{steps} {'step' if steps == 1 else 'steps'} requested, {8 if steps == 4 else steps} evaluated"
        in page.text
    )
    assert len(page.html) < 1_500_000


def test_what_another_interpreter_ran_with_is_shown(make_page: Callable[..., SimpleNamespace]) -> None:
    note = "torchaudio is not installed; an empty module stood in for it"
    text = make_page(notes=(note,), versions={"python": "3.11.0", "transformers": "4.57.1"}).page.text
    assert f"Notes {note}" in text
    assert "Versions of the run python 3.11.0 transformers 4.57.1 Versions of PyTorch's side python" in text


@pytest.fixture(scope="module")
def several(make_page: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    """Two tracks and two seeds, the third of the four stems cut short."""
    return make_page(before=True, tracks=("drums", "bass"), seeds=(1, 2), worse=2)


def test_several_stems_each_have_their_file_and_each_seed_its_mix(several: SimpleNamespace) -> None:
    files = sorted(path.name for path in several.folder.glob("*.wav"))
    stems = ["stem-bass-seed-1.wav", "stem-bass-seed-2.wav", "stem-drums-seed-1.wav", "stem-drums-seed-2.wav"]
    assert files == ["context.wav", "mix-seed-1.wav", "mix-seed-2.wav", *stems]
    assert [stem["file"] for stem in several.report["stems"]] == stems[2:] + stems[:2]
    mix, _ = soundfile.read(several.folder / "mix-seed-1.wav")
    both = tone() + 2 * tone(3000)
    gain = several.report["mix_gains"]["mix-seed-1.wav"]
    assert gain == pytest.approx(10 ** (-1 / 20) / np.abs(both).max())
    assert np.abs(mix - gain * both).max() < 1e-6


def test_the_stem_that_fails_is_named_and_its_figures_are_shown(several: SimpleNamespace) -> None:
    assert not several.report["ok"]
    assert [stem["ok"] for stem in several.report["stems"]] == [True, True, False, True]
    assert (several.report["shown"], several.report["evaluated"]) == ("bass seed 1", 8)
    text = several.page.text
    assert (
        "50 steps requested, 8 evaluated ✗ FAIL: 3 of 28 checks: bass seed 1 steps, bass seed 1 schedule"
        in text
    )
    assert "drums seed 1, drums seed 2, bass seed 1, bass seed 2 for song.wav" in text
    assert "Single figures are those of bass seed 1, the farthest from PyTorch." in text


def test_several_stems_are_each_shown(several: SimpleNamespace) -> None:
    text = several.page.text
    drums, bass = "drums seed 1 50 of 50 drums seed 2 50 of 50", "bass seed 1 8 of 50 bass seed 2 50 of 50"
    assert f"before: patches reverted 8 of 50 {drums} {bass}" in text
    assert chosen(several.page) == [
        ("context.wav", "context: song.wav"),
        *((stem["file"], f"stem: {stem['label']}") for stem in several.report["stems"]),
        ("mix-seed-1.wav", "mix: stems over context, seed 1"),
        ("mix-seed-2.wav", "mix: stems over context, seed 2"),
    ]
    for place, stem in enumerate(several.report["stems"], start=2):
        assert (
            f"{stem['track']} {stem['seed']} −12.0 dBFS −6.0 dBFS 0.00 % × 1.78 not silent {place} {stem['file']}"  # noqa: RUF001
        ) in text
    assert [("open" in attributes) for attributes in several.page.all("details")] == [
        False,
        False,
        False,
        True,
        False,
    ]
    assert text.count("s, at a gain of") == 2
    assert "track drums, bass" in text
    assert "seed 1, 2" in text
    assert {len(places) for places in dots(several.page, "--judged")} == {8}, "the failing stem is drawn"


def test_layers_are_in_the_order_in_which_they_were_asked_for(
    make_page: Callable[..., SimpleNamespace],
) -> None:
    tracks = ("vocals", "drums", "bass")
    made = make_page(tracks=tracks, layered=True)
    assert chosen(made.page) == [
        ("context.wav", "context: song.wav"),
        ("stem-1-vocals.wav", "stem: 1 vocals"),
        ("stem-2-drums.wav", "stem: 2 drums"),
        ("stem-3-bass.wav", "stem: 3 bass"),
        ("mix-1-vocals.wav", "mix: context and layer 1"),
        ("mix-2-drums.wav", "mix: context and layers up to 2"),
        ("mix.wav", "mix: context and layers up to 3"),
    ]


def test_twelve_stems_have_a_place_each_and_0_is_the_mix(make_page: Callable[..., SimpleNamespace]) -> None:
    made = make_page(tracks=tuple(TRACK_NAMES))
    titles = [title for _, title in chosen(made.page)]
    assert titles == [
        "context: song.wav",
        *(f"stem: {track}" for track in TRACK_NAMES),
        "mix: stems over context",
    ]
    keys = [button.get("aria-keyshortcuts") for button in made.page.all("button") if "data-sound" in button]
    assert keys[:14] == [*"123456789", None, None, None, None, "0"]
    assert len(made.page.html) < 3_000_000


def test_a_sweep_is_a_grid_of_values_levels_and_verdicts(make_page: Callable[..., SimpleNamespace]) -> None:
    settings = [{"guidance_scale": scale, "shift": 1.0} for scale in (1.0, 7.0)]
    made = make_page(seeds=(1, 2), settings=settings)
    text = made.page.text
    assert "stem guidance scale shift level peak beyond full scale gain since silence file" in text
    assert "vocals 1.0 1.0 −12.0 dBFS −6.0 dBFS 0.00 % × 1.78 not silent 2 stem-vocals-seed-1.wav" in text  # noqa: RUF001
    assert "vocals 7.0 1.0 −12.0 dBFS −6.0 dBFS 0.00 % × 1.78 not silent 3 stem-vocals-seed-2.wav" in text  # noqa: RUF001


def test_a_silent_stem_of_several_is_named_in_the_grid(make_page: Callable[..., SimpleNamespace]) -> None:
    text = make_page(seeds=(1, 2), stem=0 * tone(), levels=SILENT).page.text
    assert "vocals 1 −∞ dBFS −∞ dBFS 0.00 % × 1 silent 2 stem-vocals-seed-1.wav" in text  # noqa: RUF001


def colours(page: Page) -> dict[str, dict[str, str]]:
    """The custom properties of the page that are colours, in light and in dark."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
        for block in re.findall(r":root \{(.*?)\}", page.html, re.DOTALL)[:2]
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def contrast(one: str, other: str) -> float:
    """As WCAG 2 computes it, 1 to 21."""
    luminances = []
    for colour in (one, other):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminances.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def test_contrast_is_computed_as_it_is_defined() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_bars_stand_out_and_text_can_be_read(scheme: str, good: SimpleNamespace) -> None:
    colour = colours(good.page)[scheme]
    lines = [(name, "card") for name in ("judged", "other", "reference", "muted", "bad")]
    bars = [(name, "track") for name in ("judged", "other", "bad", "ink")]
    over_one_another = [("judged", "reference")]
    for front, back in lines + bars + over_one_another:
        assert contrast(colour[front], colour[back]) >= 3, (front, back)
    text = [(name, back) for name in ("ink", "muted", "good", "bad") for back in ("card", "page")]
    for front, back in [*text, ("ink", "track"), ("card", "judged")]:
        assert contrast(colour[front], colour[back]) >= 4.5, (front, back)


def test_the_drawing_uses_those_colours_alone(good: SimpleNamespace) -> None:
    drawings = re.findall(r"<svg.*?</svg>", good.page.html, re.DOTALL)
    assert len(drawings) == 2
    used = {name for drawing in drawings for name in re.findall(r"(?:stroke|fill): ([^;\"]+)", drawing)}
    assert used - {"none"} == {
        f"var(--{name})" for name in ("ink", "muted", "line", "reference", "judged", "other")
    }


def test_the_printed_page_keeps_its_bars_and_has_no_controls(good: SimpleNamespace) -> None:
    printed = good.page.html.partition("@media print {")[2].partition("</style>")[0]
    assert "* { print-color-adjust: exact;" in printed
    (hidden,) = re.findall(r"([^{}]*)\{ display: none !important; \}", printed)
    assert {".transport", ".sound button", ".stems button", "audio"} <= {
        name.strip() for name in hidden.split(",")
    }
    assert "@media screen and (prefers-color-scheme: dark)" in good.page.html, "paper is white"


def test_every_term_of_the_comparison_has_a_sentence(good: SimpleNamespace) -> None:
    everything = Distances(
        schedule=0.0, latents=0.0, velocity=0.0, update=0.0, noise=0.0, decoded=0.0, sampled=(0,)
    )
    run: Any = SimpleNamespace(dtype="float32")
    compared = stages(run, everything)
    used = {stage.name for stage in compared}
    used |= {stage.measure.removesuffix(", largest").removesuffix(" of a part") for stage in compared}
    used |= {"requested", "evaluated", "a step", "bound", "PyTorch", "length mismatch", "contains NaN"}
    assert used == set(words.TERMS)
    for term, sentence in words.TERMS.items():
        assert f"{term} {sentence}" in good.page.text
        assert sentence.endswith(".")


def test_report_json_is_json_whatever_its_numbers(tmp_path: Path) -> None:
    values = {"inf": float("inf"), "nan": [float("nan")], "name": "Infinity and NaN.wav", "number": 0.1}
    write_json(values, tmp_path / "report.json")
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read == {"inf": None, "nan": [None], "name": "Infinity and NaN.wav", "number": 0.1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.seconds(0.02732), "27.3 ms"),
        (words.seconds(1.5), "1.5 s"),
        (words.seconds(123.4), "123 s"),
        (words.seconds(float("nan")), "not known"),
        (words.clock(2.5), "2.5 s"),
        (words.clock(600.04), "10:00"),
        (words.dbfs(1.0), "0.0 dBFS"),
        (words.dbfs(0.1), "−20.0 dBFS"),  # noqa: RUF001
        (words.pitch(500), "500 Hz"),
        (words.pitch(2000), "2 kHz"),
        (words.gigabytes(16 * 2**30), "16 GB"),
        (words.distance(3.81e-7), "3.8e-07"),
    ],
    ids=lambda value: value,
)
def test_numbers_as_they_are_read(said: str, expected: str) -> None:
    assert said == expected
