"""What is to be done to a checkout: all of it is worked out in memory here, and nothing is written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from . import diffusion_patch, execute_patch, generate_patch
from .checkout import Checkout
from .errors import UnreadableSource
from .judge import Honoured, Judgement, Threesome, calls_that_fail, judge
from .outcomes import Applied, CannotEdit, Edit, NotApplicable, NotApplied, Role, State
from .source import Source, read

# The write order: each state in between still runs on MLX. E alone would make its call fail, and upstream then
# runs PyTorch and says nothing.
WRITE_ORDER = (Role.GENERATE, Role.DIFFUSION, Role.EXECUTE)


@dataclass(frozen=True)
class Plan:
    """The state of each site and what a request gets now; `after` is what `apply` writes, if it may."""

    before: Mapping[Role, Source]
    states: Mapping[Role, State]
    honoured: Honoured

    @property
    def applied(self) -> bool:
        return all(isinstance(state, Applied) for state in self.states.values())

    @property
    def applicable(self) -> bool:
        return not any(isinstance(state, NotApplicable) for state in self.states.values())

    @property
    def after(self) -> Mapping[Role, Source]:
        """All three files after the edits that are still to be made."""
        edited = {role: state.after for role, state in self.states.items() if isinstance(state, NotApplied)}
        return {**self.before, **edited}


def read_files(checkout: Checkout) -> dict[Role, Source]:
    """The three files as sources. Raises UnreadableSource."""
    paths = (checkout.execute, checkout.diffusion, checkout.generate)
    return {role: read(checkout.name(path), path) for role, path in zip(Role, paths, strict=True)}


def make_plan(files: Mapping[Role, Source]) -> Plan:
    """Judges the three files and works out the edits; an edit that would not do its part is not applicable.

    Raises UnreadableSource if LibCST cannot carry a file that needs an edit.
    """
    found = judge(threesome(files))
    states: dict[Role, State] = {
        Role.EXECUTE: _execute(files[Role.EXECUTE], found),
        Role.DIFFUSION: _diffusion(files[Role.DIFFUSION], found),
        Role.GENERATE: _generate(files[Role.GENERATE], found),
    }
    plan = Plan(files, states, found.together)
    if plan.applied or not plan.applicable:
        return plan
    return _kept_marked(_proved(plan))


def undone(files: Mapping[Role, Source]) -> tuple[dict[Role, Source], dict[Role, frozenset[str]]]:
    """The three files without all that the patches put in, and the names of what was taken out of each."""
    kept = frozenset(generate_patch.noted(files[Role.GENERATE]))
    undo = {
        Role.EXECUTE: execute_patch.undo,
        Role.DIFFUSION: diffusion_patch.undo,
        Role.GENERATE: generate_patch.undo,
    }
    edits = {role: undo[role](source, kept) for role, source in files.items()}
    before = {role: files[role].with_text(edit.text) for role, edit in edits.items()}
    return before, {role: edit.names for role, edit in edits.items()}


def threesome(files: Mapping[Role, Source]) -> Threesome:
    """The three files as `patches.judge` takes them."""
    return Threesome(files[Role.EXECUTE], files[Role.DIFFUSION], files[Role.GENERATE])


def _execute(source: Source, found: Judgement) -> State:
    if found.execute:
        return Applied("passes the asked-for steps")
    return _edited(source, "does not pass the asked-for steps", lambda: execute_patch.edit(source))


def _diffusion(source: Source, found: Judgement) -> State:
    steps, kind = not found.diffusion_steps, not found.diffusion_kind
    missing = [word for word, is_missing in (("steps", steps), ("model kind", kind)) if is_missing]
    if not missing:
        return Applied("forwards the steps and the model kind")
    detail = f"does not forward the {' and the '.join(missing)}"
    return _edited(source, detail, lambda: diffusion_patch.edit(source, steps=steps, kind=kind))


def _generate(source: Source, found: Judgement) -> State:
    if found.generate:
        return Applied("gives a base model the asked-for steps and timesteps")
    return _edited(source, "does not give a base model its own schedule", lambda: generate_patch.edit(source))


def _edited(source: Source, detail: str, edit: Callable[[], Edit]) -> State:
    try:
        made = edit()
        return NotApplied(detail, source.with_text(made.text), made.names)
    except CannotEdit as reason:
        return NotApplicable(str(reason))
    except UnreadableSource:
        return NotApplicable("the edit would not compile here")


def _proved(plan: Plan) -> Plan:
    """Judges the result as the original was judged: what the edits do not bring about is not promised."""
    found = judge(threesome(plan.after))
    good = {Role.EXECUTE: found.execute, Role.DIFFUSION: found.diffusion, Role.GENERATE: bool(found.generate)}
    if all(good.values()) and found.together.steps:
        return plan
    bad = [role for role, is_good in good.items() if not is_good] or [Role.GENERATE]
    reason = NotApplicable("the code around the site would keep the edit from having its effect")
    return replace(plan, states={**plan.states, **dict.fromkeys(bad, reason)})


def _kept_marked(plan: Plan) -> Plan:
    """Notes in G's comment what would look like this kit's own lines later, but was there before.

    So no two originals lead to the same result, and `revert` can prove which one it was.
    """
    generate = plan.states[Role.GENERATE]
    if not isinstance(generate, NotApplied):
        return plan
    before, taken = undone(plan.after)
    put_in = frozenset().union(*(s.put_in for s in plan.states.values() if isinstance(s, NotApplied)))
    kept = sorted(frozenset().union(*taken.values()) - put_in)
    # A call that failed before, and fits once G takes more, would look like one that was edited afterwards.
    kept = kept or [f"what is passed to {name}" for name in sorted(calls_that_fail(threesome(plan.before)))]
    if kept:
        source = plan.before[Role.GENERATE]
        marked = source.with_text(generate_patch.edit(source, kept).text)
        plan = replace(plan, states={**plan.states, Role.GENERATE: replace(generate, after=marked)})
        before, _ = undone(plan.after)
    changed = [role for role in Role if before[role].data != plan.before[role].data]
    reason = NotApplicable("the edit could not be taken back to the same bytes")
    return replace(plan, states={**plan.states, **dict.fromkeys(changed, reason)}) if changed else plan
