"""The one request that `patches.judge` follows, and how the code of E and D reads it and the host."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from .evaluate import dotted
from .values import Origin, Value, constant, something

ASKED = 50
STEPS = constant(ASKED, Origin.STEPS)
_CONFIG = ("config", "cfg")


@dataclass(frozen=True)
class Request:
    """One call of E: with a list of custom timesteps or without, of which kind of model."""

    listed: bool = False
    turbo: bool = False

    @property
    def timesteps(self) -> Value:
        return something(Value(frozenset({Origin.CUSTOM})), true=True) if self.listed else constant(None)


PLAIN, LISTED, TURBO = Request(), Request(listed=True), Request(turbo=True)


def asked_for(node: ast.expr, request: Request, steps_absent: bool) -> Value | None:
    """The request as E sees it: kwargs.get("infer_steps", ...), kwargs["timesteps"] and the like."""
    match node:
        case ast.Call(func=ast.Attribute(attr="get"), args=[ast.Constant(value=str() as key), *_]):
            pass
        case ast.Subscript(slice=ast.Constant(value=str() as key), ctx=ast.Load()):
            pass
        case _:
            return host(node, request)
    if key == "infer_steps" and steps_absent:
        return None
    return {"infer_steps": STEPS, "timesteps": request.timesteps}.get(key) or host(node, request)


def host(node: ast.expr, request: Request) -> Value | None:
    """The host as D sees it: it has a config, and the config says of which kind the model is."""
    match node:
        case ast.Attribute(value=held, attr="is_turbo") if _is_config(held):
            return constant(request.turbo)
        case ast.Call(func=ast.Name(id="getattr"), args=[held, ast.Constant(value="is_turbo"), *_]):
            return constant(request.turbo) if _is_config(held) else None
        case ast.Call(func=ast.Attribute(value=held, attr="get"), args=[ast.Constant(value="is_turbo"), *_]):
            return constant(request.turbo) if _is_config(held) else None
        case ast.Subscript(value=held, slice=ast.Constant(value="is_turbo")) if _is_config(held):
            return constant(request.turbo)
        case ast.Call(func=ast.Attribute(attr="is_turbo_model"), args=[]):
            return constant(request.turbo)
        case ast.Call(func=ast.Name(id="hasattr"), args=[held, ast.Constant(value="is_turbo")]):
            return constant(True) if _is_config(held) else None
        case ast.Call(func=ast.Name(id="hasattr"), args=[_, ast.Constant(value="config")]):
            return constant(True)
        case ast.Attribute() | ast.Call() if _is_config(node):
            return Value(true=True, none=False)
    return None


def _is_config(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]):
            return name in _CONFIG
        case ast.NamedExpr(value=value):
            return _is_config(value)
    return dotted(node).rpartition(".")[2] in _CONFIG
