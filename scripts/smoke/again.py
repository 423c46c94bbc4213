"""An earlier run that is repeated: its options, whether its files are still the same, and its finished stems."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acestep.errors import RequestError
from smoke.checkout import located
from smoke.folder import LATEST
from smoke.inputs import Inputs, checkpoint_hash, file_hash
from smoke.options import Options
from smoke.request import Request
from smoke.run import read_run
from smoke.state import STATE, UNFINISHED, KeptStem

REPORT = "report.json"


@dataclass(frozen=True)
class Earlier:
    """A run whose report or state was read.

    named: as on the command line; folder: where its stems are; run: as `record_of` made it; given: names of the
    options that the command line changes; stems: those that are finished, of an unfinished run; damaged: the files of
    those of which something is missing or changed since.
    """

    named: str
    folder: Path
    run: Mapping[str, Any]
    stems: Sequence[KeptStem]
    damaged: Sequence[str]
    given: Collection[str]
    options: Options

    def introduction(self) -> str:
        """What is repeated, and what of it is changed."""
        changed = ", ".join(f"--{name.replace('_', '-')}" for name in self.given)
        finished = f", {len(self.stems)} stems of it are finished" if self.stems else ""
        damaged = f", {', '.join(self.damaged)}: damaged since, made again" if self.damaged else ""
        return f"again: {self.folder}{f', with {changed} given anew' if changed else ''}{finished}{damaged}"

    def check(self) -> None:
        """RequestError, in one sentence, where the context or the checkpoint is missing or has another content.

        One that is given anew on the command line may be another.
        """
        checkpoint = located(self.options.checkpoint)
        self._check("context", self.options.context, file_hash)
        if checkpoint is not None:
            self._check("checkpoint", checkpoint, checkpoint_hash)

    def _check(self, name: str, path: Path, content: Any) -> None:
        if name in self.given:
            return
        if not (path.is_file() or (path.is_dir() and name == "checkpoint")):
            found = "is no file" if path.exists() else "is not there"
            raise RequestError(f"--again {self.named}: its {name} {path} {found}; give it with --{name}")
        if content(path) != self.run["inputs"][name]:
            raise RequestError(
                f"--again {self.named}: its {name} {path} has changed since; give it anew with --{name} to use it "
                f"as it is"
            )

    def stem(self, request: Request, inputs: str, recorded: bool) -> KeptStem | None:
        """The finished stem that was made of these inputs; recorded: its steps are needed, too."""
        for kept in self.stems:
            if kept.inputs != inputs:
                continue
            run, _ = read_run(request, self.folder / kept.folder)
            if not recorded or run.steps is not None or run.not_recorded is not None:
                return kept
        return None


def read_earlier(named: str, out: Path, options: Options, given: Collection[str]) -> Earlier:
    """The run that `--again` names: its folder, its report.json, or 'latest' below `out`.

    options: the command line's; those in `given` take the place of the run's own. RequestError where there is none.
    """
    place = out / LATEST if named == LATEST else Path(named)
    if place.is_dir():
        state = place / UNFINISHED / STATE
        # 'latest' leads elsewhere once this run has its first result.
        folder, file = place.resolve(), state if state.is_file() else place / REPORT
    else:
        folder, file = place.parent, place
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        run = content["run"]
        own = Options.from_json(run["options"])
        stems = [kept_stem(stem) for stem in content["stems"]] if file.name == STATE else []
        Inputs(**run["inputs"])
    except FileNotFoundError:
        raise RequestError(
            f"--again {named}: there is no {file}; give the folder or the report.json of a run"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise RequestError(f"--again {named}: {file} is not the report of a run of this script") from None
    whole = [stem for stem in stems if stem.is_whole(folder)]
    damaged = [stem.file for stem in stems if stem not in whole]
    return Earlier(named, folder, run, whole, damaged, given, own.changed(options, given))


def kept_stem(values: Mapping[str, Any]) -> KeptStem:
    """A stem that the state names; TypeError where that is not what a run writes."""
    if not all(isinstance(value, str) for value in values.values()):
        raise TypeError("not all values are texts")
    return KeptStem(**values)


def record_of(options: Options, inputs: Inputs) -> dict[str, Any]:
    """What the report and the state of a run hold for `--again`."""
    return {
        "options": options.to_json(),
        "inputs": asdict(inputs),
    }
