"""Follows the asked-for steps and the model kind from E through D into G's loop, without running anything.

E calls D's `_mlx_run_diffusion`, D calls G's `mlx_generate_diffusion`, whose loop runs over the schedule. One
request is followed: 50 steps of a base model (or a list of custom timesteps), everything else left out.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .facts import facts_of
from .interpret import Arguments, DoesNotFit, FunctionNode, Interpreter, TooMuchToFollow
from .names import BUILD, GENERATE, RUN
from .request import LISTED, PLAIN, STEPS, TURBO, Request, asked_for, host
from .source import Source
from .values import Origin, Value, constant


@dataclass(frozen=True)
class Honoured:
    """What a base model's request gets: the asked-for number of steps; the asked-for timesteps as they are.

    None where reading cannot tell, because a schedule comes out of code that is not in the three files.
    """

    steps: bool | None
    timesteps: bool | None

    def __bool__(self) -> bool:
        return self.steps is True and self.timesteps is True


@dataclass(frozen=True)
class Judgement:
    """`execute`, `diffusion` and `generate` tell whether each file does its own part, given that the others do."""

    execute: bool
    diffusion_steps: bool
    diffusion_kind: bool
    generate: Honoured
    together: Honoured

    @property
    def diffusion(self) -> bool:
        return self.diffusion_steps and self.diffusion_kind


@dataclass(frozen=True)
class Threesome:
    """The three files as sources."""

    execute: Source
    diffusion: Source
    generate: Source


def judge(files: Threesome) -> Judgement:
    """What reading the three files tells. Never raises: what cannot be followed counts as not honoured."""
    asked = {request: _ask(files.execute, request) for request in (PLAIN, LISTED, TURBO)}
    execute = _passes_steps(asked[PLAIN])
    absent = {} if execute else {"infer_steps": STEPS}
    forwarded = {
        request: _forward(files.diffusion, _with(found, request, absent), request)
        for request, found in asked.items()
    }
    steps = _passes_steps(forwarded[PLAIN])
    if forwarded[PLAIN] is None:  # D may tell the kind even where it does not take the steps yet
        forwarded = {request: _forward(files.diffusion, found, request) for request, found in asked.items()}
    kind = _tells_the_kind(forwarded[PLAIN], forwarded[TURBO])

    def generated(**further: Value) -> Honoured:
        plain = _with(forwarded[PLAIN], PLAIN, further)
        listed = _with(forwarded[LISTED], LISTED, further)
        if not any(Origin.CUSTOM in value.origins for value in _values(listed)):
            listed = _with(listed, LISTED, {"timesteps": LISTED.timesteps})
        return _loops(files.generate, plain, listed)

    missing_steps = {} if steps else {"infer_steps": STEPS}
    generate = generated(**missing_steps, **({} if kind else {"is_turbo": constant(False)}))
    if not kind and generated(**missing_steps):  # a schedule that is right for base models without being told
        kind, generate = True, Honoured(True, True)
    really = (_forward(files.diffusion, asked[request], request) for request in (PLAIN, LISTED))
    return Judgement(execute, steps, kind, generate, _loops(files.generate, *really))


def calls_that_fail(files: Threesome) -> frozenset[str]:
    """Which of the calls from E into D and from D into G pass what is not taken: upstream then runs PyTorch."""
    asked = _ask(files.execute, PLAIN)
    forwarded = _forward(files.diffusion, asked, PLAIN)
    into_diffusion = asked is not None and not _fits(files.diffusion, RUN, asked, is_method=True)
    into_generate = forwarded is not None and not _fits(files.generate, GENERATE, forwarded)
    return frozenset({RUN} if into_diffusion else ()) | frozenset({GENERATE} if into_generate else ())


def _fits(source: Source, name: str, arguments: Arguments, is_method: bool = False) -> bool:
    function = _function(source, name)
    try:
        positional = [Value()] * is_method + list(arguments.positional)
        return function is None or bool(
            Interpreter(source.tree).bind(function, positional, arguments.keywords)
        )
    except DoesNotFit:
        return False


def _ask(source: Source, request: Request) -> Arguments | None:
    """What E hands to D; None if there is no call to be seen."""
    absent = not request_holds_steps(source)
    for function in facts_of(source.tree).functions:
        if any(_is_call_of(node, RUN) for node in ast.walk(function)):
            run = Interpreter(source.tree, RUN, lambda node: asked_for(node, request, absent))
            names = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
            given = {"infer_steps": STEPS, "timesteps": request.timesteps}
            return _seen(run, function, Arguments((), {k: v for k, v in given.items() if k in names}))
    return None


def _forward(source: Source, asked: Arguments | None, request: Request) -> Arguments | None:
    """What D hands to G when it is called with `asked`; None if that call does not fit, or G is not called."""
    function = _function(source, RUN)
    if function is None or asked is None:
        return None
    run = Interpreter(source.tree, GENERATE, lambda node: host(node, request))
    return _seen(run, function, replace(asked, positional=(Value(none=False), *asked.positional)))


def _loops(source: Source, plain: Arguments | None, listed: Arguments | None) -> Honoured:
    """Whether G's loop runs over what was asked for, in both requests."""
    return Honoured(_loop_is_of(source, plain, Origin.STEPS), _loop_is_of(source, listed, Origin.CUSTOM))


def _loop_is_of(source: Source, arguments: Arguments | None, origin: Origin) -> bool | None:
    function = _function(source, GENERATE)
    if function is None or arguments is None:
        return False
    run = Interpreter(source.tree)
    _seen(run, function, arguments)
    origins = run.loops[-1].origins if run.loops else frozenset()
    if origin not in origins or origins & {Origin.TABLE, Origin.CUT}:
        return False
    return None if Origin.UNSEEN in origins else True


def _seen(run: Interpreter, function: FunctionNode, arguments: Arguments) -> Arguments | None:
    try:
        run.follow(function, run.bind(function, arguments.positional, arguments.keywords))
    except (DoesNotFit, TooMuchToFollow, RecursionError):
        run.loops.clear()
        return None
    return run.seen[0] if len(run.seen) else None


def request_holds_steps(source: Source) -> bool:
    """Whether E's builder puts infer_steps into the request; true where there is no builder to be read."""
    builder = _function(source, BUILD)
    if builder is None:
        return True
    run = Interpreter(source.tree)
    try:
        made = run.follow(builder, run.bind(builder, (), {}))
    except (TooMuchToFollow, RecursionError):
        return True
    return made.entries is None or "infer_steps" in made.entries


def _tells_the_kind(base: Arguments | None, turbo: Arguments | None) -> bool:
    """Whether some argument is a bool that says of which kind the model is (either way round)."""
    if base is None or turbo is None:
        return False
    pairs = [*zip(base.positional, turbo.positional, strict=False)]
    pairs += [
        (value, turbo.keywords[name]) for name, value in base.keywords.items() if name in turbo.keywords
    ]
    return any((one.known, other.known) in ((True, False), (False, True)) for one, other in pairs)


def _passes_steps(arguments: Arguments | None) -> bool:
    return arguments is not None and STEPS in _values(arguments)


def _values(arguments: Arguments) -> list[Value]:
    return [*arguments.positional, *arguments.keywords.values()]


def _with(arguments: Arguments | None, request: Request, further: Mapping[str, Value]) -> Arguments:
    arguments = arguments or Arguments((), {"timesteps": request.timesteps})
    return Arguments(arguments.positional, {**arguments.keywords, **further})


def _function(source: Source, name: str) -> FunctionNode | None:
    return next((f for f in facts_of(source.tree).functions if f.name == name), None)


def _is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
