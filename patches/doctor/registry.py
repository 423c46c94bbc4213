"""The checks of the doctor, in the order in which they run, with the upstream states that have each defect.

To add a check: write `checks/NAME.py` (dashes become underscores) with a function `run(checkout) -> Finding`, and add
one entry here. Nothing in this module needs torch or mlx.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import KitError

APPLY = "apply"
APPLY_SERIES = "apply --series lego"
FIRST = "a12a25a (2026-02-11)"  # the first state with an MLX decoder


@dataclass(frozen=True)
class Check:
    """One known defect.

    since, until: the upstream commits, with dates, that brought and removed it; an empty `until` means that 14c0211
    (2026-08-16), the newest state that was examined, still has it. remedy: APPLY, APPLY_SERIES, or a sentence.
    """

    name: str
    what: str
    since: str
    until: str
    remedy: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")


CHECKS: tuple[Check, ...] = (
    Check(
        "steps",
        "8, 27 and 50 steps are evaluated at PyTorch's timesteps",
        FIRST,
        "82a5d84 (2026-02-25)",
        APPLY,
    ),
    Check(
        "recorded-steps",
        "the record of a stem names the steps that ran",
        FIRST,
        "82a5d84 (2026-02-25)",
        APPLY,
    ),
    Check("custom-timesteps", "40 custom timesteps are evaluated as given", FIRST, "", APPLY),
    Check("missing-is-turbo", "a config without is_turbo means base, or is refused", FIRST, "", APPLY),
    Check(
        "guidance",
        "guidance is applied on MLX",
        FIRST,
        "82a5d84 (2026-02-25)",
        "update to 82a5d84 or later, or give guidance_scale=1",
    ),
    Check("apg-momentum", "guidance on MLX equals PyTorch's APG", "82a5d84 (2026-02-25)", "", APPLY_SERIES),
    Check(
        "context-audio", "the decoder gets the context's latents", FIRST, "7f6e615 (2026-03-11)", APPLY_SERIES
    ),
    Check("prompt", "a request without an instruction gets LEGO's prompt", "", "", APPLY_SERIES),
    Check("thinking", "the language model does not replace the context audio", "", "", APPLY_SERIES),
    Check("seed", "GenerationParams.seed is used", "", "", APPLY_SERIES),
    Check("mlx-failure", "a failure of MLX is reported", FIRST, "", APPLY_SERIES),
    Check(
        "worker-thread",
        "MLX runs in a thread that did not load it",
        FIRST,
        "3b2bb82 (2026-04-30)",
        APPLY_SERIES,
    ),
    Check(
        "short-context",
        "short contexts and time ranges are the same on MLX and in PyTorch",
        "e69fb77 (2026-03-11)",
        "",
        "give a context of at least 5.12 s and no range, where PyTorch is to be compared",
    ),
    Check(
        "sde",
        "SDE has the same noise levels on MLX and in PyTorch",
        FIRST,
        "",
        "give infer_method='ode', where PyTorch is to be compared",
    ),
    Check(
        "pytorch-timesteps",
        "PyTorch evaluates custom timesteps as given",
        "",
        "",
        "where PyTorch takes the list, end it with 0.0; where it does not, use MLX",
    ),
    Check(
        "dcw",
        "the wavelet correction is not skipped silently in PyTorch",
        "db3941f (2026-04-20)",
        "",
        "pip install pytorch_wavelets PyWavelets, or give dcw_enabled=False",
    ),
)


class UnknownCheck(KitError):
    """A name that no check has."""

    exit_status = 2


def select(names: Iterable[str] | None) -> tuple[Check, ...]:
    """The checks of these names in the registry's order; all of them for None. Raises UnknownCheck."""
    if names is None:
        return CHECKS
    wanted = set(names)
    unknown = sorted(wanted - {check.name for check in CHECKS})
    if unknown:
        raise UnknownCheck(
            f"doctor: expected names of checks, found {', '.join(map(repr, unknown))}; "
            f"the checks are: {', '.join(check.name for check in CHECKS)}."
        )
    return tuple(check for check in CHECKS if check.name in wanted)
