"""The texts that the model was trained on, character by character: instruction, prompt and lyrics.

A test holds them to diffusers' AceStepPipeline.
"""

LEGO_INSTRUCTION = "Generate the {track}track based on the audio context:"
PROMPT = "# Instruction\n{instruction}\n\n# Caption\n{caption}\n\n# Metas\n{metas}<|endoftext|>\n"
METAS = (
    "- bpm: {bpm}\n- timesignature: {timesignature}\n- keyscale: {keyscale}\n- duration: {seconds} seconds\n"
)
LYRICS = "# Languages\n{language}\n\n# Lyric\n{lyrics}<|endoftext|>"
UNKNOWN = "N/A"


def lego_instruction(track: str | None) -> str:
    """The instruction for one of the twelve tracks, or the one that names none."""
    return LEGO_INSTRUCTION.format(track="" if track is None else f"{track.upper()} ")


def format_prompt(
    instruction: str, caption: str, bpm: int | None, keyscale: str, timesignature: str, seconds: float
) -> str:
    """What the text encoder reads; seconds: of the context, cut off to a whole number."""
    metas = METAS.format(
        bpm=UNKNOWN if bpm is None else bpm,
        timesignature=timesignature if timesignature.strip() else UNKNOWN,
        keyscale=keyscale if keyscale.strip() else UNKNOWN,
        seconds=int(seconds),
    )
    ended = instruction if instruction.endswith(":") else f"{instruction}:"
    return PROMPT.format(instruction=ended, caption=caption, metas=metas)


def format_lyrics(lyrics: str, language: str) -> str:
    """What the lyric encoder reads; language: a code such as 'en', or 'unknown'."""
    return LYRICS.format(language=language, lyrics=lyrics)
