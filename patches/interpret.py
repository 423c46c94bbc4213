"""Follows a function of a checkout by reading it: which values reach which call, on all ways that stay open.

Nothing is run. A condition whose outcome is known closes the other way; else both are followed and joined.
Conditions decide ways, they do not mark values: only what a value is made of counts as its origin.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .evaluate import Evaluator, dotted
from .facts import facts_of
from .values import NOTHING_KNOWN, UNKNOWN, Value, constant, either, origins_of, something

Env = dict[str, Value]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Sources = Callable[[ast.expr], Value | None]

_MAX_DEPTH = 8
_MAX_STATEMENTS = 20_000


class TooMuchToFollow(Exception):
    """The code does not end within the budget; nothing is said about it then."""


class DoesNotFit(Exception):
    """A call gives a function an argument that it does not take: Python would raise TypeError."""


@dataclass
class Frame:
    """One function being followed."""

    returned: Value | None = None
    open_loops: list[list[Env]] = field(default_factory=list)


@dataclass(frozen=True)
class Arguments:
    """What a call was seen to pass."""

    positional: tuple[Value, ...]
    keywords: Mapping[str, Value]


class Interpreter(Evaluator):
    """Follows functions of one module; keeps what reaches `watched` and what the outermost loops run over."""

    def __init__(self, module: ast.Module, watched: str = "", sources: Sources = lambda _: None) -> None:
        super().__init__(facts_of(module), sources)
        self.watched = watched
        self.seen: list[Arguments] = []
        self.loops: list[Value] = []
        self.statements = 0
        self.frames: list[Frame] = []

    def follow(self, function: FunctionNode, env: Env) -> Value:
        """Follows `function` from the given parameters; returns what it may return."""
        if len(self.frames) >= _MAX_DEPTH:
            return NOTHING_KNOWN
        frame = Frame()
        self.frames.append(frame)
        try:
            end = self.block(function.body, dict(env))
        finally:
            self.frames.pop()
        if end is not None:
            frame.returned = _or(frame.returned, constant(None))
        return frame.returned or NOTHING_KNOWN

    def called(self, name: str, positional: Sequence[Value], keywords: Mapping[str, Value]) -> Value | None:
        if name != self.watched:
            return None
        self.seen.append(Arguments(tuple(positional), dict(keywords)))
        return Value(none=False)

    def inline(
        self, function: ast.AST, positional: Sequence[Value], keywords: Mapping[str, Value], env: Env
    ) -> Value:
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return something(*positional, *keywords.values())
        try:
            bound = self.bind(function, positional, keywords)
        except DoesNotFit:
            return something(*positional, *keywords.values())
        return self.follow(function, {**env, **bound})

    def bind(self, function: FunctionNode, positional: Sequence[Value], keywords: Mapping[str, Value]) -> Env:
        """The parameters of `function` as a call sets them. Raises DoesNotFit."""
        args = function.args
        ordered = [*args.posonlyargs, *args.args]
        env = {a.arg: NOTHING_KNOWN for a in [*ordered, *args.kwonlyargs]}
        for a, default in zip(ordered[len(ordered) - len(args.defaults) :], args.defaults, strict=True):
            env[a.arg] = self.value(default, {})
        for a, given in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            env[a.arg] = self.value(given, {}) if given is not None else NOTHING_KNOWN
        env.update(zip((a.arg for a in ordered), positional, strict=False))
        if args.vararg:
            env[args.vararg.arg] = something(*positional[len(ordered) :])
        further = {name: value for name, value in keywords.items() if name not in env}
        if further and not args.kwarg:
            raise DoesNotFit(", ".join(further))
        env.update((name, value) for name, value in keywords.items() if name not in further)
        if args.kwarg:
            env[args.kwarg.arg] = Value(origins_of(*further.values()), none=False, entries=further)
        return env

    def block(self, statements: Sequence[ast.stmt], env: Env | None) -> Env | None:
        """The names after `statements`; None if no way leads past them."""
        for statement in statements:
            if env is None:
                return None
            self.statements += 1
            if self.statements > _MAX_STATEMENTS:
                raise TooMuchToFollow
            env = self.statement(statement, env)
        return env

    def statement(self, node: ast.stmt, env: Env) -> Env | None:
        match node:
            case ast.Return():
                value = self.value(node.value, env) if node.value else constant(None)
                self.frames[-1].returned = _or(self.frames[-1].returned, value)
                return None
            case ast.Raise():
                return None
            case ast.Break() | ast.Continue():
                if self.frames[-1].open_loops:
                    self.frames[-1].open_loops[-1].append(env)
                return None
            case ast.If():
                return self.branch(node, env)
            case ast.For() | ast.AsyncFor() | ast.While():
                return self.loop(node, env)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self.assign(item.optional_vars, self.value(item.context_expr, env), env)
                return self.block(node.body, env)
            case ast.Try() | ast.TryStar():
                return self.attempt(node, env)
            case ast.Match():
                ends = [self.block(case.body, dict(env)) for case in node.cases]
                return _join([env, *ends])
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                env[node.name] = Value(none=False, true=True, function=node)
            case ast.Assign():
                value = self.value(node.value, env)
                for target in node.targets:
                    self.assign(target, value, env)
            case ast.AnnAssign():
                if node.value:
                    self.assign(node.target, self.value(node.value, env), env)
            case ast.AugAssign():
                self.assign(
                    node.target, something(self.value(node.target, env), self.value(node.value, env)), env
                )
            case ast.Expr():
                self.value(node.value, env)
            case ast.Assert():
                return None if self.value(node.test, env).truth is False else env
        return env

    def branch(self, node: ast.If, env: Env) -> Env | None:
        truth = self.value(node.test, env).truth
        if truth is not None:
            return self.block(node.body if truth else node.orelse, env)
        return _join([self.block(node.body, dict(env)), self.block(node.orelse, dict(env))])

    def loop(self, node: ast.For | ast.AsyncFor | ast.While, env: Env) -> Env | None:
        over = self.value(node.test if isinstance(node, ast.While) else node.iter, env)
        if len(self.frames) == 1 and over.origins:
            self.loops.append(over)
        if isinstance(node, ast.While) and over.truth is False:
            return self.block(node.orelse, env)
        now: Env = env
        for _ in range(
            3
        ):  # origins only grow, and three rounds carry them through any chain seen in the wild
            inside = dict(now)
            if not isinstance(node, ast.While):
                self.assign(node.target, Value(over.origins), inside)
            self.frames[-1].open_loops.append([])
            end = self.block(node.body, inside)
            now = _join([now, end, *self.frames[-1].open_loops.pop()]) or now
        return self.block(node.orelse, now)

    def attempt(self, node: ast.Try | ast.TryStar, env: Env) -> Env | None:
        end = self.block(node.body, dict(env))
        start = _join([env, end]) or env
        handled = [self.block(handler.body, dict(start)) for handler in node.handlers]
        joined = _join([self.block(node.orelse, end) if end is not None else None, *handled])
        return self.block(node.finalbody, joined) if joined is not None else None

    def assign(self, target: ast.expr | None, value: Value, env: Env) -> None:
        match target:
            case ast.Name():
                env[target.id] = value
            case ast.Attribute():
                env[dotted(target)] = value
            case ast.Starred():
                self.assign(target.value, Value(value.origins, none=False), env)
            case ast.Tuple() | ast.List():
                for part in target.elts:
                    self.assign(part, Value(value.origins), env)
            case ast.Subscript(value=ast.Name(id=name), slice=key):
                held = env.get(name, NOTHING_KNOWN)
                if held.entries is not None and isinstance(key, ast.Constant) and isinstance(key.value, str):
                    env[name] = replace(held, entries={**held.entries, key.value: value})
                else:
                    env[name] = Value(
                        origins_of(held, value), UNKNOWN, held.truth, held.is_none, held.entries
                    )


def _or(one: Value | None, other: Value) -> Value:
    return other if one is None else either(one, other)


def _join(envs: Sequence[Env | None]) -> Env | None:
    open_ways = [env for env in envs if env is not None]
    if not open_ways:
        return None
    joined = dict(open_ways[0])
    for env in open_ways[1:]:
        joined = {n: either(joined.get(n, NOTHING_KNOWN), env.get(n, NOTHING_KNOWN)) for n in {*joined, *env}}
    return joined
