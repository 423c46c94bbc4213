"""Where a run was made: versions, chip and memory, for whoever reads the report elsewhere."""

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "mlx", "diffusers", "transformers", "numpy")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def machine(command: list[str]) -> dict[str, Any]:
    """Plain values; what cannot be found out is None. memory is in bytes."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "chip": chip(),
        "cores": os.cpu_count(),
        "memory": memory(),
        "versions": versions(),
        "commit": first_line("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"),
        "command": command,
    }


def versions() -> dict[str, str]:
    """Of this interpreter and of the packages that count, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):  # mlx, for whoever runs PyTorch alone
            found[name] = version(name)
    return found


def chip() -> str | None:
    """The processor's name as its maker sells it."""
    if platform.system() == "Darwin":
        return first_line("sysctl", "-n", "machdep.cpu.brand_string")
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return None
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def memory() -> int | None:
    """Bytes of main memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # a system without sysconf, or without these names
        return None


def first_line(*command: str) -> str | None:
    """What a command answers; None where it is not there, fails or is silent."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None
