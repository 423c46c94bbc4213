"""What the report shows: the schedule as SVG, spectrograms as WebP. Axes of the latter are the page's matter."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

COLUMNS, ROWS = 1000, 240
FFT_SIZE = 2048  # samples: 43 ms at 48 kHz
RANGE_DB = 80.0
COLOUR_MAP = "magma"
LOWEST_HZ = 30.0

# Colours that the page's style sheet knows, by the stand-in that matplotlib is given for each of them.
STYLED = {
    "#000001": "var(--ink)",
    "#000002": "var(--muted)",
    "#000003": "var(--line)",
    "#000004": "var(--reference)",
    "#000005": "var(--judged)",
    "#000006": "var(--other)",
}
INK, MUTED, LINE, REFERENCE, JUDGED, OTHER = STYLED
PIXELS_AN_INCH = 100  # of the page
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # it names addresses
FONT_SIZE = 9.4  # points: 13 of those pixels
# Pixels left, below, right and above of the axes, for labels of that size; matplotlib's layout would draw all twice.
MARGINS = (53, 44, 18, 7)


def schedule_svg(runs: Sequence[Mapping[str, Any]], pytorch: Sequence[float], width: int, height: int) -> str:
    """The timesteps of every run over PyTorch's, against the number of the evaluation; the judged run is the last.

    width and height: pixels of the page at which it is meant to be seen. Colours are custom properties of the page,
    text is text in the page's font; nothing in it refers to anything outside.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report", "font.size": FONT_SIZE}):
        figure = Figure(figsize=(width / PIXELS_AN_INCH, height / PIXELS_AN_INCH))
        left, bottom, right, top = MARGINS
        axes = figure.add_axes(
            (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
        )
        frame(axes, longest=max(len(pytorch), 1, *(len(run["timesteps"]) for run in runs)))
        dots = 4.5 if len(pytorch) <= 60 else 2.5
        if pytorch:
            plot(axes, pytorch, REFERENCE, linewidth=6, marker="o", markersize=6, solid_capstyle="round")
        for run in runs[:-1]:
            plot(axes, run["timesteps"], OTHER, linewidth=1.6, marker="D", markersize=4.5)
        plot(axes, runs[-1]["timesteps"], JUDGED, linewidth=1.2, marker="o", markersize=dots)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True, metadata=NO_METADATA)
    return for_a_page(drawn.getvalue(), f"schedule{width}-")


def plot(axes: Axes, timesteps: Sequence[float], colour: str, **style: Any) -> None:
    """One schedule, its first evaluation at 1."""
    axes.plot(range(1, len(timesteps) + 1), timesteps, color=colour, markeredgewidth=0, **style)


def frame(axes: Axes, longest: int) -> None:
    """Axes that keep out of the way."""
    axes.set_ylim(-0.03, 1.05)
    axes.set_xlim(0, longest + max(1, 0.02 * longest))
    axes.set_xlabel("decoder evaluation", color=MUTED)
    axes.set_ylabel("timestep t", color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED)


def for_a_page(svg: str, prefix: str) -> str:
    """An SVG file as an element of a page: scalable, in the page's colours, its ids not those of another."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1)
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # else it styles the page
    svg = svg.replace("xlink:href", "href")
    for opening in ('id="', 'href="#', "url(#"):
        svg = svg.replace(opening, opening + prefix)
    for stand_in, colour in STYLED.items():
        svg = svg.replace(stand_in, colour)
    return svg


def power_picture(samples: np.ndarray, rate: int) -> np.ndarray:
    """Mean power [ROWS, COLUMNS] of samples [n, channels]: time to the right, mel-spaced frequency upwards.

    Every sample counts, however long the sound is: a column is the average over its stretch of time.
    """
    if len(samples) < FFT_SIZE:
        samples = np.pad(samples, [(0, FFT_SIZE - len(samples)), (0, 0)])
    a_column = -(-len(samples) // (COLUMNS * FFT_SIZE // 2))  # spectra, overlapping by a half or more
    starts = np.linspace(0, len(samples) - FFT_SIZE, COLUMNS * a_column).astype(int)
    window = np.hanning(FFT_SIZE).astype(np.float32)
    stretches = np.lib.stride_tricks.sliding_window_view(np.ascontiguousarray(samples.T), FFT_SIZE, axis=1)
    power = np.empty((COLUMNS, FFT_SIZE // 2 + 1), dtype=np.float32)
    for column, firsts in enumerate(starts.reshape(COLUMNS, a_column)):
        spectra = np.fft.rfft(stretches[:, firsts] * window).reshape(-1, FFT_SIZE // 2 + 1)
        power[column] = np.einsum("ij,ij->j", spectra, spectra.conj()).real / len(spectra)
    return (row_shares(rate) @ power.T)[::-1]


def row_shares(rate: int) -> np.ndarray:
    """[ROWS, bins of a spectrum]: how much of each row, from the lowest up, each bin makes up; a row sums to 1."""
    edges = hertz(np.linspace(mel(LOWEST_HZ), mel(rate / 2), ROWS + 1))[:, None]
    bounds = (np.arange(FFT_SIZE // 2 + 2) - 0.5) * rate / FFT_SIZE
    overlap = np.minimum(edges[1:], bounds[1:]) - np.maximum(edges[:-1], bounds[:-1])
    return np.maximum(overlap, 0) / np.diff(edges, axis=0)


def mel(frequency: float) -> float:
    """Hertz to mel: about how far apart pitches are heard."""
    return float(2595 * np.log10(1 + frequency / 700))


def hertz(pitch: np.ndarray) -> np.ndarray:
    """Mel to hertz."""
    return 700 * (10 ** (pitch / 2595) - 1)


def height_of(frequency: float, rate: int) -> float:
    """Where a frequency is in a picture, 0 at its foot, 1 at its top."""
    low, high = mel(LOWEST_HZ), mel(rate / 2)
    return (mel(frequency) - low) / (high - low)


def spectrogram_webp(power: np.ndarray, loudest: float) -> bytes:
    """A picture of power in decibels below `loudest`."""
    decibels = 10 * np.log10(np.maximum(power / max(loudest, 1e-30), 10 ** (-RANGE_DB / 10)))
    file = io.BytesIO()
    imsave(
        file,
        decibels,
        vmin=-RANGE_DB,
        vmax=0,
        cmap=COLOUR_MAP,
        format="webp",
        pil_kwargs={"quality": 80, "method": 4},
    )
    return file.getvalue()


def colour_bar(stops: int = 9) -> str:
    """The spectrograms' colours from quiet to loud, as stops of a CSS gradient."""
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, stops))
    return ", ".join(matplotlib.colors.to_hex(colour) for colour in colours)
