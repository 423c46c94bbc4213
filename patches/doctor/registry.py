"""The checks of the doctor, in the order in which they run, with the upstream states that have each defect.

To add a check: write `checks/NAME.py` (dashes become underscores) with a function `run(checkout) -> Finding`, and add
one entry here. Nothing in this module needs torch or mlx.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import KitError

# Replaced by commands of this kit with the checkout's path.
APPLY = "{apply}"
APPLY_SERIES = "{series}"

NEVER = "no known state"
BEFORE_MLX = "before a12a25a"
FIRST_MLX = "a12a25a (2026-02-11)"  # the first state with an MLX decoder
STEPS_ON_MLX = "82a5d84 (2026-02-25)"  # steps and guidance reach MLX


@dataclass(frozen=True)
class Check:
    """One known defect.

    since, until: the upstream commits, with dates, that brought and removed it; an empty `until` means that 14c0211
    (2026-08-16), the newest state that was examined, still has it; NEVER, that upstream had it in none.
    remedy: one sentence.
    """

    name: str
    what: str
    since: str
    until: str
    remedy: str

    @property
    def module(self) -> str:
        return self.name.replace("-", "_")

    @property
    def upstream(self) -> str:
        """The upstream states that have the defect."""
        return (
            self.since if self.since == NEVER else f"{self.since} to {self.until or 'the newest known state'}"
        )


CHECKS: tuple[Check, ...] = (
    Check("steps", "requested steps are evaluated at PyTorch's timesteps", FIRST_MLX, STEPS_ON_MLX, APPLY),
    Check("recorded-steps", "a stem's record names the steps that ran", FIRST_MLX, STEPS_ON_MLX, APPLY),
    Check("custom-timesteps", "custom timesteps are evaluated as given", FIRST_MLX, "", APPLY),
    # Not a defect of upstream's own, which refuses such a config; of edited checkouts and forks.
    Check("missing-is-turbo", "a config without is_turbo means base, or is refused", NEVER, "", APPLY),
    Check(
        "dcw",
        "a base model runs without the wavelet correction unless the caller asks for it",
        "be74cd5 (2026-04-23)",
        "b751bd2 (2026-08-16)",
        "give dcw_enabled=False, update to b751bd2 or later, or run {series}",
    ),
    Check(
        "guidance",
        "guidance acts on MLX",
        FIRST_MLX,
        STEPS_ON_MLX,
        "update to 82a5d84 or later, or give guidance_scale=1",
    ),
    Check("apg-momentum", "guidance on MLX is PyTorch's APG", STEPS_ON_MLX, "", APPLY_SERIES),
    Check(
        "context-audio",
        "the decoder gets the context's latents",
        FIRST_MLX,
        "7f6e615 (2026-03-11)",
        APPLY_SERIES,
    ),
    Check(
        "chunk-mask",
        "the chunk mask is 1 in the time range and 0 outside",
        "9c6444b (2026-03-11)",
        "",
        "give chunk_mask_mode='explicit' with a time range",
    ),
    Check("prompt", "a request without an instruction gets LEGO's prompt", BEFORE_MLX, "", APPLY_SERIES),
    Check(
        "thinking",
        "the language model does not replace the context audio",
        BEFORE_MLX,
        "14c0211 (2026-08-16)",
        "update to 14c0211 or later, give thinking=False, or run {series}",
    ),
    Check("seed", "GenerationParams.seed is used", BEFORE_MLX, "", APPLY_SERIES),
    Check(
        "repeated-run",
        "a later run has the conditions of its own request",
        NEVER,
        "",
        "load the model again for each request",
    ),
    Check("batch", "a batch of two seeds is two runs", NEVER, "", "give one seed for each request"),
    Check("mlx-failure", "a failure of MLX is reported", FIRST_MLX, "", APPLY_SERIES),
    Check(
        "worker-thread",
        "MLX runs in a thread that did not load it",
        FIRST_MLX,
        "612835b (2026-04-30)",
        APPLY_SERIES,
    ),
    Check(
        "short-context",
        "short contexts and time ranges are the same on MLX and in PyTorch",
        "e69fb77 (2026-03-11)",
        "df14e88 (2026-05-11)",
        "update to df14e88 or later, or give a context of at least 5.12 s and no range",
    ),
    Check(
        "cover-noise-strength",
        "cover_noise_strength acts on MLX",
        "c019bee (2026-02-12)",
        "",
        "leave cover_noise_strength at 0, or use PyTorch",
    ),
    Check("lora", "a loaded LoRA acts on MLX", FIRST_MLX, "", "use PyTorch for a LoRA"),
    Check("adg", "use_adg acts on MLX", FIRST_MLX, "", "leave use_adg off, or use PyTorch"),
    Check(
        "heun",
        "guided Heun steps on MLX are PyTorch's",
        "f867608 (2026-03-30)",
        "",
        "use Euler steps (the default), or PyTorch",
    ),
    Check(
        "sde",
        "SDE has the same noise levels on MLX and in PyTorch",
        FIRST_MLX,
        "",
        "give infer_method='ode', where PyTorch is to be compared",
    ),
    Check(
        "pytorch-timesteps",
        "PyTorch evaluates custom timesteps as given",
        BEFORE_MLX,
        "",
        "where PyTorch takes the list, end it with 0.0; where it does not, use MLX",
    ),
)


class UnknownCheck(KitError):
    """A name that no check has."""

    exit_status = 2


def select(names: Iterable[str] | None) -> tuple[Check, ...]:
    """The checks of these names in the registry's order; all of them for None. Each text may hold several names with
    commas between. Raises UnknownCheck."""
    if names is None:
        return CHECKS
    wanted = {name.strip() for text in names for name in text.split(",")}
    unknown = sorted(wanted - {check.name for check in CHECKS})
    if unknown:
        raise UnknownCheck(
            f"doctor: expected names of checks, found {', '.join(map(repr, unknown))}; "
            f"the checks are: {', '.join(check.name for check in CHECKS)}."
        )
    return tuple(check for check in CHECKS if check.name in wanted)
