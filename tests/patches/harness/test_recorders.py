"""A recorded method does what it did, and a call in a thread ends as it would here."""

import threading
from typing import Any

import pytest

from patches.harness.recorders import call_in_thread, record_calls


class Handler:
    def divide(self, one: float, *, by: float) -> float:
        return one / by


def test_recorded_method_returns_and_raises_as_before() -> None:
    handler = Handler()
    seen: list[Any] = []
    record_calls(handler, "divide", before=seen.append, returned=seen.append, raised=seen.append)
    assert handler.divide(3.0, by=2.0) == 1.5
    with pytest.raises(ZeroDivisionError) as caught:
        handler.divide(3.0, by=0.0)
    assert seen == [{"one": 3.0, "by": 2.0}, 1.5, {"one": 3.0, "by": 0.0}, caught.value]


def test_method_that_is_recorded_twice_still_names_its_arguments() -> None:
    handler = Handler()
    seen: list[Any] = []
    record_calls(handler, "divide", returned=seen.append)
    record_calls(handler, "divide", before=seen.append)
    handler.divide(3.0, by=2.0)
    assert seen == [{"one": 3.0, "by": 2.0}, 1.5]


def test_method_that_is_not_there_stays_so() -> None:
    handler = Handler()
    record_calls(handler, "multiply", before=print)
    assert not hasattr(handler, "multiply")


def test_call_in_thread_returns_what_another_thread_did() -> None:
    assert call_in_thread(threading.current_thread) is not threading.current_thread()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_what_is_raised_in_the_thread_is_raised_here(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        call_in_thread(fail)
    assert caught.value is error
