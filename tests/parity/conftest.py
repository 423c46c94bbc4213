"""`--acestep-root PATH`: the checkout that is held to the PyTorch reference; the fork if nothing is said."""

from pathlib import Path

import pytest

FORK = Path(__file__).resolve().parents[2] / "ACE-Step-1.5"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--acestep-root",
        type=Path,
        default=FORK,
        metavar="PATH",
        help="the checkout that tests/parity holds to the PyTorch reference (default: ACE-Step-1.5)",
    )


@pytest.fixture(scope="session")
def acestep_root(request: pytest.FixtureRequest) -> Path:
    """The folder that holds acestep/; pytest may have met the option too late to know its default."""
    return request.config.getoption("--acestep-root", default=FORK)
