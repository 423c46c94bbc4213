"""The asked-for steps, and custom timesteps, as the decoder sees them."""

from __future__ import annotations

from ..verify.cases import Case, Observation
from ..verify.report import CUSTOM, TOLERANCE, distance, judge
from .line import BASE_PATCHES, Finding, Line, found
from .site import Site, base_case

LINE = Line("steps", "a12a25a (2026-02-11)", "82a5d84 (2026-02-25)", BASE_PATCHES)
CUSTOM_LINE = Line("custom timesteps", "a12a25a (2026-02-11)", "", BASE_PATCHES)
COUNTS = (8, 27, 50)


def look(site: Site) -> Finding:
    """8, 27 and 50 steps of a base model; what was evaluated, at PyTorch's timesteps or others."""
    cases = [base_case(count) for count in COUNTS]
    return _judged(site, cases, site.drive(*cases), f"{', '.join(map(str, COUNTS))} steps")


def look_custom(site: Site) -> Finding:
    """40 timesteps that fall, on no turbo grid."""
    case = base_case(timesteps=CUSTOM)
    return _judged(site, [case], site.drive(case), f"{len(CUSTOM)} timesteps of one's own")


def _judged(site: Site, cases: list[Case], seen: list[Observation], asked: str) -> Finding:
    wrong = any(not judge(case, one).ok for case, one in zip(cases, seen, strict=True))
    return found(wrong, asked, _got(seen), _where(site, seen))


def _got(seen: list[Observation]) -> str:
    broken = next((one.error or one.fallback for one in seen if one.error or one.fallback), None)
    if broken is not None:
        return f"PyTorch ran or nothing did: {broken}"
    counts = f"{', '.join(str(len(one.evaluated)) for one in seen)} evaluated"
    distances = [distance(one.evaluated, one.reference) for one in seen]
    if all(d is not None and d <= TOLERANCE for d in distances):
        return f"{counts}, as PyTorch has them"
    return f"{counts}, at other timesteps"


def _where(site: Site, seen: list[Observation]) -> str:
    return f"{site.name('generate')}:get_timestep_schedule, and what reaches it"
