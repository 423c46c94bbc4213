#!/bin/sh
# Makes .venv and installs the project's tested versions into it, once: the stamp file remembers for
# which pyproject.toml and constraints.txt. Called by every make target; does nothing the second time.
set -u
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
venv=.venv
log=$venv/install.log
stamp=$venv/installed
want=$(cat pyproject.toml constraints.txt | cksum)

[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

fail() {
    echo "setup: $1" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    fail "no '$python' on the PATH; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "'$python' is $("$python" -V 2>&1), 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11 ..."
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    "$python" -m venv --clear "$venv" 2>/dev/null ||
        fail "'$python -m venv $venv' failed; on Debian and Ubuntu: apt-get install python3-venv, then try again"
fi
echo "setup: installing into $venv (once; several hundred MB, a few minutes) ..." >&2
# --no-build-isolation is not used: setuptools is fetched for the one editable install of patches/.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
    --editable '.[lego,reference,dev]' >"$log" 2>&1 ||
    fail "the install failed: $(grep -E '^ERROR' "$log" | tail -n 1); the whole log is $log; then try again"
echo "$want" >"$stamp"
