"""What holds of every checkout that the kit meets, checked on each case for free.

Applied twice is applied once; reverted, the bytes are back; a refusal changes nothing; LF and CRLF alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from patches.outcomes import Applied, NotApplicable, Role
from patches.plan import Plan, make_plan
from patches.revert import make_revert
from patches.source import Source, from_bytes
from tests.patches.mini_checkout import FIXED, MiniCheckout

# FIXED with the steps threaded in upstream's words, which are not this kit's.
UPSTREAM = FIXED.edited("execute", ('.get("infer_steps", 8)', '.get("infer_steps")')).edited(
    "diffusion", ("infer_steps: int = 8", "infer_steps=None")
)


def sources(checkout: MiniCheckout, newline: str = "\n") -> dict[Role, Source]:
    texts = {
        Role.EXECUTE: checkout.execute,
        Role.DIFFUSION: checkout.diffusion,
        Role.GENERATE: checkout.generate,
    }
    return {r: from_bytes(f"{r.value}.py", t.replace("\n", newline).encode()) for r, t in texts.items()}


def data(files: Mapping[Role, Source]) -> dict[str, bytes]:
    return {role.value: source.data for role, source in files.items()}


def check_transformed(checkout: MiniCheckout) -> Plan:
    """The plan for a checkout that must be applicable, after the whole contract was held to it."""
    plan = make_plan(sources(checkout))
    assert plan.applicable, reasons(plan)
    again = make_plan(plan.after)
    assert again.applied
    assert again.honoured
    assert data(again.after) == data(plan.after)
    assert data(make_revert(plan.after)) == data(plan.before)
    with_crlf = data(make_plan(sources(checkout, "\r\n")).after)
    assert with_crlf == {name: after.replace(b"\n", b"\r\n") for name, after in data(plan.after).items()}
    return plan


def check_refused(checkout: MiniCheckout) -> dict[str, str]:
    """The reasons, site by site, for a checkout that must not be applicable."""
    plan = make_plan(sources(checkout))
    assert not plan.applicable
    return reasons(plan)


def check_applied(checkout: MiniCheckout) -> None:
    """The checkout does all of it already: nothing to write, and a base model gets what was asked for."""
    plan = make_plan(sources(checkout))
    assert {role.value: state.word for role, state in plan.states.items()} == {
        role.value: "applied" for role in Role
    }
    assert plan.honoured
    assert data(plan.after) == data(plan.before)


def reasons(plan: Plan) -> dict[str, str]:
    return {r.value: s.detail for r, s in plan.states.items() if isinstance(s, NotApplicable)}


def not_applied(plan: Plan) -> dict[str, str]:
    return {r.value: s.detail for r, s in plan.states.items() if not isinstance(s, Applied)}


def changed(plan: Plan, role: Role) -> list[str]:
    """The lines that go and come in one file, as a diff shows them."""
    lines = difflib.ndiff(plan.before[role].text.splitlines(), plan.after[role].text.splitlines())
    return [line[0] + line[2:] for line in lines if line[0] in "+-"]
