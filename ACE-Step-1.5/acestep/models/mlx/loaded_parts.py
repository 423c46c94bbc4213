"""The parts of a checkpoint that are in memory: all of them, or as many as there is room for."""

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from acestep.models.mlx.cpu_memory import M_MMAP_THRESHOLD, give_freed_memory_back, glibc

THRESHOLD = 2**17  # bytes


def return_freed_memory() -> None:
    """From here on glibc returns every large block to the system when it is freed.

    By itself it keeps blocks of up to 32 MB: float32 weights that were converted to 16 bits and freed would take as
    much memory again.
    """
    library = glibc()
    if library is not None:
        library.mallopt(M_MMAP_THRESHOLD, THRESHOLD)


class LoadedParts:
    """Parts by name, each loaded when it is asked for; where `limit` bytes would be exceeded, others are released.

    loaders: in the order in which parts are released; sizes: bytes of each part's weights; limit None: none is
    released. A part that is alone larger than the limit is loaded all the same.
    """

    def __init__(
        self, loaders: Mapping[str, Callable[[], Any]], sizes: Mapping[str, int], limit: int | None
    ) -> None:
        self._loaders, self._sizes, self._limit = loaders, sizes, limit
        self._parts: dict[str, Any] = {}
        if limit is not None:
            return_freed_memory()

    @property
    def names(self) -> list[str]:
        """Of the parts that are in memory."""
        return list(self._parts)

    def get(self, name: str) -> Any:
        """The part; the caller keeps it no longer than it computes with it."""
        if name not in self._parts:
            self._make_room(self._sizes[name])
            self._parts[name] = self._loaders[name]()
        return self._parts[name]

    def _make_room(self, size: int) -> None:
        if self._limit is None:
            return
        for name in self._loaders:
            if size + sum(self._sizes[part] for part in self._parts) <= self._limit:
                break
            self._parts.pop(name, None)
        mx.clear_cache()
        give_freed_memory_back()


class DecoderWhenNeeded:
    """A decoder that is loaded when it is evaluated, where it is not in memory."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load = load

    @property
    def reference(self) -> Any:
        """The reference decoder, which has the weights."""
        return self._load().reference

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """One evaluation, as the decoder's."""
        return self._load()(*args, **inputs)
