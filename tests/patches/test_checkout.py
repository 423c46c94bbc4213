"""Finding the three files: nested roots, both homes of G, links, and folders that were not meant."""

from pathlib import Path

import pytest

from patches.checkout import locate
from patches.errors import FilesMissing, LeavesRoot, WrongFolder
from tests.patches.mini_checkout import BEFORE, MiniCheckout

TODAY, EARLY = "acestep/models/mlx/dit_generate.py", "acestep/mlx_dit/generate.py"
HANDLER = "acestep/core/generation/handler"


@pytest.mark.parametrize("path", [TODAY, EARLY])
def test_both_homes_of_the_schedule_are_found(tmp_path: Path, path: str) -> None:
    checkout = locate(MiniCheckout(generate_path=path).write(tmp_path))
    found = [checkout.name(p) for p in (checkout.execute, checkout.diffusion, checkout.generate)]
    assert found == [f"{HANDLER}/service_generate_execute.py", f"{HANDLER}/diffusion.py", path]


@pytest.mark.parametrize(
    ("module", "path"), [("acestep.models.mlx.dit_generate", TODAY), ("acestep.mlx_dit.generate", EARLY)]
)
def test_of_two_homes_the_one_that_is_imported_counts(tmp_path: Path, module: str, path: str) -> None:
    BEFORE.write(tmp_path)
    (tmp_path / EARLY).parent.mkdir()
    (tmp_path / EARLY).write_text(BEFORE.generate)
    diffusion = tmp_path / HANDLER / "diffusion.py"
    diffusion.write_text(diffusion.read_text().replace("acestep.models.mlx.dit_generate", module))
    checkout = locate(tmp_path)
    assert checkout.name(checkout.generate) == path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        pytest.param("up", "up/ACE-Step-1.5", id="one-below"),
        pytest.param(".", "up/ACE-Step-1.5", id="two-below"),
        pytest.param("up/ACE-Step-1.5/acestep", "up/ACE-Step-1.5", id="one-above"),
        pytest.param(f"up/ACE-Step-1.5/{HANDLER}", "up/ACE-Step-1.5", id="far-above"),
    ],
)
def test_a_wrong_folder_names_the_right_one(tmp_path: Path, given: str, meant: str) -> None:
    BEFORE.write(tmp_path / "up/ACE-Step-1.5")
    with pytest.raises(WrongFolder) as caught:
        locate(tmp_path / given)
    assert str(caught.value) == (
        f"{tmp_path / given}: expected the folder that holds acestep/, found none in it. "
        f"Did you mean {tmp_path / meant}?"
    )


def test_several_folders_below_are_all_named(tmp_path: Path) -> None:
    one, two = BEFORE.write(tmp_path / "services/x"), BEFORE.write(tmp_path / "a")
    with pytest.raises(WrongFolder, match=f"Did you mean one of {two}, {one}\\?"):
        locate(tmp_path)


def test_nothing_to_be_seen_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(WrongFolder) as caught:
        locate(tmp_path)
    assert str(caught.value).endswith("found none in it. Give the root of an ACE-Step 1.5 checkout.")


@pytest.mark.parametrize("kind", ["nothing by that name", "a file"])
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "x"
    if kind == "a file":
        root.touch()
    with pytest.raises(WrongFolder) as caught:
        locate(root)
    assert str(caught.value) == f"{root}: expected the folder that holds acestep/, found {kind}."


@pytest.mark.parametrize(
    ("gone", "shown"),
    [
        (f"{HANDLER}/service_generate_execute.py", f"{HANDLER}/service_generate_execute.py"),
        (TODAY, f"{TODAY} (early home: {EARLY})"),
    ],
    ids=["handlers-merged", "schedule-fetched-later"],
)
def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, gone: str, shown: str) -> None:
    (BEFORE.write(tmp_path) / gone).unlink()
    with pytest.raises(FilesMissing) as caught:
        locate(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: expected the three files that the patches are for, found no {shown}. "
        "They stand so since upstream's be99eb9 (2026-02-15): update the checkout, or let its installer finish "
        "if it fetches files later; a tree that merges its handlers into one file cannot be patched."
    )


@pytest.mark.parametrize("linked", [f"{HANDLER}/diffusion.py", "acestep/models"])
def test_a_link_out_of_the_root_is_not_followed(tmp_path: Path, linked: str) -> None:
    root, outside = BEFORE.write(tmp_path / "root"), tmp_path / "outside"
    (root / linked).rename(outside)
    (root / linked).symlink_to(outside)
    with pytest.raises(
        LeavesRoot, match=r"expected a file inside .*root, found a link that leads to .*outside"
    ):
        locate(root)


def test_links_inside_the_root_and_to_the_root_are_fine(tmp_path: Path) -> None:
    root = BEFORE.write(tmp_path / "root")
    (root / "acestep/models").rename(root / "models")
    (root / "acestep/models").symlink_to("../models")
    (tmp_path / "link").symlink_to(root)
    assert locate(tmp_path / "link").generate == tmp_path / "link" / TODAY


def test_a_link_below_is_not_looked_behind_for_the_folder_that_was_meant(tmp_path: Path) -> None:
    outside = BEFORE.write(tmp_path / "outside/checkout").parent
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(WrongFolder, match=r"Give the root of an ACE-Step 1\.5 checkout\.$"):
        locate(root)
