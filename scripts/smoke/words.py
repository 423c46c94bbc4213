"""Numbers as they are read: on the screen and in the report."""

import math

MINUS = "\N{MINUS SIGN}"


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
