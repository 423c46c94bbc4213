"""The loop table: what is stored has the settings that there are, within the bound, and still true."""

import re
from pathlib import Path

import pytest

import loop_table
from acestep.models.pytorch.loop import torch_generate_diffusion
from loop_table import BOUND, HEADING, SETTINGS, SHAPES, TABLE, Setting, Side, table

# Those that other tests of the loop do not run; `make loop-table` runs all.
AGAIN = [row for row in SETTINGS if re.match("1 s context|sde", row.name)]


@pytest.fixture(scope="module")
def side(tmp_path_factory: pytest.TempPathFactory) -> Side:
    return Side(tmp_path_factory.mktemp("loop"), "plain")


def stored() -> dict[str, list[float]]:
    """setting -> the stored distance in each shape."""
    rows = re.findall(r"^\| (.+?) \| ([\d.e+-]+) \| ([\d.e+-]+) \|$", TABLE.read_text(), re.MULTILINE)
    return {name: [float(value) for value in values] for name, *values in rows}


def test_every_setting_is_stored_and_within_the_bound() -> None:
    rows = stored()
    assert list(rows) == [row.name for row in SETTINGS]
    assert all(0 < value <= BOUND for values in rows.values() for value in values)


@pytest.mark.parametrize("row", AGAIN, ids=lambda row: row.name.replace(" ", "_"))
def test_row_holds(side: Side, row: Setting) -> None:
    assert side.distance(row) <= BOUND


def test_a_row_tells_another_loop_apart(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch at another shift is no reference for this one."""
    monkeypatch.setattr(
        loop_table,
        "torch_generate_diffusion",
        lambda *args, **kwargs: torch_generate_diffusion(*args, **{**kwargs, "shift": 2.9}),
    )
    assert side.distance(next(row for row in SETTINGS if row.name == "shift 3")) > 100 * BOUND


def test_row_that_is_too_far_is_a_failure_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distances = [dict.fromkeys(SHAPES, 1e-7), {"plain": 1e-7, "xl": float("nan")}]
    monkeypatch.setattr(loop_table, "Side", lambda *_: None)
    monkeypatch.setattr(loop_table, "measure", lambda _: zip(SETTINGS[:2], distances, strict=True))
    target = tmp_path / "new/table.md"
    assert loop_table.main(target) == 1
    assert f"further than 2e-06: {SETTINGS[1].name}\n" in capsys.readouterr().out
    assert target.read_text() == table(list(zip(SETTINGS[:2], distances, strict=True)))


def test_what_the_page_says_before_the_table_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{HEADING}\nan older table\n")
    monkeypatch.setattr(loop_table, "Side", lambda *_: None)
    monkeypatch.setattr(loop_table, "measure", lambda _: iter(()))
    assert loop_table.main(page) == 0
    assert page.read_text() == f"# Page\n\n{table([])}"


def test_an_option_is_no_page(capsys: pytest.CaptureFixture[str]) -> None:
    """It once measured for a minute and wrote a file of the name --help."""
    with pytest.raises(SystemExit) as ended:
        loop_table.page_asked_for(["--nonsense"])
    assert ended.value.code == 2
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err
    assert loop_table.page_asked_for([]) == TABLE
