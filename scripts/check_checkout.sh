#!/bin/bash
# What action.yml runs: check, verify and doctor on a checkout. All three run whatever the first ones say; the exit
# status is 1 where one of them is not 0. The environment gives the inputs; see action.yml.
set -uo pipefail
kit=$(cd "$(dirname "$0")/.." && pwd)/patches
checkout=${CHECKOUT:-.}
python=${INTERPRETER:-}
status=0

if [ -z "$python" ]; then
    folder=$(mktemp -d)
    python3 -m venv "$folder" || exit 1
    python=$folder/bin/python
    index=()
    [ "$(uname -s)" = Linux ] && index=(--extra-index-url https://download.pytorch.org/whl/cpu)
    # pyproject.toml's extra `verify`; the kit itself is run from its folder.
    "$python" -m pip install --quiet ${index[@]+"${index[@]}"} "$(dirname "$kit")[verify]" || exit 1
fi

run() { # run NAME WANTED VERB ...
    local name=$1 wanted=$2
    shift 2
    case "$wanted" in
    true) ;;
    false) return ;;
    *) echo "check_checkout: the input '$name' is '$wanted', expected true or false" >&2; status=1; return ;;
    esac
    echo "::group::$name"
    "$python" "$kit" "$@" || { status=1; echo "::error::$name: exit status not 0, see the log"; }
    echo "::endgroup::"
}

run check "${CHECK:-true}" check "$checkout"
run verify "${VERIFY:-true}" verify "$checkout"
run doctor "${DOCTOR:-true}" doctor "$checkout" ${ALLOW:+--allow "$ALLOW"}
exit "$status"
