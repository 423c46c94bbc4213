"""What the folders of the patch kit's tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.patches.fork_server import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """A process with torch and MLX that forks for each job. MLX survives a fork on Linux alone."""
    if not sys.platform.startswith("linux"):
        pytest.skip("MLX does not survive a fork here")
    started = ForkServer()
    yield started
    started.close()
