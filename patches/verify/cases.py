"""What `verify` requests of a checkout, and what it observes: the JSON between verify and its child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import configs

# longer than the 20 values that upstream keeps, and on no turbo grid
CUSTOM = tuple(1.0 - 0.024 * i for i in range(40))
CUSTOM_OTHER = tuple((1.0 - i / 40) ** 2 for i in range(40))  # as many, for what remembers their number alone
CUSTOM_LONG = tuple((1.0 - i / 300) ** 1.5 for i in range(300))
CUSTOM_SHORT = (0.9, 0.55, 0.2, 0.0)
CUSTOM_SINGLE = (0.7,)
TURBO_STEPS = 8
MOST_AT_REAL_SIZE = 64  # steps; more would take seconds
LARGE_SEED = 2**32 - 1  # upstream draws seeds up to this
MOST_FRAMES = 30_000  # of a further request: evaluations x batch x frames
# What people request besides, each at another size, shift, guidance and so on.
FURTHER_STEPS = (2, 3, 4, 5, 6, 10, 12, 16, 20, 25, 30, 32, 40, 60, 64, 75, 80, 100, 128, 150, 200, 256, 300)
FURTHER_TIMESTEPS = (CUSTOM_SHORT, CUSTOM_SINGLE, CUSTOM[:20], CUSTOM_LONG[:128])
FURTHER = "further requests, each in another way"


@dataclass(frozen=True)
class Case:
    """One generation to run through the checkout's three files.

    model: name of the model kind, as shown in the report.
    config: attributes of the host's `config`; None means a host without `config`.
    steps: the requested `infer_steps`, passed on as it is, even where it makes no sense.
    timesteps: custom timesteps in (0, 1], possibly with trailing zeros; None means the default schedule.
    run: when and how it runs, as shown in the report.
    compiled: the host asks for a compiled decoder step. thread: runs in a worker thread.
    batch, frames: number of generations at once, and their latent frames (25 a second).
    velocity: standard deviation of the fake decoder's velocities. steady: all evaluations return the same ones.
    lego: the texts and spans are those of a LEGO request, else those of text to music.
    part: LEGO of the second half alone; the chunk mask is 0 in the first one.
    dcw: the wavelet correction is what the checkout makes of it by default, else it is off.
    noise: the requested seed of each item; None means `seed` and those that follow it.
    seed: of the conditions and of the velocities; no two cases have the same.
    """

    model: str
    config: Mapping[str, Any] | None
    steps: Any = 8
    shift: float = 3.0
    guidance_scale: float = 1.0
    timesteps: tuple[float, ...] | None = None
    run: str = ""
    compiled: bool = False
    thread: bool = False
    batch: int = 1
    frames: int = 8
    velocity: float = 1.0
    steady: bool = False
    lego: bool = True
    part: bool = False
    dcw: bool = False
    noise: tuple[int, ...] | None = None
    seed: int = 0

    @property
    def is_base(self) -> bool:
        """A config without the key means a base model, as upstream's own `is_turbo_model()` has it."""
        return self.config is not None and not self.config.get("is_turbo", False)

    @property
    def has_known_latents(self) -> bool:
        """Whether each step is velocity times difference of timesteps and nothing else."""
        return not (self.dcw or self.part)

    @property
    def requested(self) -> str:
        """What is requested, in words."""
        if self.timesteps is not None:
            return f"{len(self.timesteps)} custom timesteps"
        return f"{self.steps} step{'' if self.steps == 1 else 's'}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Case:
        lists = {name: data[name] for name in ("timesteps", "noise")}
        return cls(**{**data, **{name: None if one is None else tuple(one) for name, one in lists.items()}})


