"""Runs every command of README and docs, as a reader would paste it, in a copy of the repository.

usage: .venv/bin/python scripts/docs_check.py [FILE.md ...]

A command is a fenced block of the language `sh`. What stands where a reader has a checkout and weights: in HOME,
`ACE-Step-1.5/` is the small checkout of the tests with every defect, and an interpreter; `checkpoints/` has tiny random
weights; `song.wav` is the smoke run's context. A document that downloads weights begins without any: a fake hub serves
the same tiny weights under the published names. A comment in front of a block changes what is expected:
`<!-- docs-check: exit 1 -->`, or `<!-- docs-check: skip, REASON -->` for what no script can run.
Exit status: 0 every command ended as expected, 1 one did not.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "ACE-Step-1.5"), str(ROOT / "scripts"), str(ROOT)]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "ACE-Step-1.5/README.md", "docs/*.md")
BLOCK = re.compile(
    r"(?:^<!-- docs-check: (?P<note>[^\n]*?) -->\n+)?^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LIMIT = 900  # seconds for a block


@dataclass(frozen=True)
class Block:
    """A fenced block of commands; skip: why no script can run it."""

    place: str
    text: str
    exit_status: int = 0
    skip: str = ""


def blocks_of(path: Path, name: str) -> list[Block]:
    """The blocks of one document; ValueError for a note that is not understood and for commands with a comment."""
    content = path.read_text(encoding="utf-8")
    blocks = []
    for match in BLOCK.finditer(content):
        place = f"{name}:{content.count(chr(10), 0, match.start('text'))}"
        if re.search(r"(^|\s)#", match["text"]):
            raise ValueError(
                f"{place}: a comment among commands, which zsh on a Mac does not accept at its prompt"
            )
        note = match["note"] or ""
        if expected := re.fullmatch(r"exit (\d+)", note):
            blocks.append(Block(place, match["text"], exit_status=int(expected[1])))
        elif reason := re.fullmatch(r"skip, (.+)", note):
            blocks.append(Block(place, match["text"], skip=reason[1]))
        elif note:
            raise ValueError(f"{place}: 'docs-check: {note}', expected 'exit N' or 'skip, REASON'")
        else:
            blocks.append(Block(place, match["text"]))
    return blocks


def reader_of(scratch: Path, weights: Path) -> tuple[Path, dict[str, str]]:
    """A reader's copy of the repository and environment, below `scratch`; `checkpoints/` is written into `weights`."""
    from acestep.models.tiny import write_tiny_checkpoint
    from tests.patches.mini_application import SICK

    clone, home = scratch / "ace-step-lego", scratch / "home"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    (clone / ".venv").symlink_to(Path(sys.prefix))
    shutil.copy(ROOT / "scripts/smoke.wav", clone / "song.wav")

    checkout = home / "ACE-Step-1.5"
    checkout.mkdir(parents=True)
    SICK.write(checkout)
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    write_tiny_checkpoint(weights)
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(scratch / "hub_cache")}
    environment.pop("VIRTUAL_ENV", None)
    return clone, environment


def run(block: Block, clone: Path, environment: dict[str, str]) -> str:
    """What is wrong, "" where nothing is."""
    try:
        done = subprocess.run(
            ["bash", "-eu", "-c", block.text],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {LIMIT} s"
    if done.returncode == block.exit_status:
        return ""
    end = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-15:])
    return f"exit status {done.returncode}, expected {block.exit_status}\n{end}"


def main(names: list[str]) -> int:
    """Runs the blocks of the named documents, of all of them without names."""
    paths = [Path(name) for name in names] or [
        path for entry in DOCUMENTS for path in sorted(ROOT.glob(entry))
    ]
    documents = [blocks_of(path, os.path.relpath(path, ROOT)) for path in paths]
    wrong = sum(check_document(blocks) for blocks in documents)
    skipped = sum(bool(block.skip) for blocks in documents for block in blocks)
    right = sum(map(len, documents)) - skipped - wrong
    print(f"{right} blocks ended as expected, {wrong} did not, {skipped} skipped.")
    return int(wrong > 0)


def check_document(blocks: list[Block]) -> int:
    """Runs the blocks of one document, in order, for a reader who begins with it; returns how many are wrong."""
    from tests.fake_hub import fake_hub

    wrong = 0
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="docs-check-")))
        downloads = any("hf download" in block.text for block in blocks)
        weights = scratch / ("published" if downloads else "home")
        clone, environment = (
            reader_of(scratch, weights) if any(not block.skip for block in blocks) else (Path(), {})
        )
        if downloads:
            published = weights / "checkpoints"
            repositories = {
                "ACE-Step/acestep-v15-base": published / "acestep-v15-base",
                "ACE-Step/Ace-Step1.5": published,
            }
            environment["HF_ENDPOINT"] = stack.enter_context(fake_hub(repositories))
        for block in blocks:
            if block.skip:
                print(f"skipped  {block.place}: {block.skip}", flush=True)
                continue
            start = time.perf_counter()
            problem = run(block, clone, environment)
            wrong += bool(problem)
            print(
                f"{'FAIL' if problem else 'ok':8} {block.place} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )
            if problem:
                print(f"  {block.text.strip()}\n  {problem}", flush=True)
    return wrong


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
