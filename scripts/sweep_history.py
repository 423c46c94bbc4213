"""Repeats the real-history figures of the patch kit on anybody's clone of ACE-Step 1.5.

Each distinct state of the three files, with LF and with CRLF: apply, verify, apply again (writes nothing), revert
(the same bytes). Nothing is written into the clone; each state is taken out into a temporary folder.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from patches.checkout import DIFFUSION, EXECUTE, GENERATE, GENERATE_EARLY
from patches.cli import main as patches_main
from patches.verify import render_report, verify_checkout

FILES = [path.as_posix() for path in (EXECUTE, DIFFUSION, GENERATE, GENERATE_EARLY)]


@dataclass(frozen=True)
class State:
    """The newest commit that holds one distinct state of the three files, below `prefix` in the repository."""

    commit: str
    prefix: str


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        ["git", "-C", str(repository), *arguments], input=stdin, capture_output=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"git {arguments[0]} in {repository}: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout


def distinct_states(repository: Path, revision: str, prefix: str) -> list[State]:
    """One state for each distinct set of the three files, newest first; commits without E are before be99eb9."""
    names = [prefix + name for name in FILES]
    seen: dict[tuple[str, ...], State] = {}
    for commit in git(repository, "log", "--format=%H", revision, "--", *names).decode().split():
        listed = git(repository, "ls-tree", commit, "--", *names).decode().splitlines()
        blobs = {line.split("\t")[1]: line.split()[2] for line in listed}
        if names[0] in blobs:
            seen.setdefault(tuple(blobs.get(name, "") for name in names), State(commit, prefix))
    return list(seen.values())


def extract(repository: Path, state: State, folder: Path) -> None:
    """Writes the Python files of acestep/ at `state` below `folder`, in one git process."""
    root = f"{state.prefix}acestep"
    listed = git(repository, "ls-tree", "-r", "--full-tree", state.commit, "--", root).decode().splitlines()
    names = [line.split("\t")[1] for line in listed if line.endswith(".py")]
    wanted = "".join(f"{state.commit}:{name}\n" for name in names).encode()
    out, at = git(repository, "cat-file", "--batch", stdin=wanted), 0
    for name in names:
        end = out.index(b"\n", at)
        head = out[at:end].split()
        at = end + 1
        if head[-1] == b"missing":
            continue
        target = folder / name[len(state.prefix) :]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(out[at : at + int(head[2])])
        at += int(head[2]) + 1


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and the time of its last change in ns (the bytecode that verify may leave aside)."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def same_bytes(one: dict[str, tuple[bytes, int]], other: dict[str, tuple[bytes, int]]) -> bool:
    return {name: data for name, (data, _) in one.items()} == {
        name: data for name, (data, _) in other.items()
    }


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = patches_main(arguments)
    return status, out.getvalue().strip()


def sweep_one(folder: Path) -> Iterator[tuple[str, bool, str]]:
    """Each step with whether it held, and what was said if it did not."""
    before = snapshot(folder)
    status, said = run("apply", str(folder))
    yield "apply", status == 0, said
    if status:
        yield "untouched", snapshot(folder) == before, "apply refused and wrote"
        return
    report = verify_checkout(folder)
    yield "verify", report.honoured, render_report(report)
    applied = snapshot(folder)
    status, said = run("apply", str(folder))
    yield "again", status == 0 and snapshot(folder) == applied, said
    status, said = run("revert", str(folder))
    yield "revert", status == 0 and same_bytes(snapshot(folder), before), said


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", metavar="GITDIR", type=Path, help="a clone (bare or not)")
    parser.add_argument("--revision", default="HEAD", help="whose history to walk (default HEAD)")
    parser.add_argument("--prefix", default="", help="folder of the checkout in the repository, with a slash")
    options = parser.parse_args()
    states = distinct_states(options.repository, options.revision, options.prefix)
    good = 0
    for number, state in enumerate(states, 1):
        for newline in ("LF", "CRLF"):
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                extract(options.repository, state, folder)
                if newline == "CRLF":
                    for path in folder.rglob("*.py"):
                        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
                steps = list(sweep_one(folder))
            held = all(ok for _, ok, _ in steps)
            good += held
            words = " ".join(f"{word}:{'ok' if ok else 'FAILED'}" for word, ok, _ in steps)
            took = time.perf_counter() - began
            print(f"{number:3}  {state.commit[:10]}  {newline:4}  {words}  {took:.1f} s", flush=True)
            for word, ok, said in steps:
                if not ok:
                    print(f"     {word}: {said}", flush=True)
    print(f"{good} of {2 * len(states)} ({len(states)} distinct states, LF and CRLF)")
    return 0 if states and good == 2 * len(states) else 1


if __name__ == "__main__":
    sys.exit(main())
