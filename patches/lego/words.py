"""How a patch of this series knows a LEGO request where upstream hands no task on: by its instruction.

Both of upstream's LEGO instructions hold these words, with a track and without one, and no other instruction
does; upstream's own repair of 2026-03-10 looked for a part of them too.
"""

LEGO_WORDS = "track based on the audio context"
