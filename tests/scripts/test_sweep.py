"""Several values of a setting: a stem for each combination, named by its values, from one load."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

from smoke.options import Options
from smoke.session import run_smoke
from smoke.stem import files_of, labels_of, mix_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, make_context: Callable[..., Path]) -> Any:
    """Guidance 1 and 3 at 3 and 4 steps: status, the screen and the folder of the run."""
    out, console = tmp_path_factory.mktemp("sweep"), Console(record=True, width=200)
    options = Options(
        make_context(1.0), track=["drums"], steps=[3, 4], guidance_scale=[1.0, 3.0], before=False
    )
    status = run_smoke(ROOT / "ACE-Step-1.5", options, out, console)
    folder = out / "latest"
    report = json.loads((folder / "report.json").read_text())
    return SimpleNamespace(status=status, text=console.export_text(), folder=folder, report=report)


VALUES = [(3, 1.0), (3, 3.0), (4, 1.0), (4, 3.0)]


def test_each_combination_is_a_stem_of_its_own_that_is_counted_and_compared(swept: Any) -> None:
    assert swept.status == 0, swept.text
    stems = swept.report["stems"]
    assert swept.report["sweep"] == ["steps", "guidance_scale"]
    assert [(stem["settings"]["steps"], stem["settings"]["guidance_scale"]) for stem in stems] == VALUES
    assert [stem["evaluated"] for stem in stems] == [3, 3, 4, 4]
    assert all("latents" in stem["distances"] and stem["ok"] for stem in stems)
    assert swept.report["request"]["guidance_scale"] == [1.0, 3.0]


def test_one_load_encodes_the_context_and_the_prompt_once(swept: Any) -> None:
    assert swept.report["encodings"] == {"context": 1, "prompt": 1}
    assert "encodings: context 1, prompt 1" in swept.text


def test_files_tell_the_values_and_each_combination_has_its_mix(swept: Any) -> None:
    names = {f"steps-{steps}-guidance-{scale:g}.wav" for steps, scale in VALUES}
    there = {path.name for path in swept.folder.glob("*.wav")}
    assert there == {"context.wav"} | {f"stem-drums-{name}" for name in names} | {
        f"mix-{name}" for name in names
    }
    waves = [soundfile.read(swept.folder / f"stem-drums-{name}")[0] for name in sorted(names)]
    assert all(np.abs(a - b).max() > 1e-3 for i, a in enumerate(waves) for b in waves[:i])
    context, _ = soundfile.read(swept.folder / "context.wav")
    for name, wave in zip(sorted(names), waves, strict=True):
        mix, _ = soundfile.read(swept.folder / f"mix-{name}")
        gain = swept.report["mix_gains"][f"mix-{name}"]
        assert np.abs(mix - gain * (context + wave)).max() < 1e-6, (
            "a mix has the stem of its own values alone"
        )


def test_the_page_has_a_row_for_each_with_its_values_level_and_verdict(swept: Any) -> None:
    page = (swept.folder / "report.html").read_text()
    table = page.partition('<table class="runs stems">')[2].partition("</table>")[0]
    assert [title for title in ("steps", "guidance scale") if f'<th scope="col">{title}</th>' in table] == [
        "steps",
        "guidance scale",
    ]
    assert table.count('<th scope="row">drums</th>') == 4
    assert table.count(">not silent</td>") == 4
    for (steps, scale), stem in zip(VALUES, swept.report["stems"], strict=True):
        row = table.partition(f'"Choose {stem["label"]}"')[0].rpartition("<tr>")[2]
        assert f'<td data-label="steps">{steps}</td><td data-label="guidance scale">{scale}</td>' in row


def test_no_two_values_share_a_name() -> None:
    options = Options(
        Path("x.wav"), guidance_scale=[3.0, 3.0000001], seed=[4294967295, 4294967294], shift=[1.0]
    )
    requests = options.requests()
    assert labels_of(requests)[0] == "vocals guidance 3 seed 4294967295"
    assert len(set(files_of(requests))) == len({mix_of(requests, request) for request in requests}) == 4


def test_tracks_of_the_same_values_share_a_mix() -> None:
    requests = replace(Options(Path("x.wav")), track=["drums", "bass"], shift=[1.0, 3.0]).requests()
    assert [mix_of(requests, request) for request in requests] == ["mix-shift-1.wav", "mix-shift-3.wav"] * 2
