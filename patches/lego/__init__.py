"""The second series, `lego`: what else a LEGO request loses on its way, each closed by a few lines in one file.

Opt-in and by name; the three patches for the steps do not need it, and it does not need them. Every edit is an
insertion behind a comment of its own, so that taking it out again is exact, and all of them act on LEGO requests
alone (`threads` and `momentum` on whatever runs on MLX under guidance or in a thread, where it failed before).
"""