@dataclass(frozen=True)
class Observation:
    """What the fake decoder and the fake model recorded during one case.

    evaluated: the timestep of each decoder evaluation, in order, as the float32 value that arrived.
    guided: how many of these evaluations had a doubled batch, that is, both guidance branches.
    reference: PyTorch's base schedule for this case (torch.linspace and shift, in float32), or the custom timesteps
        less trailing zeros; empty where `steps` is not a whole number of at least 1.
    unpatched: what the checkout's own `get_timestep_schedule` gives when the model kind is not named, which is what
        the checkout did before the patches; None where that call raises.
    latents: relative L2 distance between the latents that arrived at the decoder or were returned and those of the
        Euler loop in float64, the largest one; None where the number of evaluations is not the expected one, and
        where the case has no known latents.
    fallback: why the checkout ran PyTorch instead of MLX; None if it did not.
    error: what the checkout raised instead of returning; None if it returned.
    """

    evaluated: tuple[float, ...]
    guided: int
    reference: tuple[float, ...]
    unpatched: tuple[float, ...] | None
    latents: float | None
    fallback: str | None
    error: str | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Observation:
        """Raises KeyError, TypeError or ValueError for anything that is not such an object."""
        unpatched, latents = data["unpatched"], data["latents"]
        return cls(
            evaluated=tuple(float(value) for value in data["evaluated"]),
            guided=int(data["guided"]),
            reference=tuple(float(value) for value in data["reference"]),
            unpatched=None if unpatched is None else tuple(float(value) for value in unpatched),
            latents=None if latents is None else float(latents),
            fallback=_text(data["fallback"]),
            error=_text(data["error"]),
        )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def plan_cases(steps: Sequence[int], shift: float, guidance_scale: float) -> list[Case]:
    """Base: each request in order, guided, compiled, in a worker thread, at another shift, and again in reverse order;
    some of them at a real size, and one count in further ways. Turbo and a host without config in between, at the
    counts where a mix-up would show. All but the requests in order look like LEGO."""
    base, turbo = configs.BASE, configs.TURBO
    requests: list[dict[str, Any]] = [{"steps": count} for count in dict.fromkeys(steps)]
    requests += [{"timesteps": values} for values in (CUSTOM, CUSTOM_OTHER, CUSTOM_LONG)]
    planned: list[dict[str, Any]] = []

    def add(requests: Sequence[Mapping[str, Any]], **further: Any) -> None:
        planned.extend({"shift": shift, **further, **request} for request in requests)

    most = max(steps)
    not_many = max([count for count in steps if count <= MOST_AT_REAL_SIZE], default=min(steps))
    other_shift = 1.0 if shift != 1 else 3.0  # LEGO is run at 1, the default is 3
    add(requests, model="base", config=base, run="in order", lego=False)
    add([{"steps": count} for count in sorted({TURBO_STEPS, most})], model="turbo", config=turbo)
    add([{"timesteps": CUSTOM}], model="turbo", config=turbo)
    add([{"steps": most}, {"timesteps": CUSTOM}], model="no config", config=None)
    guided = {"run": f"guidance {guidance_scale:g}", "guidance_scale": guidance_scale}
    add(requests, model="base", config=base, **guided)
    add(requests, model="base", config=base, run="compiled", compiled=True)
    add(requests, model="base", config=base, run="worker thread", thread=True)
    # one seed for all counts: what is kept by seed alone would be given to another count
    at_other_shift = {"run": f"shift {other_shift:g}", "shift": other_shift, "noise": (LARGE_SEED,)}
    add(requests, model="base", config=base, **at_other_shift)
    for further in (
        {"run": "shift 2.5", "shift": 2.5},  # on no table of turbo's
        {"run": "the same velocity at each step", "steady": True},
        {"run": "the second half", "part": True},
        {"run": "dcw by default", "dcw": True},
    ):
        add([{"steps": not_many}], model="base", config=base, **further)
    real_size = {"run": "batch of 2 at 60 s", "batch": 2, "frames": 1500}
    add([{"steps": not_many}], model="XL base", config=configs.XL_BASE, **real_size)
    add([{"timesteps": CUSTOM}], model="base", config=base, **real_size)
    add(requests[::-1], model="base", config=base, run="reverse order")
    once: list[dict[str, Any]] = [{"steps": count} for count in FURTHER_STEPS if count <= most]
    once += [{"timesteps": values} for values in FURTHER_TIMESTEPS]
    for number, request in enumerate(once):
        evaluations = request.get("steps") or len(request["timesteps"])
        add([_another_way(number, evaluations) | request], model="base", config=base, run=FURTHER)
    # Batches take several seeds: those of two cases are never the same.
    return [Case(**fields, seed=1_009 * number + 17) for number, fields in enumerate(planned)]


def _another_way(number: int, evaluations: int) -> dict[str, Any]:
    """Values that no other run has, in turns of different lengths, so that each meets several of the others."""
    batch = (1, 2, 4, 1, 3)[number % 5]
    return {
        "frames": min((8, 130, 250, 500, 750, 3000, 61)[number % 7], MOST_FRAMES // (batch * evaluations)),
        "batch": batch,
        "guidance_scale": (1.0, 2.5, 1.0, 15.0)[number % 4],
        "shift": (1.0, 3.0, 2.0, 1.7, 5.0, 0.5)[number % 6],
        "velocity": (1.0, 0.02, 10.0)[number % 3],
        "compiled": number % 3 == 1,
        "thread": number % 8 == 5,
    }
