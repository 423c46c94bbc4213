"""What the patches of the series change and what they leave: other tasks than LEGO keep what they had.

The single files are run here, before and after; the doctor is the proof on whole checkouts.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from patches.lego import codes, context, fallback, momentum, prompt, seed
from tests.patches.contract import check_applied
from tests.patches.mini_application import CONSTANTS_TEXT, INFERENCE_TEXT, MASKS_TEXT, REQUEST_TEXT, SICK
from tests.patches.mini_checkout import BEFORE

LEGO = "Generate the VOCALS track based on the audio context:"
OTHERS = [
    "Fill the audio semantic mask based on the given conditions:",
    "Repaint the mask area based on the given conditions:",
    "Extract the VOCALS track from the audio:",
    "",
]


def patched(text: str, patch: ModuleType) -> str:
    return check_applied(patch.PATCH, text)


def names(text: str, **given: Any) -> dict[str, Any]:
    """The names of a file, run with `given` in place of what it imports from acestep."""
    lines = [line for line in text.splitlines() if not line.startswith("from acestep")]
    space: dict[str, Any] = {"__name__": "file", **given}
    exec(compile("\n".join(lines), "file.py", "exec", dont_inherit=True), space)
    return space


def source_of(text: str, instruction: str, start: float, end: float | None) -> torch.Tensor:
    mixin = names(text)["ConditioningMaskMixin"]()
    latents, silent = torch.arange(100.0)[:, None].expand(100, 64) + 1, torch.full((100, 64), -3.0)
    ends = None if end is None else [end]
    given = (1, 100, [instruction], [None], None, latents[None], [start], ends, silent)
    masks, _, sources = mixin._build_chunk_masks_and_src_latents(*given)
    assert masks[0].sum() == (100 if end is None else (end - start) * 25)
    return sources[0, :, 0]


@pytest.mark.parametrize(("start", "end"), [(0.0, 4.0), (1.0, 2.0)], ids=["whole_length", "range"])
def test_lego_keeps_every_frame_of_its_context(start: float, end: float) -> None:
    kept = source_of(patched(MASKS_TEXT, context), LEGO, start, end)
    assert torch.equal(kept, torch.arange(100.0) + 1)
    assert (source_of(MASKS_TEXT, LEGO, start, end) == -3).sum() == (end - start) * 25


@pytest.mark.parametrize("instruction", OTHERS)
def test_other_tasks_are_silenced_where_they_were(instruction: str) -> None:
    for span in ((0.0, 4.0), (1.0, 2.0), (0.0, None)):
        after = source_of(patched(MASKS_TEXT, context), instruction, *span)
        assert torch.equal(after, source_of(MASKS_TEXT, instruction, *span))


def task_of(text: str) -> Callable[..., tuple[str, str]]:
    texts = names(CONSTANTS_TEXT)["TASK_INSTRUCTIONS"]
    resolve: Callable[..., tuple[str, str]] = names(text, TASK_INSTRUCTIONS=texts)[
        "GenerateMusicRequestMixin"
    ]()._resolve_generate_music_task
    return resolve


@pytest.mark.parametrize("given", ["Make music of the words:", "", None], ids=["default", "empty", "none"])
def test_lego_without_an_instruction_gets_that_of_lego(given: str | None) -> None:
    assert task_of(patched(REQUEST_TEXT, prompt))("lego", "", given) == (
        "lego",
        "Add the track based on the audio context:",
    )


@pytest.mark.parametrize(
    "given",
    [
        ("lego", "", LEGO),
        ("lego", "", "My own words:"),
        ("text2music", "", OTHERS[0]),
        ("text2music", "<|1|>", OTHERS[0]),
        ("repaint", "", ""),
    ],
    ids=["lego_with_a_track", "lego_in_own_words", "text2music", "codes", "repaint"],
)
def test_an_instruction_that_was_given_and_other_tasks_keep_theirs(given: tuple[str, str, str]) -> None:
    assert task_of(patched(REQUEST_TEXT, prompt))(*given) == task_of(REQUEST_TEXT)(*given)


class LanguageModel:
    llm_initialized = True

    def generate_with_stop_condition(self, infer_type: str) -> dict[str, str]:
        return {"audio_codes": "<|1|>" if infer_type == "llm_dit" else ""}


def passed_on(text: str, **request: Any) -> dict[str, Any]:
    """What `inference.generate_music` passes to the handler."""
    space = names(text, TASK_INSTRUCTIONS=names(CONSTANTS_TEXT)["TASK_INSTRUCTIONS"])
    seen: dict[str, Any] = {}

    def generate_music(**given: Any) -> list[dict[str, Any]]:
        seen.update(given)
        return [{"target_latents": None}]

    config = {name: request.pop(name) for name in ("use_random_seed", "seeds") if name in request}
    params, config = space["GenerationParams"](**request), space["GenerationConfig"](**config)
    space["generate_music"](SimpleNamespace(generate_music=generate_music), LanguageModel(), params, config)
    return seen


def test_lego_has_no_codes_and_text2music_has() -> None:
    after = patched(INFERENCE_TEXT, codes)
    assert passed_on(after, task_type="lego")["audio_code_string"] == ""
    assert passed_on(INFERENCE_TEXT, task_type="lego")["audio_code_string"] == "<|1|>"
    assert passed_on(after, task_type="text2music")["audio_code_string"] == "<|1|>"


def test_seed_of_the_parameters_is_used_for_lego_where_no_other_is_given() -> None:
    after = patched(INFERENCE_TEXT, seed)
    own = {"seed": 42, "use_random_seed": False}
    assert passed_on(after, task_type="lego", **own)["seeds"] == [42]
    assert passed_on(after, task_type="lego", **{**own, "seed": 0})["seeds"] == [0]
    assert passed_on(after, task_type="lego", seeds=[7], **own)["seeds"] == [7]
    for drawn in (
        {"task_type": "text2music", **own},
        {"task_type": "lego", "seed": 42},
        {"task_type": "lego", **own, "seed": -1},
        {"task_type": "lego", **own, "seed": None},
    ):
        assert passed_on(after, **drawn)["seeds"] not in ([42], [-1], [0])


def momenta(text: str, differences: list[float]) -> list[float]:
    """The momentum buffer after each step, read off the guided velocity (below the norm threshold)."""
    import mlx.core as mx

    forward = names(text)["_mlx_apg_forward"]
    state: dict[str, Any] = {}
    seen = []
    across, along = mx.array([[[0.0], [1.0]]]), mx.array([[[1.0], [0.0]]])
    for difference in differences:
        made = forward(along, along - difference * across, 2.0, state)
        seen.append(round(made[0, 1, 0].item(), 6))
    return seen


def test_momentum_is_that_of_pytorch() -> None:
    generate = SICK.checkout.generate
    assert momenta(generate, [0.5, 0.25, 0.125]) == [0.5, 0.75, 0.875]
    assert momenta(patched(generate, momentum), [0.5, 0.25, 0.125]) == [0.5, -0.125, 0.21875]


def executed(text: str, instruction: str) -> str:
    """The result of a request whose MLX run fails, or the error."""
    mixin = names(text, logger=SimpleNamespace(warning=lambda *_: None))["ServiceGenerateExecuteMixin"]

    def fails(**_: Any) -> None:
        raise ValueError("no kernel for this")

    host = mixin()
    zeros = torch.zeros(1, 2, 4)
    host.model = SimpleNamespace(
        prepare_condition=lambda **_: (zeros, zeros, zeros),
        generate_audio=lambda **_: "PyTorch's",
        null_condition_emb=None,
    )
    host._load_model_context = lambda _: torch.no_grad()
    host._mlx_run_diffusion, host.use_mlx_dit, host.mlx_decoder = fails, True, object()
    payload = {
        "src_latents": zeros,
        "chunk_mask": zeros,
        "generated": zeros,
        "is_covers": None,
        "text_inputs": [instruction],
    }
    request = host._build_service_generate_kwargs(payload, [1], 8, 1.0, "ode", 3.0, None)
    try:
        return str(host._execute_service_generate_diffusion(payload, request, [1], "ode", 3.0, 1.0)[0])
    except RuntimeError as error:
        return f"{error} <- {error.__cause__!r}"


def test_fallback_by_another_name_is_replaced_too() -> None:
    text = BEFORE.execute.replace("from loguru import logger\n", "")
    hidden = text.replace(
        "outputs = self.model.generate_audio(**generate_kwargs)\n        return",
        "outputs = getattr(self.model, 'generate_audio')(**generate_kwargs)\n        return",
    )
    assert executed(hidden, f"# Instruction\n{LEGO}") == "PyTorch's"
    assert executed(patched(hidden, fallback), f"# Instruction\n{LEGO}").startswith("MLX failed: ")


def test_failure_of_mlx_ends_a_lego_request_and_pytorch_runs_for_others() -> None:
    text = BEFORE.execute.replace("from loguru import logger\n", "")
    assert executed(text, f"# Instruction\n{LEGO}") == "PyTorch's"
    after = patched(text, fallback)
    assert executed(after, f"# Instruction\n{LEGO}") == (
        "MLX failed: no kernel for this <- ValueError('no kernel for this')"
    )
    for instruction in OTHERS:
        assert executed(after, f"# Instruction\n{instruction}") == "PyTorch's"
