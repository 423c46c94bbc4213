"""Names of upstream's public API at three commits: read from a clone, or from the list that is stored beside this."""

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

COMMITS = ("88c9f20", "8567e33", "250efdc")
STORED = Path(__file__).with_name("upstream_names.json")
CLASSES = ("GenerationParams", "GenerationConfig", "GenerationResult")
FUNCTIONS = ("generate_music", "initialize_service", "generate_instruction")

Names = dict[str, list[str]]


def stored_names() -> dict[str, Names]:
    """Commit -> class or function -> its fields or parameters in order, `self` left out."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def _sources(clone: Path, commit: str) -> Iterator[str]:
    """The files that may hold the public API, the top level one first."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(clone), *command], capture_output=True, text=True, check=True
        ).stdout

    yield git("show", f"{commit}:acestep/inference.py")
    for function in FUNCTIONS[1:]:
        found = git("grep", "-l", f"def {function}(", commit, "--", "acestep/handler.py", "acestep/core")
        for path in sorted(line.partition(":")[2] for line in found.splitlines()):
            if not path.endswith("_test.py"):
                yield git("show", f"{commit}:{path}")


def names_of_clone(clone: Path, commit: str) -> Names:
    """As `stored_names` has them, of one commit of a clone with history."""
    names: Names = {}
    for source in _sources(clone, commit):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name in CLASSES:
                fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
                names[node.name] = [target.id for target in fields if isinstance(target, ast.Name)]
            elif isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS and node.name not in names:
                names[node.name] = [arg.arg for arg in node.args.args if arg.arg != "self"]
    return names
