"""A full disk, said in one sentence wherever it is met.

The process that runs a checkout imports this, too: it needs nothing but the standard library.
"""

from __future__ import annotations

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def full_disk(error: BaseException | None) -> str | None:
    """The sentence for an error that comes of a full disk, a quota or a limit of the file size; None for another.

    The error's text is looked at, too: that of safetensors has no number, and a checkout may wrap what it met.
    """
    while error is not None:
        for number in FULL:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return (
                    f"below --out nothing more can be written ({os.strerror(number)}); free space on that disk, "
                    f"or give an --out on another"
                )
        error = error.__cause__ or error.__context__
    return None
