#!/bin/sh
# Makes .venv and installs the locked versions into it, once: a stamp file remembers for which files. Called by every
# make target; does nothing the second time. requirements.lock is installed with its hashes; so is PyTorch, except its
# CPU build on Linux, which comes from PyTorch's own index and is pinned by version alone.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
venv=.venv
log=$venv/install.log
stamp=$venv/installed
cpu_index=https://download.pytorch.org/whl/cpu
want=$(cat pyproject.toml requirements.lock requirements-torch.lock "$0" | cksum)

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

fail() {
    echo "setup: $1" >&2
    exit 1
}

at_least() { # at_least FOUND WANTED: versions of two numbers
    [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "$(minor "$1")" -ge "$(minor "$2")" ]; }
}
minor() {
    rest=${1#*.}
    [ "$rest" = "$1" ] && echo 0 || echo "${rest%%.*}"
}

check_machine() {
    case "$(uname -s) $(uname -m)" in
    "Darwin arm64") ;;
    "Darwin x86_64")
        [ "$(sysctl -n sysctl.proc_translated 2>/dev/null)" = 1 ] &&
            fail "this shell runs under Rosetta; mlx needs a native one: in the Terminal's Get Info window, clear 'Open using Rosetta', or start with: arch -arm64 make ..."
        fail "this is an Intel Mac; mlx runs on Apple Silicon (M1 or newer) and on Linux" ;;
    "Linux x86_64" | "Linux aarch64") ;;
    *) fail "this is $(uname -s) on $(uname -m); macOS on Apple Silicon and Linux on x86-64 or aarch64 are supported" ;;
    esac
    if [ "$(uname -s)" = Darwin ]; then
        version=$(sw_vers -productVersion 2>/dev/null)
        at_least "${version:-0}" 14.0 || fail "this is macOS ${version:-of unknown version}; mlx needs macOS 14 or newer"
    else
        version=$(getconf GNU_LIBC_VERSION 2>/dev/null)
        at_least "$(echo "${version#glibc }" | grep -E '^[0-9]+\.[0-9]+' || echo 0)" 2.35 ||
            fail "this Linux has ${version:-no glibc}; mlx needs glibc 2.35 or newer (Ubuntu 22.04, Debian 12)"
    fi
}

check_python() {
    command -v "$python" >/dev/null 2>&1 ||
        fail "no '$python' on the PATH; install Python 3.11 to 3.14, or name one: make PYTHON=/path/to/python3 ..."
    found=$("$python" -c 'import platform, sys; print("%d.%d" % sys.version_info[:2], platform.machine())' 2>/dev/null) ||
        fail "'$python' does not run; name another: make PYTHON=/path/to/python3 ..."
    { at_least "${found% *}" 3.11 && ! at_least "${found% *}" 3.15; } ||
        fail "'$python' is Python ${found% *}, 3.11 to 3.14 is needed; name one: make PYTHON=/path/to/python3.13 ..."
    [ "${found#* }" = "$(uname -m)" ] ||
        fail "'$python' was built for ${found#* }, this machine is $(uname -m); name a native one: make PYTHON=/path/to/python3 ..."
}

cpu_index_answers() {
    "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)' "$cpu_index/torch/" 2>/dev/null
}

install() { # install ARGUMENTS of `pip install`
    if [ -n "$uv" ]; then
        "$uv" pip install --quiet --python "$venv/bin/python" "$@" >>"$log" 2>&1
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >>"$log" 2>&1
    fi || fail "the install failed: $(grep -iE '^ *(ERROR|error|cause)' "$log" | tail -n 1); the whole log is $log; then try again"
}

install_torch() {
    torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements-torch.lock)
    if [ "$(uname -s)" = Darwin ]; then
        echo "setup: installing into $venv with $by, once: 1.5 GB, a few minutes ..." >&2
        install --require-hashes --no-deps --only-binary :all: -r requirements-torch.lock
    elif [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null 2>&1; then
        echo "setup: installing into $venv with $by, once: 5.2 GB, since there is an NVIDIA driver: PyTorch with CUDA ..." >&2
        install --require-hashes --no-deps --only-binary :all: -r requirements-torch.lock
    elif cpu_index_answers; then
        echo "setup: installing into $venv with $by, once: 1.5 GB, PyTorch's CPU build, since there is no NVIDIA driver ..." >&2
        install --no-deps --only-binary :all: --index-url "$cpu_index" "$torch"
    else
        echo "setup: installing into $venv with $by, once. There is no NVIDIA driver, but $cpu_index does not answer: PyTorch comes from the index that is set up here; PyPI's is 5.2 GB with CUDA ..." >&2
        install --only-binary :all: "$torch"
    fi
}

check_machine
check_python
uv=$(command -v uv || :)
by=${uv:+uv}
by=${by:-pip}
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear "$venv" 2>/dev/null ||
        fail "'$python -m venv $venv' failed; on Debian and Ubuntu: apt-get install python3-venv, then try again"
fi
rm -f "$stamp"
: >"$log"
install_torch
install --require-hashes --no-deps --only-binary :all: -r requirements.lock
install --no-deps --no-build-isolation --editable .
echo "$want" >"$stamp"
