"""What `make setup` says of a machine or an interpreter that cannot run the project, before it installs anything."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAC = {"uname -s": "Darwin", "uname -m": "arm64", "sw_vers -productVersion": "14.5"}
LINUX = {"uname -s": "Linux", "uname -m": "x86_64", "getconf GNU_LIBC_VERSION": "glibc 2.35"}
INTEL = {**MAC, "uname -m": "x86_64"}


def run(folder: Path, answers: dict[str, str], python: str | None = "3.11 x86_64") -> tuple[int, str]:
    """The script with programs that give these answers; `python`: what the interpreter says of itself."""
    scripts, programs = folder / "scripts", folder / "programs"
    scripts.mkdir()
    programs.mkdir()
    shutil.copy(ROOT / "scripts" / "setup_venv.sh", scripts)
    for name in ("pyproject.toml", "requirements.lock", "requirements-torch.lock"):
        shutil.copy(ROOT / name, folder)
    lines: dict[str, list[str]] = {"uname": [], "sw_vers": [], "sysctl": [], "getconf": []}
    for call, answer in answers.items():
        program, _, arguments = call.partition(" ")
        lines[program].append(f'[ "$*" = "{arguments}" ] && echo "{answer}" && exit 0')
    if python is not None:
        # It says what it is, and cannot make a virtual environment: nothing is installed by this test.
        lines["python3"] = [f'[ "$1" = -c ] && echo "{python}" && exit 0']
    for program, cases in lines.items():
        path = programs / program
        path.write_text("\n".join(["#!/bin/sh", *cases, "exit 1", ""]))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    for needed in ("sh", "dirname", "cat", "cksum", "grep"):
        found = shutil.which(needed)
        assert found is not None
        os.symlink(found, programs / needed)
    done = subprocess.run(
        [programs / "sh", scripts / "setup_venv.sh"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (folder / ".venv").exists()
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("answers", "python", "sentence"),
    [
        (INTEL, "3.11 x86_64", "this is an Intel Mac; mlx runs on Apple Silicon (M1 or newer) and on Linux"),
        ({**INTEL, "sysctl -n sysctl.proc_translated": "1"}, "3.11 x86_64", "runs under Rosetta"),
        (
            {**MAC, "sw_vers -productVersion": "13.7.1"},
            "3.11 arm64",
            "this is macOS 13.7.1; mlx needs macOS 14",
        ),
        (
            {**LINUX, "getconf GNU_LIBC_VERSION": "glibc 2.31"},
            "3.11 x86_64",
            "has glibc 2.31; mlx needs glibc 2.35",
        ),
        ({"uname -s": "Linux", "uname -m": "x86_64"}, "3.11 x86_64", "has no glibc; mlx needs glibc 2.35"),
        ({**LINUX, "uname -m": "riscv64"}, "3.11 riscv64", "this is Linux on riscv64"),
        (LINUX, "3.10 x86_64", "'python3' is Python 3.10, 3.11 to 3.14 is needed"),
        (LINUX, "3.15 x86_64", "'python3' is Python 3.15, 3.11 to 3.14 is needed"),
        (MAC, "3.12 x86_64", "'python3' was built for x86_64, this machine is arm64"),
        (LINUX, None, "no 'python3' on the PATH"),
    ],
)
def test_what_cannot_run_gets_one_sentence(
    tmp_path: Path, answers: dict[str, str], python: str | None, sentence: str
) -> None:
    status, errors = run(tmp_path, answers, python)
    assert status == 1
    assert sentence in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("machine", [MAC, {**MAC, "sw_vers -productVersion": "26.2"}], ids=["14", "26"])
@pytest.mark.parametrize("python", ["3.11 arm64", "3.14 arm64"])
def test_a_supported_mac_comes_as_far_as_the_environment(
    tmp_path: Path, machine: dict[str, str], python: str
) -> None:
    status, errors = run(tmp_path, machine, python)
    assert status == 1
    assert "'python3 -m venv .venv' failed" in errors


def test_a_supported_linux_comes_as_far_as_the_environment(tmp_path: Path) -> None:
    status, errors = run(tmp_path, {**LINUX, "getconf GNU_LIBC_VERSION": "glibc 2.36"}, "3.13 x86_64")
    assert status == 1
    assert "'python3 -m venv .venv' failed" in errors
