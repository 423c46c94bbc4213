"""Reads a module's own level: its functions, methods and tables, and the names that its imports give."""

import ast
from functools import lru_cache

from .evaluate import Evaluator, Facts
from .values import Origin, Value, constant, something


@lru_cache(maxsize=32)  # each request that is followed through a module asks for these again
def facts_of(module: ast.Module) -> Facts:
    """The facts of `module`, in the order of its statements; what a condition decides is left open."""
    facts = Facts({}, {}, {}, [], {})
    reader = Evaluator(facts)
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            facts.methods.update((f.name, f) for f in node.body if isinstance(f, ast.FunctionDef))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            facts.functions.append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            _note_imports(facts, node)
    for statement in module.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            facts.values[statement.name] = Value(none=False, true=True, function=statement)
        elif isinstance(statement, ast.ImportFrom):
            tables = [alias for alias in statement.names if "TIMESTEPS" in alias.name]
            table = something(constant(None, Origin.TABLE))
            facts.values.update((alias.asname or alias.name, table) for alias in tables)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            value = reader.value(statement.value, {})
            facts.values.update((target.id, value) for target in targets if isinstance(target, ast.Name))
    return facts


def _note_imports(facts: Facts, node: ast.Import | ast.ImportFrom) -> None:
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        own = module.partition(".")[0] == "acestep" or (isinstance(node, ast.ImportFrom) and node.level > 0)
        facts.imported[alias.asname or alias.name.partition(".")[0]] = not own
        if alias.asname and isinstance(node, ast.ImportFrom):
            facts.aliases[alias.asname] = alias.name
