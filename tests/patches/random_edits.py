"""Random edits of small checkouts: what people and merges do to such files, harmless and harmful."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.patches.contract import UPSTREAM
from tests.patches.mini_checkout import BEFORE, FIXED, MiniCheckout

SITES = ("execute", "diffusion", "generate")
NAMES = (
    "_mlx_run_diffusion",
    "mlx_generate_diffusion",
    "get_timestep_schedule",
    "infer_steps",
    "timesteps",
    "generate_kwargs",
    "shift",
    "audio_cover_strength",
)
Edit = Callable[[str, int], str]


@dataclass(frozen=True)
class Case:
    """A checkout as bytes, and what was done to it."""

    files: dict[str, bytes]
    done: tuple[str, ...]


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def comment(text: str, at: int) -> str:
    """A comment on a line of its own, anywhere that it does not cut a text in two."""
    lines = lines_of(text)
    places = [n for n, line in enumerate(lines) if '"""' not in line] or [0]
    lines.insert(places[at % len(places)], "# somebody was here\n")
    return "".join(lines)


def trailing_comment(text: str, at: int) -> str:
    lines = lines_of(text)
    places = [n for n, line in enumerate(lines) if line.rstrip().endswith(",")] or [0]
    n = places[at % len(places)]
    lines[n] = lines[n].rstrip() + "  # kept\n"
    return "".join(lines)


def swap_keywords(text: str, at: int) -> str:
    """Two keyword arguments, each on a line of its own, in the other order."""
    lines = lines_of(text)
    keyword = re.compile(r"\s+\w+=[^()]*(\([^()]*\))?,\n")
    places = [
        n for n in range(len(lines) - 1) if keyword.fullmatch(lines[n]) and keyword.fullmatch(lines[n + 1])
    ]
    if places:
        n = places[at % len(places)]
        lines[n], lines[n + 1] = lines[n + 1], lines[n]
    return "".join(lines)


def no_trailing_comma(text: str, at: int) -> str:
    places = [found.start() for found in re.finditer(r",(?=\n\s*\))", text)]
    if not places:
        return text
    cut = places[at % len(places)]
    return text[:cut] + text[cut + 1 :]


def on_one_line(text: str, at: int) -> str:
    """One bracket that goes over several lines, drawn together."""
    places = list(re.finditer(r"\(\n[^()#]*\n\s*\)", text))
    if not places:
        return text
    found = places[at % len(places)]
    inner = " ".join(found.group()[1:-1].split()).rstrip(",")
    return f"{text[: found.start()]}({inner}){text[found.end() :]}"


def further_parameter(text: str, at: int) -> str:
    functions = list(re.finditer(r"def (?!get_)\w+\((?=\n)", text))
    if not functions:
        return text
    start = functions[at % len(functions)].end()
    end = text.index("\n    )" if "\n    )" in text[start:] else "\n)", start)
    return f"{text[:end]}\n        new_option_{at}=None,{text[end:]}"


def debug_print(text: str, at: int) -> str:
    lines = lines_of(text)
    places = [n for n, line in enumerate(lines) if re.match(r"\s+(outputs|done|levels|latents) = ", line)]
    if places:
        n = places[at % len(places)]
        indent = lines[n][: len(lines[n]) - len(lines[n].lstrip())]
        lines.insert(n, f"{indent}str('debug')\n")
    return "".join(lines)


def new_import(text: str, at: int) -> str:
    return f"import math as math_{at}\n{text}"


def decorated(text: str, at: int) -> str:
    head = "def unchanged(function):\n    return function\n\n\n"
    functions = list(re.finditer(r"^( *)def ", text, re.M))
    found = functions[at % len(functions)]
    return f"{head}{text[: found.start()]}{found.group(1)}@unchanged\n{text[found.start() :]}"


def renamed(text: str, at: int) -> str:
    name = NAMES[at % len(NAMES)]
    return re.sub(rf"\b{name}\b", f"{name}_2", text)


def renamed_once(text: str, at: int) -> str:
    places = list(re.finditer(r"\b(" + "|".join(NAMES) + r")\b", text))
    if not places:
        return text
    end = places[at % len(places)].end()
    return f"{text[:end]}_2{text[end:]}"


def _functions(text: str) -> list[str]:
    return re.findall(r"^ *def (?:.|\n)*?(?=^ *def |^class |\Z)", text, re.M)


def dropped(text: str, at: int) -> str:
    functions = _functions(text)
    return text.replace(functions[at % len(functions)], "", 1) if functions else text


def doubled(text: str, at: int) -> str:
    functions = _functions(text)
    if not functions:
        return text
    found = functions[at % len(functions)]
    return text.replace(found, f"{found.rstrip()}\n\n{found}", 1)


def line_gone(text: str, at: int) -> str:
    lines = lines_of(text)
    del lines[at % len(lines)]
    return "".join(lines)


def line_moved(text: str, at: int) -> str:
    lines = lines_of(text)
    line = lines.pop(at % len(lines))
    lines.insert(at // 7 % len(lines), line)
    return "".join(lines)


def cut_off(text: str, at: int) -> str:
    return text[: at % len(text)]


def stray(text: str, at: int) -> str:
    characters = ["(", ")", '"', "\r", "\0", "\\", "\t", "ä", ",", "*", "\u2028", "'''", "\x0c"]
    place = at % len(text)
    return text[:place] + characters[at % len(characters)] + text[place:]


HARMLESS: tuple[Edit, ...] = (
    comment,
    trailing_comment,
    swap_keywords,
    no_trailing_comma,
    on_one_line,
    further_parameter,
    debug_print,
    new_import,
    decorated,
)
HARMFUL: tuple[Edit, ...] = (
    renamed,
    renamed_once,
    dropped,
    doubled,
    line_gone,
    line_moved,
    cut_off,
    stray,
)


def plain(data: bytes) -> bytes:
    return data


def crlf(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def bom(data: bytes) -> bytes:
    return b"\xef\xbb\xbf" + data


def latin(data: bytes) -> bytes:
    return b"# coding: latin-1\n# \xe4\n" + data


def wrongly_declared(data: bytes) -> bytes:
    return b"# coding: ascii\n# \xe4\n" + data


def utf16(data: bytes) -> bytes:
    return data.decode().encode("utf-16")


def deep(data: bytes) -> bytes:
    return data + b"\ndeep = " + b"not " * 120 + b"1\n"


SAFE_BYTES = (plain, plain, plain, crlf, crlf, bom, latin)
BAD_BYTES = (wrongly_declared, utf16, deep)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Six of ten cases have harmless edits only; the rest have at least one that may break something."""
    checkout: MiniCheckout = draw(st.sampled_from([BEFORE, FIXED, UPSTREAM]))
    texts = {site: getattr(checkout, site) for site in SITES}
    gentle = draw(st.integers(0, 9)) < 6
    edits = draw(st.lists(st.sampled_from(HARMLESS), max_size=4))
    if not gentle:
        edits += draw(st.lists(st.sampled_from(HARMFUL), min_size=1, max_size=2))
    done = []
    for edit in edits:
        site, at = draw(st.sampled_from(SITES)), draw(st.integers(0, 4000))
        if texts[site].strip():
            texts[site] = edit(texts[site], at) or "\n"
            done.append(f"{edit.__name__} in {site} at {at}")
    files = {}
    for site, text in texts.items():
        write = draw(st.sampled_from(SAFE_BYTES if gentle else (*SAFE_BYTES, *SAFE_BYTES, *BAD_BYTES)))
        files[site] = write(text.encode("utf-8"))
        done += [] if write is plain else [f"{write.__name__} in {site}"]
    return Case(files, tuple(done))
