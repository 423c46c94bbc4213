"""A caller's progress callback, called as upstream calls it."""

import inspect
from typing import Any

from acestep.core.generation.handler.request_values import show
from acestep.errors import RequestError


class Progress:
    """Calls progress(fraction, desc=...), or progress(fraction) where it takes no desc."""

    def __init__(self, callback: Any) -> None:
        if callback is not None and not callable(callback):
            raise RequestError(f"progress is {show(callback)}, expected a function of a fraction and desc")
        self._callback = callback
        self._takes_desc = callback is not None and _takes_desc(callback)

    def tell(self, fraction: float, desc: str) -> None:
        """RequestError where the callback raises."""
        if self._callback is None:
            return
        try:
            if self._takes_desc:
                self._callback(fraction, desc=desc)
            else:
                self._callback(fraction)
        except Exception as error:
            raise RequestError(f"the progress callback failed ({show(error)})") from error


def _takes_desc(callback: Any) -> bool:
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):  # some built-in functions have no signature
        return True
    return any(p.name == "desc" or p.kind is p.VAR_KEYWORD for p in parameters)
