"""What a checkout loses of a LEGO request besides the steps: a named check for each, with its cause and what to do."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from smoke.run import Run
from smoke.watch import AUDIO_CODES

KIT = Path(__file__).resolve().parent.parent.parent / "patches"


def with_findings(run: Run, root: Path, checkpoint: Path) -> Run:
    """The run of the checkout `root` with its findings, and with notes on the defaults that it did not run with."""
    findings = {}
    if "context_latents" in run.tensors:
        findings["context"] = _context(run, root, checkpoint)
    if run.options["dcw"] is not None:
        findings["dcw"] = _dcw(root) if run.options["dcw"] else ""
    asked_for = run.options["language_model"]
    if asked_for is not None:
        findings["thinking"] = _thinking(root) if AUDIO_CODES in asked_for else ""
    return replace(run, findings=findings, notes=[*run.notes, *_notes(run)])


def _context(run: Run, root: Path, checkpoint: Path) -> str:
    from acestep.models.checkpoint.config import read_config
    from acestep.models.checkpoint.silence import load_silence_latent

    source, _ = np.split(run.tensors["context_latents"], 2, axis=-1)
    silence = load_silence_latent(checkpoint, read_config(checkpoint))[:, : source.shape[1]]
    if silence.shape != source.shape or not (source == silence).all():
        return ""
    return (
        "the context audio never reached the decoder: every frame of it was silence, and the stem fits its length "
        f"alone: update to 7f6e615 (2026-03-11) or later, or run {_apply(root, 'context')}"
    )


def _dcw(root: Path) -> str:
    return (
        "the wavelet correction (DCW) is on by default, and base models are garbled by it, the more the more steps "
        f"run: give dcw_enabled=False, update to b751bd2 (2026-08-16) or later, or run {_apply(root, 'dcw')}; "
        "--without dcw switches it off in this run"
    )


def _thinking(root: Path) -> str:
    return (
        "audio codes are requested of a language model by default, and where one is loaded they replace the context: "
        f"give thinking=False, update to 14c0211 (2026-08-16) or later, or run {_apply(root, 'codes')}; "
        "--without thinking switches it off in this run"
    )


def _notes(run: Run) -> list[str]:
    notes = []
    replaced = run.options["replaced_defaults"]
    if replaced:
        values = ", ".join(f"{name} {value:g}" for name, value in replaced.items())
        notes.append(f"the checkout's own defaults, which this run's options replace: {values}")
    asked_for: Sequence[str] = run.options["language_model"] or ()
    if asked_for and AUDIO_CODES not in asked_for:
        notes.append(
            f"where a language model is loaded, it may change the request by {', '.join(asked_for)}, which are on by "
            "default; this run had a fake one, which changes nothing"
        )
    return notes


def _apply(root: Path, patch: str) -> str:
    return shlex.join([sys.executable, str(KIT), "apply", str(root), "--series", patch])
