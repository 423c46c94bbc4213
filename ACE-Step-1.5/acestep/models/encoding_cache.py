"""The last results of an encoder, for requests that share a context or a prompt."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import numpy as np

Result = TypeVar("Result")

# The posterior of an audio takes 32 kB a second of audio at most, 20 MB for the longest context of 10 minutes.
CONTEXTS_KEPT = 2
# The states of the longest prompt (256 tokens of 1024 values) take 1 MB; there are 12 tracks.
PROMPTS_KEPT = 16
# The timbre of a reference takes 8 kB; LEGO's reference is silence.
TIMBRES_KEPT = 1


class EncodingCache(Generic[Result]):
    """At most `kept` results; the least recently used is dropped first.

    It belongs to the encoder whose results it keeps and goes with it: other weights begin with an empty one. It holds
    neither inputs nor weights: with the numbers above a loaded checkpoint keeps at most 56 MB.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._results: OrderedDict[Hashable, Result] = OrderedDict()

    def get(self, key: Hashable, encode: Callable[[], Result]) -> Result:
        """The result kept under the key, else that of `encode`, which is kept from now on."""
        if key not in self._results:
            self._results[key] = encode()
            if len(self._results) > self._kept:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]


def content_key(values: np.ndarray) -> Hashable:
    """Of an array, such as an audio [channels, samples], by all of its values."""
    return values.shape, values.dtype.str, hashlib.sha256(values.tobytes()).digest()
