"""Keeps the code of a checkout from the network."""

from __future__ import annotations

import sys
from typing import Any


def refuse_network(reason: str) -> None:
    """From now on a name lookup or a connection to another machine raises ConnectionError with this reason.

    It holds until the process ends. Sockets of the file system are left alone.
    """

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
            raise ConnectionError(reason)

    sys.addaudithook(refuse)
