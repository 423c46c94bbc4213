"""The value of an expression of a checkout, as far as reading tells (see `patches.interpret`)."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from .library import library_call
from .values import (
    NOTHING_KNOWN,
    UNKNOWN,
    Origin,
    Value,
    constant,
    either,
    origins_of,
    something,
)

Env = dict[str, Value]

_COMPARED: Mapping[type[ast.cmpop], Callable[[object, object], object]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,  # type: ignore[operator]
    ast.LtE: lambda a, b: a <= b,  # type: ignore[operator]
    ast.Gt: lambda a, b: a > b,  # type: ignore[operator]
    ast.GtE: lambda a, b: a >= b,  # type: ignore[operator]
    ast.Is: lambda a, b: a is b,
    ast.IsNot: lambda a, b: a is not b,
}


@dataclass(frozen=True)
class Facts:
    """What a module's own level says: values and methods by name, names by alias; all its functions; and, of
    the names that it imports, which come from a library (True) and which from the checkout itself (False).
    """

    values: Env
    methods: dict[str, ast.FunctionDef]
    aliases: dict[str, str]
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef]
    imported: dict[str, bool]


class Evaluator:
    """Reads expressions of one module. `sources` says of which ones the value is given from outside."""

    def __init__(self, facts: Facts, sources: Callable[[ast.expr], Value | None] = lambda _: None) -> None:
        self.facts = facts
        self.sources = sources

    def called(self, name: str, positional: Sequence[Value], keywords: Mapping[str, Value]) -> Value | None:
        """For a subclass: the value of a call that it wants to see."""
        return None

    def inline(
        self, function: ast.AST, positional: Sequence[Value], keywords: Mapping[str, Value], env: Env
    ) -> Value:
        """For a subclass: the value of a call of a function whose text is at hand."""
        return something(*positional, *keywords.values())

    def value(self, node: ast.expr, env: Env) -> Value:
        given = self.sources(node)
        if given is not None:
            return given
        match node:
            case ast.Constant():
                return constant(node.value)
            case ast.Name():
                return env.get(node.id, self.facts.values.get(node.id, NOTHING_KNOWN))
            case ast.NamedExpr():
                env[node.target.id] = value = self.value(node.value, env)
                return value
            case ast.Attribute():
                return env.get(dotted(node)) or Value(self.value(node.value, env).origins)
            case ast.BoolOp():
                return self.bool_op(node, env)
            case ast.UnaryOp(op=ast.Not()):
                truth = self.value(node.operand, env).truth
                return Value(none=False) if truth is None else constant(not truth)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return constant(-number)
            case ast.Compare():
                return self.compare(node, env)
            case ast.IfExp():
                truth = self.value(node.test, env).truth
                if truth is not None:
                    return self.value(node.body if truth else node.orelse, env)
                return either(self.value(node.body, env), self.value(node.orelse, env))
            case ast.Call():
                return self.call(node, env)
            case ast.Subscript():
                return self.subscript(node, env)
            case ast.Dict():
                return self.dict(node, env)
            case ast.List() | ast.Tuple() | ast.Set():
                parts = [self.value(part, env) for part in node.elts]
                table = constant(None, Origin.TABLE) if _is_table(node) else NOTHING_KNOWN
                return something(*parts, table, true=bool(parts))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.comprehension(node, env)
            case ast.Lambda():
                inner = {**env, **{a.arg: NOTHING_KNOWN for a in node.args.args}}
                defaults = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                inner.update({a.arg: self.value(default, env) for a, default in defaults})
                return something(self.value(node.body, inner))
            case ast.Starred() | ast.Await():
                return Value(self.value(node.value, env).origins)
        parts = [self.value(part, env) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)]
        return something(*parts)

    def bool_op(self, node: ast.BoolOp, env: Env) -> Value:
        stops_at = isinstance(node.op, ast.Or)
        possible: Value | None = None
        for part in node.values:
            value = self.value(part, env)
            last = part is node.values[-1] or value.truth is stops_at
            if last or value.truth is None:
                possible = value if possible is None else _joined_truth(possible, value, stops_at)
            if last:
                break
        return possible if possible is not None else NOTHING_KNOWN

    def compare(self, node: ast.Compare, env: Env) -> Value:
        values = [self.value(part, env) for part in (node.left, *node.comparators)]
        if len(node.ops) > 1:
            return Value(none=False)
        (left, right), op = values, node.ops[0]
        if right.known is None and isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
            found = left.is_none
            return Value(none=False) if found is None else constant(found is isinstance(op, (ast.Is, ast.Eq)))
        if UNKNOWN in (left.known, right.known) or type(op) not in _COMPARED:
            return Value(none=False)
        try:
            return constant(bool(_COMPARED[type(op)](left.known, right.known)))
        except TypeError:
            return Value(none=False)

    def call(self, node: ast.Call, env: Env) -> Value:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = self.facts.aliases.get(name, name)
        positional = [self.value(arg, env) for arg in node.args]
        keywords: dict[str, Value] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, env)
            keywords |= {keyword.arg: value} if keyword.arg else dict(value.entries or {})
        watched = self.called(name, positional, keywords)
        if watched is not None:
            return watched
        if isinstance(node.func, ast.Attribute):
            return self.method_call(node.func, node, positional, keywords, env)
        target = self.value(node.func, env)
        if target.function is not None:
            return self.inline(target.function, positional, keywords, env)
        made = library_call(name, node, positional, keywords)
        return made if self.is_library(node.func) else something(made, constant(None, Origin.UNSEEN))

    def is_library(self, func: ast.expr) -> bool:
        """Whether what is called makes of its arguments what its name says: Python's own and libraries do."""
        root = dotted(func).partition(".")[0]
        return self.facts.imported.get(root, hasattr(builtins, root))

    def method_call(
        self,
        func: ast.Attribute,
        node: ast.Call,
        positional: Sequence[Value],
        keywords: Mapping[str, Value],
        env: Env,
    ) -> Value:
        held = self.value(func.value, env)
        if isinstance(func.value, ast.Name) and func.value.id == "self" and func.attr in self.facts.methods:
            me = env.get("self", NOTHING_KNOWN)
            return self.inline(self.facts.methods[func.attr], [me, *positional], keywords, {"self": me})
        if func.attr == "get" and positional:
            default = positional[1] if len(positional) > 1 else constant(None)
            key = positional[0].known
            if held.entries is not None and isinstance(key, str):
                return held.entries.get(key, default)
            return default if len(positional) > 1 else NOTHING_KNOWN
        made = something(held, *positional, *keywords.values())
        if isinstance(func.value, ast.Name) and isinstance(node.func, ast.Attribute):
            if func.attr == "update" and held.entries is not None:
                further = positional[0].entries if positional else {}
                entries = None if further is None else {**held.entries, **further, **keywords}
                env[func.value.id] = replace(held, origins=made.origins, entries=entries)
            elif func.attr in (
                "append",
                "extend",
                "insert",
                "add",
                "pop",
                "remove",
                "clear",
                "sort",
                "reverse",
            ):
                env[func.value.id] = Value(made.origins, none=False)
        if self.facts.imported.get(dotted(func).partition(".")[0]) is False:
            return something(made, constant(None, Origin.UNSEEN))
        return made

    def subscript(self, node: ast.Subscript, env: Env) -> Value:
        held = self.value(node.value, env)
        if isinstance(node.slice, ast.Slice):
            end = self.value(node.slice.upper, env) if node.slice.upper else None
            cut = end is not None and not (isinstance(end.known, int) and end.known < 0)
            if cut and end is not None and held.origins - end.origins - {Origin.TABLE}:
                return something(held, constant(None, Origin.CUT))
            return something(held)
        key = self.value(node.slice, env)
        if held.entries is not None and isinstance(key.known, str):
            return held.entries.get(key.known, NOTHING_KNOWN)
        return Value(origins_of(held, key))

    def dict(self, node: ast.Dict, env: Env) -> Value:
        values = [self.value(value, env) for value in node.values]
        entries: dict[str, Value] | None = {}
        for key, value in zip(node.keys, values, strict=True):
            if key is None and value.entries is not None and entries is not None:
                entries |= value.entries
            elif isinstance(key, ast.Constant) and isinstance(key.value, str) and entries is not None:
                entries[key.value] = value
            else:
                entries = None
        return Value(origins_of(*values), none=False, true=bool(values), entries=entries)

    def comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, env: Env
    ) -> Value:
        inner = dict(env)
        over = []
        for generator in node.generators:
            over.append(self.value(generator.iter, inner))
            for name in ast.walk(generator.target):
                if isinstance(name, ast.Name):
                    inner[name.id] = Value(over[-1].origins)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        filtered = any(generator.ifs for generator in node.generators)
        true = over[0].truth if len(over) == 1 and not filtered else None
        return something(*over, *(self.value(part, inner) for part in parts), true=true)


def _joined_truth(one: Value, other: Value, stops_at: bool) -> Value:
    """`one or other`: if `other` is true then so is the whole, whatever `one` is (and alike for `and`)."""
    joined = either(one, other)
    return replace(joined, true=stops_at) if joined.known is UNKNOWN and other.truth is stops_at else joined


def _is_table(node: ast.List | ast.Tuple | ast.Set) -> bool:
    numbers = [
        part for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, (int, float))
    ]
    return len(numbers) > 2


def dotted(node: ast.expr) -> str:
    """`a.b.c` for such a chain of names, else ""."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else ""
