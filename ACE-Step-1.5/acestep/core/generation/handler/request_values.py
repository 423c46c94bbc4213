"""Values of a request as callers have them: numbers and sequences of Python, numpy, PyTorch or mlx."""

import numbers
from collections.abc import Sequence
from typing import Any

SHOWN = 100  # characters of a value in a message


def show(value: Any) -> str:
    """repr of a value for a message: on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except (
        Exception
    ):  # Python refuses to write integers of more than 4300 digits, a caller's class may raise anything
        return f"a value of the type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def plain_number(value: Any) -> int | float | None:
    """The int or float that a scalar holds, an int wherever the number is whole; None for anything else, and for bool.

    A scalar is a number of Python, or an array or tensor without dimensions.
    """
    try:
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return None
        if isinstance(value, numbers.Integral):
            return int(value)
        number = float(value)
        return int(number) if number.is_integer() else number
    except (
        ArithmeticError,
        TypeError,
        ValueError,
        RuntimeError,
    ):  # a fraction too large, a tensor without data
        return None


def plain_list(value: Any) -> list[Any] | None:
    """The entries of a list, tuple, range, or of an array or tensor of one dimension; None for anything else."""
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):
        try:
            value = value.tolist()
        except (TypeError, ValueError, RuntimeError):  # a tensor without data
            return None
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return list(value)
    return None
