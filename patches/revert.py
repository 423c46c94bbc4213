"""Back to the bytes before `apply`, without any record of them: what is taken out is proved by putting it in again."""

from collections.abc import Mapping

from . import generate_patch
from .diffusion_patch import TURBO
from .errors import KitError
from .generate_patch import BLOCK_NAME
from .judge import calls_that_fail
from .names import RUN
from .outcomes import Role
from .plan import make_plan, threesome, undone
from .source import Source

# E first: with D and G still patched the MLX path goes on as before 82a5d84, it does not fail.
REVERT_ORDER = (Role.EXECUTE, Role.DIFFUSION, Role.GENERATE)


class CannotRevert(KitError):
    """What was there before `apply` cannot be proved; nothing was written."""


def make_revert(files: Mapping[Role, Source]) -> dict[Role, Source]:
    """The three files as they were before `apply` (the same ones, if nothing of it is there).

    Raises CannotRevert if a file was edited since, or if two originals lead to what is there now.
    """
    before, taken = undone(files)
    if BLOCK_NAME not in taken[Role.GENERATE]:
        if generate_patch.traces(files[Role.GENERATE]):
            raise _edited(files, [Role.GENERATE])
        _refuse_two_originals(files, taken)
    if not any(taken.values()):
        return dict(files)
    broken = calls_that_fail(threesome(before)) - calls_that_fail(threesome(files))
    if broken and not generate_patch.noted(files[Role.GENERATE]):
        raise _edited(files, [Role.EXECUTE if RUN in broken else Role.DIFFUSION])
    again = make_plan(before)
    wrong = [role for role in Role if files[role].data not in (before[role].data, again.after[role].data)]
    if not again.applicable or wrong:
        raise _edited(files, wrong or [role for role in Role if taken[role]])
    return before


def _refuse_two_originals(files: Mapping[Role, Source], taken: Mapping[Role, frozenset[str]]) -> None:
    """Without the block in G only D's is_turbo line can be told from what somebody wrote by hand."""
    unsure = [role for role in Role if taken[role] - {TURBO}]
    if unsure:
        what = ", ".join(sorted(name for role in unsure for name in taken[role] - {TURBO}))
        names = " and ".join(files[role].name for role in unsure)
        raise CannotRevert(
            f"{names}: expected a file that only one original leads to, found {what}, which stood there before "
            f"`apply` or came with it: both would look like this. {_with_git([files[role] for role in unsure])}"
        )


def _edited(files: Mapping[Role, Source], roles: list[Role]) -> CannotRevert:
    names = " and ".join(files[role].name for role in roles)
    return CannotRevert(
        f"{names}: expected what `apply` wrote, found it edited since, so the bytes before cannot be proved. "
        f"{_with_git([files[role] for role in roles])}"
    )


def _with_git(sources: list[Source]) -> str:
    names = " ".join(source.name for source in sources)
    return (
        f"Nothing was changed. See the difference with `git diff HEAD -- {names}`, "
        f"and go back with `git checkout HEAD -- {names}`."
    )
