"""Numbers as they are read, and terms as they are explained: on the screen and in the report."""

import math

MINUS = "\N{MINUS SIGN}"

# A sentence for each term of the comparison, as the report uses it.
TERMS = {
    "requested": "The number of steps that the run was asked for.",
    "evaluated": "How often the decoder was called, counted at the decoder itself.",
    "a step": "The mean time of one step: one evaluation of the decoder, two where guidance is on.",
    "PyTorch": "Diffusers' AceStepPipeline: the same weights, noise, context latents and encoder states.",
    "schedule": "The timesteps t, from 1 (noise) down towards 0 (the stem), at which the decoder is evaluated.",
    "latents": "The final latents: what the last step leaves and the VAE decodes to the stem.",
    "velocity": "What the decoder returns at a step: the direction in which the latents are moved.",
    "update": "The latents after a step, from its velocities by guidance and Euler's method.",
    "noise": "The random latents that the first step begins with; the seed determines them.",
    "decoding": "The VAE's way from the final latents to the samples of the stem.",
    "relative L2": "The norm of the difference divided by the norm of the reference: 0 is equal, 1 is unrelated.",
    "largest difference": "The greatest of the absolute differences, value by value.",
    "bound": "The distance up to which a result counts as right; above it the check fails.",
    "length mismatch": "The two sides have different numbers of values, so that there is no distance.",
    "contains NaN": "The result holds values that are no numbers, so that there is no distance.",
}


def distance(value: float) -> str:
    """A distance in words where there is no number to give."""
    if math.isnan(value):
        return "contains NaN"
    if math.isinf(value):
        return "length mismatch"
    return f"{value:.1e}" if value else "0"


def dbfs(amplitude: float) -> str:
    """An amplitude as decibels of full scale."""
    if math.isnan(amplitude):
        return "contains NaN"
    decibels = f"{20 * math.log10(amplitude):.1f}".replace("-", MINUS) if amplitude else f"{MINUS}∞"
    return f"{decibels} dBFS"


def seconds(value: float) -> str:
    """Three digits, in the unit that suits."""
    if math.isnan(value):
        return "not known"
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def clock(time: float) -> str:
    """A time in a sound: 2.5 s, 3:20."""
    if time < 60:
        return f"{time:.3g} s"
    return f"{int(time) // 60}:{int(time) % 60:02d}"


def pitch(hertz: float) -> str:
    """A frequency: 100 Hz, 5 kHz."""
    return f"{hertz:g} Hz" if hertz < 1000 else f"{hertz / 1000:g} kHz"


def gigabytes(size: int) -> str:
    """Memory as it is sold."""
    return f"{size / 2**30:.0f} GB"
