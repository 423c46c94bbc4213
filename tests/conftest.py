"""Fixtures for all folders; torch, diffusers and mlx are imported where a test asks for one of them."""

import contextlib
import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import numpy as np
import pytest

# The imports of torch, diffusers and transformers make a million objects that all stay: the garbage collector never
# looks at what is imported while the tests are collected. It is switched on again before the first test.
gc.disable()
# MLX wakes a thread for each operation on the CPU. On one processor and as a batch process, that thread waits for its
# turn in place of interrupting the one that woke it. Processes that tests start inherit both.
if sys.platform == "linux":
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if (worker := os.environ.get("PYTEST_XDIST_WORKER", "")).startswith("gw"):
        processors = sorted(os.sched_getaffinity(0))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {processors[int(worker[2:]) % len(processors)]})
# the first example of a test may import torch
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")
os.environ["MLX_ENABLE_TF32"] = (
    "0"  # before mlx is imported: on some devices it would halve the digits of float32
)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of torch: one test process a core
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

RATE = 48_000
FRAME = 1920  # samples
NOT_NEEDED_ON_MLX = ("torch", "diffusers", "transformers", "accelerate")
HIDE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(autouse=True)
def _no_checkpoints_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACESTEP_CHECKPOINTS_DIR", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _weight_norm_without_values() -> Iterator[None]:
    """Of weights without values, which diffusers makes before it reads a VAE, weight norm and the norm itself have a
    shape alone: PyTorch takes 120 ms a VAE to find that out step by step.
    """
    torch, module = sys.modules.get("torch"), sys.modules.get("torch.nn.utils.weight_norm")
    if torch is None or module is None:
        yield
        return
    weight_norm: Callable[..., Any] = module.__dict__["_weight_norm"]
    norm: Callable[..., Any] = module.__dict__["norm_except_dim"]

    def of_shape(v: Any, g: Any, dim: int = 0) -> Any:
        return torch.empty_like(v) if v.is_meta else weight_norm(v, g, dim)

    def norm_of_shape(v: Any, power: int, dim: int) -> Any:
        if not (v.is_meta and dim == 0):
            return norm(v, power, dim)
        return torch.empty_like(v[:, *[slice(1)] * (v.dim() - 1)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_weight_norm", of_shape)
        patch.setattr(module, "norm_except_dim", norm_of_shape)
        yield


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny_root(kind, shape): a folder with checkpoints/ below it, written once a session; not to be changed."""
    from acestep.models.tiny import write_tiny_checkpoint

    @cache
    def root(kind: Any = "base", shape: Any = "plain") -> Path:
        folder = tmp_path_factory.mktemp(f"tiny_{kind}_{shape}")
        write_tiny_checkpoint(folder, kind, shape)
        return folder

    return root


@pytest.fixture(scope="session")
def load_handler(tiny_root: Callable[..., Path]) -> Callable[..., Any]:
    """load_handler(shape, use_mlx_dit): a loaded handler, shared; what a test changes, monkeypatch takes back."""
    from acestep.handler import AceStepHandler

    @cache
    def load(shape: str = "plain", use_mlx_dit: bool = True) -> AceStepHandler:
        handler = AceStepHandler()
        message, loaded = handler.initialize_service(
            tiny_root("base", shape), device="cpu", use_mlx_dit=use_mlx_dit
        )
        assert loaded, message
        return handler

    return load


@pytest.fixture(scope="session")
def mlx_handler(load_handler: Callable[..., Any]) -> Any:
    """A handler on the tiny base checkpoint, the decoder on MLX."""
    return load_handler("plain", True)


@pytest.fixture(scope="session")
def torch_handler(load_handler: Callable[..., Any]) -> Any:
    """The same checkpoint, the decoder on PyTorch."""
    return load_handler("plain", False)


@pytest.fixture(scope="session")
def load_pair(tiny_root: Callable[..., Path]) -> Callable[..., SimpleNamespace]:
    """load_pair(shape, kind): `config` and one checkpoint's decoder twice, `mlx` and `torch`."""
    from acestep.models.checkpoint.config import read_config
    from acestep.models.mlx.dit_convert import convert_and_load
    from acestep.models.mlx.dit_model import MLXDiTDecoder
    from acestep.models.pytorch.reference import load_reference_decoder

    @cache
    def load(shape: str = "plain", kind: str = "base") -> SimpleNamespace:
        folder = tiny_root(kind, shape) / "checkpoints" / f"acestep-v15-{kind}"
        config = read_config(folder)
        on_mlx = MLXDiTDecoder.from_config(config)
        convert_and_load(folder, on_mlx)
        return SimpleNamespace(config=config, mlx=on_mlx, torch=load_reference_decoder(folder, config))

    return load


@pytest.fixture(params=["plain", "xl"])
def pair(request: pytest.FixtureRequest, load_pair: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    """Both shapes in turn."""
    return load_pair(request.param)


def tones(seconds: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Three decaying notes a second, float32 [samples, channels]: something to fit a stem to."""
    time = np.arange(round(seconds * rate)) / rate
    notes = np.array([220.0, 277.2, 329.6, 440.0])[(time * 3).astype(int) % 4]
    voice = 0.4 * np.sin(2 * np.pi * notes * time) * np.exp(-4 * (time * 3 % 1))
    pan = np.linspace(1.0, 0.6, channels)
    return (voice[:, None] * pan).astype(np.float32)


@pytest.fixture(scope="session")
def make_context(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """make_context(seconds, name, rate, channels, subtype): a file to fit a stem to."""
    import soundfile

    @cache
    def make(
        seconds: float, name: str = "context.wav", rate: int = RATE, channels: int = 2, subtype: str = "FLOAT"
    ) -> Path:
        path = tmp_path_factory.mktemp("context") / name
        soundfile.write(path, tones(seconds, rate, channels), rate, subtype=subtype)
        return path

    return make


@pytest.fixture(scope="session")
def context_wav(make_context: Callable[..., Path]) -> Path:
    """5.24 s, 131 latent frames: an odd number, above the 128 below which a context is filled up."""
    return make_context(131 * FRAME / RATE)


_STARTS_PROCESSES = ("tests/scripts/", "tests/parity/", "tests/patches/verify/", "tests/patches/doctor/")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make test-fast` does not import what it would leave out."""
    path = f"{collection_path.relative_to(config.rootpath).as_posix()}/"
    return True if "not subprocess" in config.option.markexpr and path in _STARTS_PROCESSES else None


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    # Of the many small objects of a test hardly one is in a cycle: after 700 of them, Python's own threshold, it would
    # be looked for in everything that the tests of a process share.
    gc.set_threshold(10_000, 10, 10)
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """For `make test-fast`: folders whose tests start processes, and tests that load a checkpoint.

    tests/scripts comes first: of two processes the idle one takes over the end of the other's list, and a file that is
    divided between them makes its module's run twice.
    """

    def place(item: pytest.Item) -> str:
        return item.path.relative_to(config.rootpath).as_posix()

    items.sort(key=lambda item: not place(item).startswith("tests/scripts/"))
    for item in items:
        path = place(item)
        if path.startswith(_STARTS_PROCESSES):
            item.add_marker(pytest.mark.subprocess)
        elif "tiny_root" in getattr(item, "fixturenames", ()) or path.endswith("test_edit_shapes.py"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def environment_without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For a process that is to find none of NOT_NEEDED_ON_MLX, and for those that it starts."""
    folder = tmp_path_factory.mktemp("without_torch")
    (folder / "sitecustomize.py").write_text(HIDE.format(names=NOT_NEEDED_ON_MLX))  # imported at every start
    return {**os.environ, "PYTHONPATH": str(folder)}
