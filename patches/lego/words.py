"""How a patch of this series recognises a LEGO request where upstream hands no task on: by its instruction.

Both of upstream's LEGO instructions hold these words, with a track and without one, and no other instruction does.
"""

LEGO_WORDS = "track based on the audio context"
