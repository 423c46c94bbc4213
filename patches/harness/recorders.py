"""Methods of a checkout's own objects, replaced by ones that record and otherwise do the same."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any


def record_calls(
    owner: Any,
    method: str,
    *,
    before: Callable[[Mapping[str, Any]], object] | None = None,
    returned: Callable[[Any], object] | None = None,
    raised: Callable[[Exception], object] | None = None,
) -> None:
    """From now on a call of `owner.method` calls `before` with its arguments by name, then the method, then `returned`
    with the result or `raised` with the exception, which goes on to the caller. Does nothing without such a method."""
    call = getattr(owner, method, None)
    if call is None:
        return

    @wraps(call)
    def recording(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(named(call, args, kwargs))
        try:
            result = call(*args, **kwargs)
        except Exception as error:
            if raised is not None:
                raised(error)
            raise
        if returned is not None:
            returned(result)
        return result

    vars(owner)[method] = recording  # a checkout may have made it a property


def named(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their parameters' names."""
    if not args:
        return dict(kwargs)
    return inspect.signature(function).bind(*args, **kwargs).arguments


def call_in_thread(function: Callable[[], Any]) -> Any:
    """The result of `function`, called in a thread of its own; what it raises is raised here."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="worker", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
