"""The second series: what else a LEGO request loses on its way, each repaired by a few lines in one file.

Opt-in; the three patches of the series `steps` do not need it, and it does not need them. All act on LEGO requests
alone, but for two in files that are told no task: `momentum` acts on every guided run on MLX, and `threads` computes
two tables earlier.
"""

from ..engine.series import Series
from . import codes, context, dcw, fallback, momentum, prompt, seed, threads

LEGO = Series(
    "lego",
    "what else a LEGO request loses; any patch can be named by itself",
    (
        context.PATCH,
        prompt.PATCH,
        codes.PATCH,
        dcw.PATCH,
        seed.PATCH,
        momentum.PATCH,
        fallback.PATCH,
        threads.PATCH,
    ),
)
