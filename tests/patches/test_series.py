"""The series `lego` on small applications: applied, taken back, refused; by itself and with the three patches."""

import json
from pathlib import Path

import pytest

from patches.cli import main
from patches.lego.series import PATCHES
from tests.patches.contract import UPSTREAM
from tests.patches.mini_application import (
    DIT_MODEL,
    HANDLER,
    INFERENCE,
    MASKS,
    OLD,
    REQUEST,
    SICK,
    WELL,
    MiniApplication,
)
from tests.patches.test_write import contents

EXECUTE, GENERATE = f"{HANDLER}/service_generate_execute.py", "acestep/models/mlx/dit_generate.py"
NAMES = [patch.NAME for patch in PATCHES]
FILE_OF = {
    "context": MASKS,
    "prompt": REQUEST,
    "codes": INFERENCE,
    "seed": INFERENCE,
    "momentum": GENERATE,
    "fallback": EXECUTE,
    "threads": DIT_MODEL,
}


def states(root: Path, capsys: pytest.CaptureFixture[str], series: str = "lego") -> dict[str, str]:
    capsys.readouterr()
    main(["check", str(root), "--series", series, "--json"])
    return {row["patch"]: row["state"] for row in json.loads(capsys.readouterr().out)["patches"]}


def detail(root: Path, capsys: pytest.CaptureFixture[str], name: str) -> str:
    capsys.readouterr()
    main(["check", str(root), "--series", name, "--json"])
    return str(json.loads(capsys.readouterr().out)["patches"][0]["detail"])


