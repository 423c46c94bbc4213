"""What can go wrong before a byte is written, as types; each carries the exit status of the command line."""


class KitError(Exception):
    """A refusal with one clear message: which file, what was expected, what was found, what to do next."""

    exit_status = 3


class WrongFolder(KitError):
    """ROOT is not the folder that holds acestep/ (or does not exist)."""

    exit_status = 2


class FilesMissing(KitError):
    """ROOT holds acestep/, but not the three files that the patches are for."""


class LeavesRoot(KitError):
    """One of the three files is reached through a link that leads out of ROOT."""


class UnreadableSource(KitError):
    """A file that cannot be edited without touching more than the edit (encoding, newlines, syntax)."""


class ChangedMeanwhile(KitError):
    """A file is no longer what it was when the edit was planned."""


class WriteFailed(KitError):
    """The system refused a write. `reason` says which; `now` what the files hold after that, and what to do."""

    def __init__(self, reason: str, now: str) -> None:
        super().__init__(f"{reason} {now}")
        self.reason = reason


class CannotRevert(KitError):
    """What was there before `apply` cannot be proved; nothing was written."""


class UnknownPatch(KitError):
    """A name that is neither that of a series nor that of one of its patches."""

    exit_status = 2


class WrongUsage(KitError):
    """A command line that cannot be parsed."""

    exit_status = 2
