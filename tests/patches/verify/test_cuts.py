"""Nothing that runs other steps than requested is called honoured, and the line that cuts them is named.

By default each edit is run in each era with the cases that find it; EDIT_SHAPES=all runs it with all of them too, as
`verify` does (some minutes).
"""

import os
from collections.abc import Callable

import pytest

from patches.verify import VerifyReport, render_report
from patches.verify.cases import FURTHER
from tests.patches.mini_checkout import MiniCheckout
from tests.patches.verify.checkouts import ERAS, patched
from tests.patches.verify.cuts import ALL, FOUND_BY, LIKE_LEGO, MARK, RUNS, TRACED, UNCOUNTED

Verify = Callable[..., VerifyReport]
EVERY = os.environ.get("EDIT_SHAPES") == "all"


@pytest.mark.parametrize("era", ERAS)
def test_patched_checkout_is_honoured(verify: Verify, era: str) -> None:
    report = verify(patched(era), steps=(1, 8, 27, 50, 137))
    assert report.honoured, render_report(report)
    assert report.cut == ()
    assert {r.run for r in report.results} == {"", *RUNS}
    assert {(r.request, r.evaluated) for r in report.results if r.model == "base" and r.run != FURTHER} == {
        ("1 step", 1),
        ("8 steps", 8),
        ("27 steps", 27),
        ("50 steps", 50),
        ("137 steps", 137),
        ("40 custom timesteps", 40),
        ("300 custom timesteps", 300),
    }


@pytest.mark.parametrize("cases", ["that find it", "all"] if EVERY else ["that find it"])
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ALL)
def test_cut_is_not_honoured(verify: Verify, name: str, era: str, cases: str) -> None:
    checkout = ALL[name](patched(era))
    report = verify(checkout) if cases == "all" else verify(checkout, FOUND_BY[name].of)
    assert report.problem is None
    assert not report.honoured, render_report(report)
    if name in TRACED:
        assert report.cut[0].endswith(f" at {marked_line(checkout)}"), "\n".join(report.cut)
    elif name not in UNCOUNTED:
        assert "requested: " in report.cut[-1]


@pytest.mark.parametrize("name", LIKE_LEGO)
def test_cut_of_requests_like_lego_is_not_honoured(verify: Verify, name: str) -> None:
    edit, found_by = LIKE_LEGO[name]
    report = verify(edit(patched("8567e33")), found_by.of)
    assert report.problem is None
    faults = {result.verdict for result in report.results if not result.ok}
    assert faults, render_report(report)
    assert {fault.split(",")[0] for fault in faults} <= {"requested 27", "requested 50"}


def marked_line(checkout: MiniCheckout) -> str:
    """`file:line` of the marked line, as the trace names it."""
    files = {
        "acestep/core/generation/handler/service_generate_execute.py": checkout.execute,
        "acestep/core/generation/handler/diffusion.py": checkout.diffusion,
        "acestep/models/mlx/dit_generate.py": checkout.generate,
    }
    (found,) = [
        f"{file}:{number}"
        for file, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if line.endswith(MARK)
    ]
    return found