def with_newlines(root: Path, newline: bytes) -> None:
    for path in root.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", newline))


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("name", [*NAMES, "lego"])
def test_applied_twice_is_applied_once_and_reverted_the_bytes_are_back(
    name: str, newline: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SICK.write(tmp_path)
    with_newlines(tmp_path, newline)
    before = contents(tmp_path)
    assert set(states(tmp_path, capsys, name).values()) == {"not applied"}
    assert main(["apply", str(tmp_path), "--series", name]) == 0
    after = contents(tmp_path)
    changed = {path for path in before if before[path] != after[path]}
    assert {Path(path) for path in changed} == {Path(FILE_OF[n]) for n in NAMES if name in (n, "lego")}
    assert all(b"\r\n" in after[path] or newline == b"\n" for path in changed)
    assert not any(b"\n" in after[path].replace(b"\r\n", b"") for path in changed if newline == b"\r\n")
    assert set(states(tmp_path, capsys, name).values()) == {"applied"}
    assert main(["apply", str(tmp_path), "--series", name]) == 0
    assert contents(tmp_path) == after
    assert main(["revert", str(tmp_path), "--series", name]) == 0
    assert contents(tmp_path) == before


@pytest.mark.parametrize("checkout", [OLD, SICK], ids=["before_guidance", "with_guidance"])
def test_the_three_patches_and_the_series_go_in_and_out_in_any_order(
    checkout: MiniApplication, tmp_path: Path
) -> None:
    root, three, series = str(checkout.write(tmp_path)), [], ["--series", "lego"]
    before = contents(tmp_path)

    def run(verb: str, *options: str) -> dict[str, bytes]:
        assert main([verb, root, *options]) == 0
        return contents(tmp_path)

    with_three = run("apply", *three)
    with_both = run("apply", *series)
    with_series = run("revert", *three)
    assert run("revert", *series) == before
    assert run("apply", *series) == with_series
    assert run("apply", *three) == with_both
    assert run("revert", *series) == with_three
    assert run("revert", *three) == before


def test_series_leaves_alone_what_is_right_in_its_own_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WELL.write(tmp_path)
    assert set(states(tmp_path, capsys).values()) == {"applied"}
    before = contents(tmp_path)
    assert main(["apply", str(tmp_path), "--series", "lego"]) == 0
    assert contents(tmp_path) == before
    assert main(["revert", str(tmp_path), "--series", "lego"]) == 0
    assert contents(tmp_path) == before


def test_without_guidance_on_mlx_there_is_no_momentum_to_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OLD.write(tmp_path)
    assert states(tmp_path, capsys, "momentum") == {"momentum": "applied"}
    assert detail(tmp_path, capsys, "momentum").startswith("MLX takes no guidance here")


NEAR_MISSES = {
    "silenced_twice": (
        "context",
        MASKS,
        (
            "                sources.append(heard)\n",
            "                heard[0:1] = silence_latent_tiled[0:1]\n                sources.append(heard)\n",
        ),
        "expected one place where the source is silenced, found 2",
    ),
    "other_frames_of_silence": (
        "context",
        MASKS,
        ("= silence_latent_tiled[first:last]", "= silence_latent_tiled[: last - first]"),
        "expected one place where the source is silenced, found none",
    ),
    "silenced_on_one_line_with_more": (
        "context",
        MASKS,
        ("silence_latent_tiled[first:last]\n", "silence_latent_tiled[first:last]; print(i)\n"),
        "line 32 holds more than the one statement",
    ),
    "instructions_not_at_hand": (
        "context",
        MASKS,
        ("        instructions,\n", "        texts,\n"),
        "_build_chunk_masks_and_src_latents takes no instructions",
    ),
    "made_of_something_else": (
        "context",
        MASKS,
        ("heard = target_latents[i].clone()", "heard = encoded[i].clone()"),
        "what is silenced in _build_chunk_masks_and_src_latents was not made of target_latents there",
    ),
    "renamed_resolver": (
        "prompt",
        REQUEST,
        ("_resolve_generate_music_task", "_resolve_task"),
        "expected one _resolve_generate_music_task, found none",
    ),
    "codes_asked_for_otherwise": (
        "codes",
        INFERENCE,
        ("need_audio_codes = not user_provided_audio_codes", "need_audio_codes = True"),
        "expected one `need_audio_codes = not user_provided_audio_codes` in generate_music, found none",
    ),
    "seed_none_at_first": (
        "seed",
        INFERENCE,
        ('seed_for_generation = ""', "seed_for_generation = None"),
        "expected one `seed_for_generation = ''` in generate_music, found none",
    ),
    "momentum_of_another_form": (
        "momentum",
        "generate",
        ('gap = gap + memory.get("running", 0)', 'gap += memory.get("running", 0)'),
        "expected one running sum of the branches' difference, found none",
    ),
    "momentum_kept_under_another_name": (
        "momentum",
        "generate",
        ('memory["running"] = gap', 'memory["sum"] = gap'),
        "expected one running sum of the branches' difference, found none",
    ),
    "unnamed_exception": (
        "fallback",
        "execute",
        (
            'except Exception as problem:\n                logger.warning("no luck on MLX: %s", problem)',
            'except Exception:\n                logger.warning("no luck")',
        ),
        "the handler that goes on gives what it caught no name",
    ),
    "two_handlers_that_go_on": (
        "fallback",
        "execute",
        (
            "            except Exception as problem:\n",
            "            except ImportError:\n                outputs = None\n"
            "            except Exception as problem:\n",
        ),
        "expected one handler that goes on where MLX fails, found 2",
    ),
    "tables_in_two_places": (
        "threads",
        DIT_MODEL,
        ("        self._sin = mx.sin(angles)\n", ""),
        "expected one method that makes self._cos and self._sin, found none",
    ),
}


@pytest.mark.parametrize(("name", "file", "change", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_miss_is_refused_with_its_reason_and_nothing_is_written(
    name: str,
    file: str,
    change: tuple[str, str],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    SICK.edited(file, change).write(tmp_path)
    before = contents(tmp_path)
    assert main(["apply", str(tmp_path), "--series", "lego"]) == 3
    told = capsys.readouterr().err
    assert f"expected the place for `{name}` as upstream has it, found: {reason}." in told
    others = ",".join(other for other in NAMES if other != name)
    assert (
        f"All or none: nothing was changed. The others by name: python -m patches apply {tmp_path} " in told
    )
    assert told.endswith(f"--series {others}\n")
    assert contents(tmp_path) == before
    assert main(["apply", str(tmp_path), "--series", others]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_was_edited_since_is_not_taken_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SICK.write(tmp_path)
    assert main(["apply", str(tmp_path), "--series", name]) == 0
    (patch,) = [patch for patch in PATCHES if name == patch.NAME]
    path = tmp_path / FILE_OF[name]
    lines = path.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if patch.COMMENT in line) + 1
    lines[at] += "  # mine"
    path.write_text("\n".join(lines))
    before = contents(tmp_path)
    assert main(["revert", str(tmp_path), "--series", name]) == 3
    assert (
        f"{FILE_OF[name]}: expected what `apply --series {name}` wrote, found it edited"
        in capsys.readouterr().err
    )
    assert contents(tmp_path) == before
    assert detail(tmp_path, capsys, name) == "what this kit put in was edited since"


def test_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    UPSTREAM.write(tmp_path)
    assert main(["apply", str(tmp_path), "--series", "context,prompt"]) == 3
    assert f"{MASKS}: expected the place for `context` as upstream has it, found: the file is not there." in (
        capsys.readouterr().err
    )


def test_link_out_of_the_checkout_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, outside = SICK.write(tmp_path / "root"), tmp_path / "masks.py"
    (root / MASKS).rename(outside)
    (root / MASKS).symlink_to(outside)
    assert main(["apply", str(root), "--series", "context"]) == 3
    assert f"found a link that leads to {outside}" in capsys.readouterr().err


def test_unknown_name_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SICK.write(tmp_path)
    assert main(["apply", str(tmp_path), "--series", "lego,mementum"]) == 2
    assert capsys.readouterr().err == (
        "--series: expected lego or any of context, prompt, codes, seed, momentum, fallback, threads, "
        "found mementum; see them with --list.\n"
    )


def test_list_needs_no_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["apply", "--list"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:]] == NAMES


def test_diff_is_what_apply_writes(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    import subprocess

    one, other = SICK.write(tmp_path / "one"), SICK.write(tmp_path / "other")
    assert main(["diff", str(one), "--series", "lego"]) == 0
    made = capsysbinary.readouterr().out
    subprocess.run(["git", "apply", "-"], cwd=other, input=made, check=True)
    assert main(["apply", str(one), "--series", "lego"]) == 0
    assert contents(one) == contents(other)
