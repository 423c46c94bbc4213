"""Outcomes as people read them, and as JSON."""

from .checkout import Checkout
from .outcomes import Applied, NotApplicable
from .plan import Plan


def check_text(checkout: Checkout, plan: Plan) -> str:
    """One line a site, one line for the three together."""
    rows = [
        (role.value, state.word, plan.before[role].name, state.detail) for role, state in plan.states.items()
    ]
    head = ("site", "state", "file", "")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(3)]
    lines = [
        f"{site.ljust(widths[0])}  {state.ljust(widths[1])}  {file.ljust(widths[2])}  {detail}".rstrip()
        for site, state, file, detail in [head, *rows]
    ]
    return "\n".join([*lines, together(checkout, plan)])


def together(checkout: Checkout, plan: Plan) -> str:
    """What a base model gets on MLX now, as far as reading tells, and what to do."""
    steps, listed = plan.honoured.steps, plan.honoured.timesteps
    joined = "and" if steps == listed else "but"
    return (
        f"together: for base models on MLX {_told('the asked-for steps', 'run', steps)}, "
        f"{joined} {_told('custom timesteps', 'run as given', listed)}. {_next(checkout, plan)}"
    )


def _told(what: str, run: str, honoured: bool | None) -> str:
    if honoured is None:
        return f"whether {what} {run} cannot be told by reading"
    return f"{what} {run}" if honoured else f"{what} do not {run}"


def check_json(plan: Plan) -> dict[str, object]:
    """`check` for machines; the states are "applied", "not applied" and "not applicable"."""
    sites = [
        {"site": role.value, "file": plan.before[role].name, "state": state.word, "detail": state.detail}
        for role, state in plan.states.items()
    ]
    honoured = {"steps": plan.honoured.steps, "timesteps": plan.honoured.timesteps}
    return {"sites": sites, "state": _word(plan), "honoured_by_reading": honoured}


def refusal(checkout: Checkout, plan: Plan) -> str:
    """Why `diff` and `apply` do nothing: each site that is not applicable, with its reason."""
    reasons = [
        f"{plan.before[role].name}: expected the site as upstream has it, found: {state.detail}."
        for role, state in plan.states.items()
        if isinstance(state, NotApplicable)
    ]
    return " ".join([*reasons, "All three or none: nothing was changed.", _next(checkout, plan)])


def _word(plan: Plan) -> str:
    if plan.applied:
        return "applied"
    return "not applied" if plan.applicable else "not applicable"


def _next(checkout: Checkout, plan: Plan) -> str:
    if not plan.applicable:
        return f"Cannot be applied here; see what really runs: python -m patches verify {checkout.root}"
    if not plan.applied:
        partly = any(isinstance(state, Applied) for state in plan.states.values())
        return f"Next{' (finishes what is there)' if partly else ''}: python -m patches apply {checkout.root}"
    return f"Nothing to apply; see it run: python -m patches verify {checkout.root}"
