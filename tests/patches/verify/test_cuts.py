"""Nothing that runs other steps than requested is called honoured, and the line that cuts them is named."""

from collections.abc import Callable

import pytest

from patches.verify import VerifyReport, render_report
from patches.verify.cases import FURTHER
from tests.patches.verify.checkouts import ERAS, Checkout, patched
from tests.patches.verify.cuts import ALL, FOUND_BY, IN_ORDER, MARK, REAL_SIZE, RUNS, TRACED, UNCOUNTED

Verify = Callable[..., VerifyReport]
# Every edit on one era with all cases except those at real size and the further ones, which take as long as all others;
# on the other eras with the cases that find it.
CASES = [
    pytest.param(name, era, runs, id=f"{name}-{era}")
    for position, name in enumerate(ALL)
    for place, era in enumerate(ERAS)
    for found_by in ({IN_ORDER, FOUND_BY.get(name, IN_ORDER)},)
    for runs in ((RUNS - {REAL_SIZE, FURTHER}) | found_by if position % len(ERAS) == place else found_by,)
]


@pytest.mark.parametrize("era", ERAS)
def test_patched_checkout_is_honoured(verify: Verify, era: str) -> None:
    report = verify(patched(era))
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


@pytest.mark.parametrize(("name", "era", "runs"), CASES)
def test_cut_is_not_honoured(verify: Verify, name: str, era: str, runs: set[str]) -> None:
    checkout = ALL[name](patched(era))
    report = verify(checkout, runs)
    assert not report.honoured, render_report(report)
    if name in TRACED:
        assert report.cut[0].endswith(f" at {marked_line(checkout)}"), "\n".join(report.cut)
    elif name not in UNCOUNTED:
        assert "requested: " in report.cut[-1]


def marked_line(checkout: Checkout) -> str:
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
