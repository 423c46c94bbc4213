"""Tracks, rates and limits."""

TRACK_NAMES = (
    "woodwinds",
    "brass",
    "fx",
    "synth",
    "strings",
    "percussion",
    "keyboard",
    "guitar",
    "bass",
    "drums",
    "backing_vocals",
    "vocals",
)

SAMPLE_RATE = 48_000
LATENT_FRAMES_PER_SECOND = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // LATENT_FRAMES_PER_SECOND
# A shorter context is filled up with silence: the models were not trained on less.
MIN_LATENT_FRAMES = 128
MAX_CONTEXT_SECONDS = 600
MIN_CONTEXT_SECONDS = 1
MAX_INFERENCE_STEPS = 1000
MAX_BATCH_SIZE = 8
# Beyond these the float32 arithmetic of the loop overflows or its timesteps coincide.
MAX_GUIDANCE_SCALE = 1000
MIN_SHIFT, MAX_SHIFT = 0.001, 1000
