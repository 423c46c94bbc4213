"""Errors whose message is one whole sentence for the person at the keyboard."""


class AceStepError(Exception):
    """Anything this package refuses or cannot do; str() of it says what, and what to do instead."""


class RequestError(AceStepError):
    """The request itself is wrong: a step count, a track, a guidance scale, a task that is not LEGO."""


class AudioError(AceStepError):
    """The context audio cannot serve: missing, unreadable, empty, silent, too short, ..."""


class CheckpointError(AceStepError):
    """The checkpoint cannot serve: missing, half-copied, of another model, turbo."""


class BackendError(AceStepError):
    """The chosen backend is not there or failed in the middle of a run; nothing else was run instead."""


class OutputError(AceStepError):
    """The stems cannot be written where they were asked for."""
