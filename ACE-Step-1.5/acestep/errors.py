"""Errors whose message is one sentence for the user."""


class AceStepError(Exception):
    """Base class: str() of it says what was refused or failed, and what to do."""


class RequestError(AceStepError):
    """The request itself is wrong: a step count, a track, a guidance scale, a task that is not LEGO."""


class AudioError(AceStepError):
    """The context audio cannot be used: missing, unreadable, empty, silent, too short, ..."""


class CheckpointError(AceStepError):
    """The checkpoint cannot be used: missing, half-copied, of another model, turbo."""


class BackendError(AceStepError):
    """The chosen backend is not installed or failed during a run; no other was run in its place."""


class OutputError(AceStepError):
    """The stems cannot be written to the requested folder."""
