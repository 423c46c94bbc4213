"""Seconds a step against the length of the context, as SVG: both axes logarithmic, a line a side."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 460, 70, 130, 40, 60
COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce")

Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times each power of ten within the range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high
    ]


class Axis:
    """Maps a range of values to a range of pixels, by the logarithm."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.high = min(values) / 1.2, max(values) * 1.2
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)


def draw(lines: Mapping[str, Points], title: str) -> str:
    """lines: name -> (seconds of context, seconds a step); a side without points is left out."""
    lines = {name: points for name, points in lines.items() if points}
    x = Axis([point[0] for points in lines.values() for point in points], LEFT, WIDTH - RIGHT)
    y = Axis([point[1] for points in lines.values() for point in points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 15}" text-anchor="middle">context, seconds</text>',
        f'<text transform="translate(18 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">a step, seconds</text>',
    ]
    for value in sorted({point[0] for points in lines.values() for point in points}):
        at = x(value)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    for value in ticks(y.low, y.high):
        at = y(value)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    for colour, (name, points) in zip(COLOURS, lines.items(), strict=False):
        places = [f"{x(seconds):.1f},{y(step):.1f}" for seconds, step in points]
        parts.append(
            f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        for place in places:
            left, top = place.split(",")
            parts.append(f'<circle cx="{left}" cy="{top}" r="3.5" fill="{colour}"/>')
        last = y(points[-1][1])
        parts.append(
            f'<text x="{x(points[-1][0]) + 10:.1f}" y="{last + 4:.1f}" fill="{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
