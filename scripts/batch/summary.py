"""index.html: every song of a batch with its verdict, its sentence where it failed, and its stems and mixes to hear."""

import os
from datetime import datetime
from pathlib import Path

from batch.results import Batch
from smoke.templates import environment

TEMPLATE = "summary.html.j2"


def write_summary(batch: Batch, path: Path, scratch: Path) -> None:
    """Writes the page whole; sounds are linked to, relative to its folder."""
    songs = [
        {
            "line": song.line,
            "name": song.name,
            "problem": batch.problems.get(song.line),
            "folder": batch.keys[song.line],
            "result": batch.results.get(batch.keys[song.line]),
        }
        for song in batch.songs
    ]
    template = environment(Path(__file__).parent).get_template(TEMPLATE)
    page = template.render(songs=songs, made=datetime.now().astimezone())
    staged = scratch / path.name
    staged.write_text(page, encoding="utf-8", errors="backslashreplace")
    os.replace(staged, path)
