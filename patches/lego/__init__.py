"""The second series, `lego`: what else a LEGO request loses on its way, each closed by a few lines in one file.

Opt-in and by name; the three patches for the steps do not need it, and it does not need them. Every edit is an
insertion behind a comment of its own, so that taking it out again is exact. All act on LEGO requests alone, but for
two in files that are told no task: `momentum` acts on every guided run on MLX, and `threads` computes two tables
earlier.
"""
