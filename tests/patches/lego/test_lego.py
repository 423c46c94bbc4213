"""The series `lego` on small applications: applied, reverted, refused; by itself and with the series `steps`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patches.cli import main
from patches.engine.edits import mark_of
from patches.lego import LEGO, threads
from tests.patches.contract import (
    EXECUTE,
    GENERATE,
    changed,
    check_applied,
    check_left,
    check_verbs,
    contents,
    crlf,
)
from tests.patches.mini_application import (
    DIT_MODEL,
    INFERENCE,
    MASKS,
    OLD,
    REQUEST,
    SICK,
    WELL,
    MiniApplication,
)

FILE_OF = {"execute": EXECUTE, "generate": GENERATE, "decoder": DIT_MODEL}
NAMES = [patch.name for patch in LEGO.patches]
IN_SICK = ["context", "prompt", "codes", "seed", "momentum", "fallback", "threads"]
FILES = {patch.name: FILE_OF.get(patch.target, patch.target) for patch in LEGO.patches}


def rows(root: Path, capsys: pytest.CaptureFixture[str], series: str = "lego") -> dict[str, tuple[str, str]]:
    capsys.readouterr()
    main(["check", str(root), "--series", series, "--json"])
    shown = json.loads(capsys.readouterr().out)["patches"]
    return {row["patch"]: (row["state"], row["detail"]) for row in shown}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_every_patch_is_applied_once_and_reverted_exactly(tmp_path: Path, newline: bytes) -> None:
    root = SICK.write(tmp_path)
    if newline == b"\r\n":
        for path in root.rglob("*.py"):
            path.write_bytes(crlf(path.read_bytes()))
    for name in IN_SICK:
        assert check_verbs(root, name) == {FILES[name]}
    assert check_verbs(root, ",".join(IN_SICK)) == {FILES[name] for name in IN_SICK}


@pytest.mark.parametrize("checkout", [OLD, SICK], ids=["before-guidance", "with-guidance"])
def test_both_series_go_in_and_out_in_any_order(checkout: MiniApplication, tmp_path: Path) -> None:
    root, steps, lego = str(checkout.write(tmp_path)), ["--series", "steps"], ["--series", "lego"]
    before = contents(tmp_path)

    def run(verb: str, options: list[str]) -> dict[str, bytes]:
        assert main([verb, root, *options]) == 0
        return contents(tmp_path)

    with_steps = run("apply", steps)
    with_both = run("apply", lego)
    with_lego = run("revert", steps)
    assert run("revert", lego) == before
    assert run("apply", lego) == with_lego
    assert run("apply", steps) == with_both
    assert run("revert", lego) == with_steps
    assert run("revert", steps) == before


def test_revert_of_one_series_says_what_is_still_applied_of_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(SICK.write(tmp_path))
    for series in ("steps", "lego"):
        assert main(["apply", root, "--series", series]) == 0
    seed = tmp_path / INFERENCE
    seed.write_text(seed.read_text().replace("str(params.seed)", "str(params.seed + 1)"))  # edited since

    def revert(*options: str) -> str:
        capsys.readouterr()
        assert main(["revert", root, *options]) == 0
        return capsys.readouterr().out

    for _ in range(2):  # the second run has nothing to revert, and says the same
        last = revert().splitlines()[-1]
        assert last.startswith(f"Still applied, of the series lego: {', '.join(NAMES)}. To revert them: ")
        assert last.endswith(f" revert {root} --series lego")
    assert revert() == f"{root}: holds no text of this series.\n{last}\n"
    assert json.loads(revert("--json"))["still_applied"] == {"lego": NAMES}
    seed.write_text(seed.read_text().replace("str(params.seed + 1)", "str(params.seed)"))
    assert "Still applied" not in revert("--series", "lego")
    assert main(["apply", root]) == 0
    assert "Still applied, of the series steps: diffusion, generate." in revert("--series", "lego")


def test_code_that_is_right_in_its_own_way_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WELL.write(tmp_path)
    words = {name: word for name, (word, _) in rows(tmp_path, capsys, ",".join(IN_SICK)).items()}
    assert words == {
        "context": "other code",
        "prompt": "other code",
        "codes": "other code",
        "seed": "other code",
        "momentum": "other code",
        "fallback": "not affected",
        "threads": "upstream's fix",
    }
    before = contents(tmp_path)
    for verb in ("apply", "revert"):
        assert main([verb, str(tmp_path), "--series", "lego"]) == 0
        assert contents(tmp_path) == before


def test_without_guidance_on_mlx_there_is_no_momentum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    OLD.write(tmp_path)
    expected = {"momentum": ("not affected", "mlx_generate_diffusion has no guidance")}
    assert rows(tmp_path, capsys, "momentum") == expected


ALREADY = {
    "a rule for LEGO that switches the codes on": (
        "codes",
        INFERENCE,
        "need_audio_codes = not user_provided_audio_codes\n",
        'need_audio_codes = not user_provided_audio_codes or params.task_type == "lego"\n',
        "other code",
    ),
    "upstream's rule for the language model": (
        "codes",
        INFERENCE,
        "    need_audio_codes = not",
        "    skip_lm_tasks = DIRECT_CONDITIONING_TASKS\n    need_audio_codes = not",
        "upstream's fix",
    ),
    "a rule of a fork": (
        "codes",
        INFERENCE,
        "need_audio_codes = not user_provided_audio_codes\n",
        'need_audio_codes = (not user_provided_audio_codes) and params.task_type != "extend"\n',
        "missing",
    ),
    "a branch for LEGO that keeps the instruction": (
        "prompt",
        REQUEST,
        "        return task_type, instruction\n",
        '        if task_type == "lego":\n            pass\n        return task_type, instruction\n',
        "other code",
    ),
    "upstream's condition": (
        "context",
        MASKS,
        "                heard[first:last] = ",
        "                is_lego = task_type == 'lego'\n                if not is_lego:\n"
        "                    heard[first:last] = ",
        "upstream's fix",
    ),
    "the condition the wrong way round": (
        "context",
        MASKS,
        "                heard[first:last] = ",
        "                is_lego = task_type != 'lego'\n                if not is_lego:\n"
        "                    heard[first:last] = ",
        "other code",
    ),
    "the seed in a comparison": (
        "seed",
        INFERENCE,
        "    if config.seeds:\n",
        "    if params.seed >= 0:\n        seed_for_generation = str(params.seed)\n    if config.seeds:\n",
        "other code",
    ),
    "another momentum": (
        "momentum",
        "generate",
        'memory["running"] = gap\n',
        'memory["running"] = gap\n    memory["running"] = -0.5 * gap\n',
        "other code",
    ),
    "the tables evaluated": (
        "threads",
        DIT_MODEL,
        "        self._sin = mx.sin(angles)\n",
        "        self._sin = mx.sin(angles)\n        mx.eval(self._cos, self._sin)\n",
        "upstream's fix",
    ),
}


@pytest.mark.parametrize(("name", "file", "old", "new", "word"), ALREADY.values(), ids=ALREADY)
def test_only_a_known_form_counts_as_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, file: str, old: str, new: str, word: str
) -> None:
    SICK.edited(file, (old, new)).write(tmp_path)
    assert rows(tmp_path, capsys, name)[name][0] == word
    if word == "missing":
        check_verbs(tmp_path, name)
    elif word == "other code":
        assert main(["check", str(tmp_path), "--series", name]) == 1


NEAR_MISSES = {
    "silenced twice": (
        "context",
        MASKS,
        (
            "                sources.append(heard)\n",
            "                heard[0:1] = silence_latent_tiled[0:1]\n                sources.append(heard)\n",
        ),
        "expected one place where the source is silenced, found 2",
    ),
    "other frames of silence": (
        "context",
        MASKS,
        ("= silence_latent_tiled[first:last]", "= silence_latent_tiled[: last - first]"),
        "expected one place where the source is silenced, found none",
    ),
    "silenced on one line with more": (
        "context",
        MASKS,
        ("silence_latent_tiled[first:last]\n", "silence_latent_tiled[first:last]; print(i)\n"),
        "line 32 holds more than one statement",
    ),
    "no instructions": (
        "context",
        MASKS,
        ("        instructions,\n", "        texts,\n"),
        "_build_chunk_masks_and_src_latents has no parameter instructions",
    ),
    "made of something else": (
        "context",
        MASKS,
        ("heard = target_latents[i].clone()", "heard = encoded[i].clone()"),
        "what is silenced in _build_chunk_masks_and_src_latents was not made of target_latents there",
    ),
    "resolver renamed": (
        "prompt",
        REQUEST,
        ("_resolve_generate_music_task", "_resolve_task"),
        "expected one definition of _resolve_generate_music_task, found none",
    ),
    "codes in two assignments": (
        "codes",
        INFERENCE,
        ("    need_audio_codes = not", "    need_audio_codes = True\n    need_audio_codes = not"),
        "expected one assignment of need_audio_codes in generate_music, found 2",
    ),
    "seed None at first": (
        "seed",
        INFERENCE,
        ('seed_for_generation = ""', "seed_for_generation = None"),
        'expected one `seed_for_generation = ""` in generate_music, found none',
    ),
    "momentum in another form": (
        "momentum",
        "generate",
        ('gap = gap + memory.get("running", 0)', 'gap += memory.get("running", 0)'),
        "expected one running sum of the branches' difference, found none",
    ),
    "momentum under another key": (
        "momentum",
        "generate",
        ('memory["running"] = gap', 'memory["sum"] = gap'),
        "expected one running sum of the branches' difference, found none",
    ),
    "exception without a name": (
        "fallback",
        "execute",
        (
            'except Exception as problem:\n                logger.warning("no luck on MLX: %s", problem)',
            'except Exception:\n                logger.warning("no luck")',
        ),
        "the handler that goes on does not name what it caught",
    ),
    "two handlers that go on": (
        "fallback",
        "execute",
        (
            "            except Exception as problem:\n",
            "            except ImportError:\n                outputs = None\n"
            "            except Exception as problem:\n",
        ),
        "expected one handler that goes on where MLX fails, found 2",
    ),
    "tables in two places": (
        "threads",
        DIT_MODEL,
        ("        self._sin = mx.sin(angles)\n", ""),
        "expected one method that makes self._cos and self._sin, found none",
    ),
}


@pytest.mark.parametrize(("name", "file", "change", "reason"), NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_near_miss_is_refused_and_the_others_can_be_applied(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    file: str,
    change: tuple[str, str],
    reason: str,
) -> None:
    SICK.edited(file, change).write(tmp_path)
    before = contents(tmp_path)
    assert main(["apply", str(tmp_path), "--series", ",".join(IN_SICK)]) == 3
    said = capsys.readouterr().err
    others = ",".join(other for other in IN_SICK if other != name)
    assert said.startswith(
        f"{FILES[name]}: {name} cannot be applied: {reason}. All or none: nothing was changed. "
    )
    assert said.endswith(f" apply {tmp_path} --series {others}\n")
    assert contents(tmp_path) == before
    assert main(["apply", str(tmp_path), "--series", others]) == 0
    assert main(["revert", str(tmp_path), "--series", "lego"]) == 0
    assert contents(tmp_path) == before


def test_edited_patch_is_not_reverted_and_neither_are_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SICK.write(tmp_path)
    assert main(["apply", str(tmp_path), "--series", ",".join(IN_SICK)]) == 0
    patched = contents(tmp_path)
    for name in IN_SICK:
        path = tmp_path / FILES[name]
        head, mark, rest = path.read_text().partition(mark_of(name))
        first, newline, rest = rest.partition("\n")
        line, _, rest = rest.partition("\n")
        path.write_text(f"{head}{mark}{first}{newline}{line}  # mine\n{rest}")
        edited = contents(tmp_path)
        capsys.readouterr()
        assert main(["revert", str(tmp_path), "--series", "lego"]) == 3
        assert f"{FILES[name]}: the text of this kit (patch {name}) was edited" in capsys.readouterr().err
        assert contents(tmp_path) == edited
        path.write_bytes(patched[FILES[name]])


def test_missing_file_refuses_its_own_patches_and_names_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SICK.write(tmp_path)
    (tmp_path / INFERENCE).unlink()
    assert main(["apply", str(tmp_path), "--series", ",".join(IN_SICK)]) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"{INFERENCE}: codes cannot be applied: expected a file, found none. ")
    assert said.endswith(" --series context,prompt,momentum,fallback,threads\n")


def test_link_out_of_the_checkout_is_not_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, outside = SICK.write(tmp_path / "root"), tmp_path / "masks.py"
    (root / MASKS).rename(outside)
    (root / MASKS).symlink_to(outside)
    before = outside.read_bytes()
    assert main(["apply", str(root), "--series", ",".join(IN_SICK)]) == 3
    said = capsys.readouterr().err
    assert f"found a link that leads to {outside}" in said
    assert said.endswith(" --series prompt,codes,seed,momentum,fallback,threads\n")
    assert outside.read_bytes() == before


def test_decoder_of_the_early_home_is_found(tmp_path: Path) -> None:
    root = OLD.write(tmp_path)
    early = root / "acestep/mlx_dit"
    early.mkdir()
    (root / GENERATE).rename(early / "generate.py")
    (root / DIT_MODEL).rename(early / "model.py")
    assert check_verbs(root, "threads") == {"acestep/mlx_dit/model.py"}


def test_tables_are_evaluated_where_they_are_made() -> None:
    text = SICK.files[DIT_MODEL]
    assert changed(text, check_applied(threads.PATCH, text)) == [
        "+        # LEGO patch (threads): lazy tables could not be used from another thread.",
        "+        mx.eval(self._cos, self._sin)",
    ]
    assert check_left(threads.PATCH, WELL.files[DIT_MODEL])[0] == "upstream's fix"
