"""The side of the child process: read the request, keep the answers apart from what the checkout prints."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from .network import refuse_network
from .process_table import die_with_parent, stay_on_one_processor

Reply = Callable[[dict[str, Any]], None]


def serve(handle: Callable[[dict[str, Any], Reply], None]) -> None:
    """Call `handle(request, reply)` for the one request on standard input, then end this process.

    Each answer is one line on a pipe of its own, marked with the request's random word. The word was read before any
    code of the checkout runs, so output by accident is never taken for an answer. Code of the checkout runs in this
    process and can still cheat on purpose.
    """
    die_with_parent()
    stay_on_one_processor()
    refuse_network("code of a checkout has no network in this run")
    request = json.loads(sys.stdin.readline())
    word, descriptor, process = request["word"], request["answers"], os.getpid()
    os.set_inheritable(descriptor, False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    sys.argv[:] = [""]

    def reply(answer: dict[str, Any]) -> None:
        if os.getpid() != process:  # a copy that the checkout forked
            os._exit(0)
        data = f"\n{word} {json.dumps(answer)}\n".encode()
        while data:
            data = data[os.write(descriptor, data) :]

    status = 0
    try:
        handle(request["request"], reply)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(Exception):
        sys.stderr.flush()
    os._exit(status)  # threads and exit hooks of the checkout have no say in this


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """For the imports of torch and MLX: the garbage collector never looks at the objects that are made in the block.

    There are several hundred thousand, all of which stay: to look through them again and again costs 0.6 s of a proof,
    and 1.5 s of a smoke run that is compared with PyTorch.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
