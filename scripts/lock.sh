#!/bin/sh
# Writes requirements.lock and requirements-torch.lock: versions and hashes for Python 3.11 to 3.14 on macOS arm64 and
# Linux x86-64 and aarch64, wheels only. Versions stay where they are; `scripts/lock.sh --upgrade` takes the newest.
#
# PyTorch and the CUDA libraries that it brings on Linux have a file of their own: where there is no NVIDIA driver,
# setup_venv.sh installs PyTorch's CPU build in their place.
set -eu
cd "$(dirname "$0")/.."
all=$(mktemp)
trap 'rm -f "$all"' EXIT
cat requirements.lock requirements-torch.lock >"$all" 2>/dev/null || : # the versions to stay at
compile() {
    # macOS 14 is the oldest for which mlx has wheels.
    MACOSX_DEPLOYMENT_TARGET=14.0 uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: \
        --generate-hashes --fork-strategy fewest --no-annotate --no-header "$@"
}
compile pyproject.toml --extra lego --extra reference --extra dev --output-file "$all" "$@"
of_torch() {
    # An entry is a line that starts with a name, and the indented lines behind it.
    awk -v want="$1" '/^[a-z]/ { is = /^(torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z-]*)==/ } is == want' "$all"
}
for part in "0 requirements.lock" "1 requirements-torch.lock"; do
    set -- $part
    { echo "# Written by scripts/lock.sh."; of_torch "$1"; } >"$2"
done
