"""Tries the patch kit on every distinct state that the patched files had in the history of a clone of ACE-Step 1.5.

Each state, with LF and with CRLF, is extracted into a temporary folder and patched there: apply, check, apply again
(writes nothing), revert (the same bytes); a series that cannot be applied has to leave every byte as it was. With the
series `steps` the proof runs as well. The clone is only read.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from patches.checkout import DIFFUSION, EXECUTE, GENERATE, GENERATE_EARLY
from patches.cli import main as patches_main
from patches.commands import ALL_SERIES

THREE_FILES = [path.as_posix() for path in (EXECUTE, DIFFUSION, GENERATE, GENERATE_EARLY)]
DECODERS = [
    str(path.with_name(path.name.replace("generate", "model"))) for path in (GENERATE, GENERATE_EARLY)
]


def git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def files_of(series: str) -> list[str]:
    """The files that the patches of a series are for, in both homes of the MLX loop."""
    (patches,) = [one.patches for one in ALL_SERIES if one.name == series]
    others = {patch.target for patch in patches if "/" in patch.target}
    return [*THREE_FILES, *sorted(others), *(DECODERS if others else [])]


def distinct_states(repository: Path, revision: str, prefix: str, names: Sequence[str]) -> list[str]:
    """The newest commit of each distinct set of these files; without the file of the patch `execute` there is none."""
    paths = [prefix + name for name in names]
    seen: dict[tuple[str, ...], str] = {}
    for commit in git(repository, "log", "--format=%H", revision, "--", *paths).decode().split():
        listed = git(repository, "ls-tree", commit, "--", *paths).decode().splitlines()
        blobs = {line.split("\t")[1]: line.split()[2] for line in listed}
        if paths[0] in blobs:
            seen.setdefault(tuple(blobs.get(path, "") for path in paths), commit)
    return list(seen.values())


def extract(repository: Path, commit: str, prefix: str, folder: Path, newline: bytes) -> None:
    """Writes the Python files of acestep/ below `folder`, every line ended by `newline`."""
    listed = git(repository, "ls-tree", "-r", "--full-tree", commit, "--", f"{prefix}acestep").decode()
    blobs = {line.split("\t")[1]: line.split()[2] for line in listed.splitlines() if line.endswith(".py")}
    out, at = git(repository, "cat-file", "--batch", stdin="\n".join(blobs.values()).encode()), 0
    for name in blobs:
        end = out.index(b"\n", at)
        size = int(out[at:end].split()[2])
        at = end + 1 + size + 1
        target = folder / name.removeprefix(prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        data = out[end + 1 : end + 1 + size].replace(b"\r\n", b"\n")
        target.write_bytes(data.replace(b"\n", newline))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the bytecode that a proof may leave behind."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    return {str(path): path.read_bytes() for path in files}


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = patches_main(arguments)
    return status, out.getvalue().strip()


def try_one(folder: Path, series: str, with_proof: bool) -> tuple[str, str]:
    """How it went, in one word or two, and what was said where it went wrong."""
    root, chosen = str(folder), ("--series", series)
    before = contents(folder)
    status, said = run("apply", root, *chosen)
    after = contents(folder)
    if status:
        return ("refused, untouched", said) if after == before else ("FAILED: refused and wrote", said)
    status, said = run("check", root, *chosen)
    if status:
        return "FAILED: check after apply", said
    if with_proof:
        status, said = run("verify", root)
        if status:
            return "FAILED: not proved", said
    status, said = run("apply", root, *chosen)
    if status or contents(folder) != after:
        return "FAILED: applied twice", said
    status, said = run("revert", root, *chosen)
    if status or contents(folder) != before:
        return "FAILED: revert", said
    return "patched, reverted" if after != before else "nothing to patch", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", metavar="GITDIR", type=Path, help="a clone (bare or not)")
    parser.add_argument("--revision", default="HEAD", help="whose history to walk (default HEAD)")
    parser.add_argument("--prefix", default="", help="folder of the checkout in the repository, with a slash")
    parser.add_argument("--series", default="steps", choices=[series.name for series in ALL_SERIES])
    parser.add_argument("--no-proof", action="store_true", help="do not run the code of each state")
    options = parser.parse_args()
    try:
        states = distinct_states(
            options.repository, options.revision, options.prefix, files_of(options.series)
        )
    except subprocess.CalledProcessError as error:
        print(f"{options.repository}: {error.stderr.decode(errors='replace').strip()}", file=sys.stderr)
        return 1
    counts: Counter[str] = Counter()
    for commit in states:
        for newline in (b"\n", b"\r\n"):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                extract(options.repository, commit, options.prefix, folder, newline)
                with_proof = options.series == "steps" and not options.no_proof
                word, said = try_one(folder, options.series, with_proof)
            counts[word] += 1
            ends = "LF" if newline == b"\n" else "CRLF"
            print(f"{commit[:10]}  {ends:4}  {word}", flush=True)
            if said:
                print(f"    {said}", flush=True)
    print(f"{len(states)} distinct states, LF and CRLF: {dict(counts)}")
    return 1 if not states or any(word.startswith("FAILED") for word in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
