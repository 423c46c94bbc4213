"""What runs in worker threads leave behind: no threads of the operating system, and no abort when Python exits."""

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from acestep.inference import GenerationConfig, GenerationParams, generate_music
from acestep.models.mlx.streams import reused_stream

TASKS = Path("/proc/self/task")
FORK = Path(__file__).parents[4] / "ACE-Step-1.5"
EVALUATE_IN_A_THREAD = """
    import os
    import threading
    import mlx.core as mx
    from acestep.models.mlx.dit_model import MLXSwiGLUMLP
    from types import SimpleNamespace

    feed_forward = MLXSwiGLUMLP(SimpleNamespace(hidden_size=8, intermediate_size=16))
    mx.eval(feed_forward.parameters())
    if hasattr(os, "sched_setaffinity"):  # on one core the thread ends after Python began to shut down
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def evaluate():  # a compiled function would be compiled anew for each shape
        mx.eval([feed_forward(mx.ones((length, 8))) for length in range(1, 1501)])

    thread = threading.Thread(target=evaluate)
    thread.start()
    thread.join()
"""


def run_in_threads(call: Callable[[], Any], count: int) -> None:
    """One thread after another."""
    for _ in range(count):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()


def test_process_exits_cleanly_after_the_decoder_ran_in_a_worker_thread() -> None:
    """With a compiled function in the decoder it aborts with status 134."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EVALUATE_IN_A_THREAD)],
        env={**os.environ, "PYTHONPATH": str(FORK)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not TASKS.is_dir(), reason="threads of the operating system are counted by Linux's /proc")
@pytest.mark.skipif(
    not hasattr(mx, "new_thread_unsafe_stream"), reason="mlx before 0.32 cannot reuse a stream"
)
@pytest.mark.parametrize("guidance", [1.0, 7.0], ids="guidance_{:g}".format)
def test_requests_in_threads_of_their_own_leave_no_threads_behind(
    mlx_handler: Any, make_context: Callable[..., Path], guidance: float
) -> None:
    params = GenerationParams(
        src_audio=str(make_context(1.0)), inference_steps=1, guidance_scale=guidance, seed=1
    )

    def generate() -> None:
        assert generate_music(mlx_handler, None, params, GenerationConfig(use_random_seed=False)).success

    run_in_threads(generate, 2)
    before = len(list(TASKS.iterdir()))
    run_in_threads(generate, 6)
    assert len(list(TASKS.iterdir())) <= before + 1


@pytest.mark.skipif(
    not hasattr(mx, "new_thread_unsafe_stream"), reason="mlx before 0.32 cannot reuse a stream"
)
def test_a_stream_has_one_user_at_a_time() -> None:
    def current() -> Any:
        return mx.default_stream(mx.default_device())

    with reused_stream():
        first = current()
        with reused_stream():
            assert current() != first
    with reused_stream():
        assert current() == first, "it is used again once it is free"


def test_nothing_changes_for_what_follows_a_run() -> None:
    before = mx.default_stream(mx.default_device())
    with pytest.raises(ValueError, match="inside"), reused_stream():
        raise ValueError("inside")
    assert mx.default_stream(mx.default_device()) == before
