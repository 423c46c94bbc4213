"""Songs on a Ray cluster: one actor for each loaded model, one song at a time each, a new actor for one that dies.

Workers read contexts, checkpoint and this repository, and write results, at the driver's paths: on several machines
these are on a shared file system.
"""

import logging
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from acestep.errors import BackendError
from batch.manifest import Song
from batch.worker import TRIES, Model, Worker
from smoke import stop

LOCAL = "local"
SECONDS_TO_CLOSE = 10


def on_cluster(
    songs: Mapping[str, Song], model: Model, out: Path, address: str, workers: int | None
) -> Iterator[tuple[str, str]]:
    """Key of each song as it is over, and why it could not be made or "". BackendError without Ray or a cluster.

    address: of a cluster, or LOCAL to start one on this machine; workers: None: one for each GPU, else each machine.
    """
    ray = connected(address, workers)
    count, resources = placement(ray, workers, next(iter(songs.values())).requests[0].device)
    actor = ray.remote(Worker).options(scheduling_strategy="SPREAD", **resources)
    waiting, deaths, left = deque(songs), Counter[str](), len(songs)
    idle: list[Any] = []
    running: dict[
        Any, tuple[Any, str | None]
    ] = {}  # worker and its song, None while it starts, by Ray's reference

    def start() -> None:
        worker = actor.remote(model, out.absolute())
        running[worker.__ray_ready__.remote()] = worker, None

    with stop.session.undoing(ray.shutdown):
        for _ in range(min(count, left)):
            start()
        reason = ""
        while left:
            while idle and waiting:
                key = waiting.popleft()
                worker = idle.pop()
                running[worker.run.remote(key, songs[key])] = worker, key
            if not running:
                raise BackendError(f"--ray {address}: no worker can be started ({reason})")
            (answer,), _ = ray.wait(list(running))
            worker, finished = running.pop(answer)
            try:
                problem = ray.get(answer)
                idle.append(worker)
            except ray.exceptions.RayError as error:
                reason = last_line(error)
                if finished is None:
                    continue
                start()
                deaths[finished] += 1
                if deaths[finished] < TRIES:
                    waiting.appendleft(finished)
                    continue
                problem = f"its worker died {TRIES} times ({reason})"
            if finished is not None:
                left -= 1
                yield finished, problem
        if idle:
            ray.wait(
                [worker.close.remote() for worker in idle], num_returns=len(idle), timeout=SECONDS_TO_CLOSE
            )


def connected(address: str, workers: int | None) -> Any:
    """The module, connected to the cluster; BackendError, in one sentence, where that cannot be."""
    ray = imported()
    options: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    }
    if address == LOCAL:
        options |= {"num_cpus": workers or 1, "include_dashboard": False}
    else:
        options |= {"address": address}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own in place
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BackendError(f"--ray {address}: no cluster can be reached ({last_line(error)})") from None
    return ray


def imported() -> Any:
    """The module; BackendError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise BackendError("--ray needs the package ray; run '.venv/bin/pip install ray' first") from None
    return ray


def placement(ray: Any, workers: int | None, device: str) -> tuple[int, dict[str, int]]:
    """How many workers, and what each takes up: a GPU where there are some and they are to be used, else a core."""
    gpus = 0 if device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    machines = sum(node["Alive"] for node in ray.nodes())
    return workers or gpus or machines, {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": 1}


def last_line(error: Exception) -> str:
    """Of a message, where Ray names the cause."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
