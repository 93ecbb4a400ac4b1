#!/usr/bin/env bash
# Tries the lowest versions that pyproject.toml admits: installs them in an environment of its own
# (about 6 GB with CUDA's parts; UV_TORCH_BACKEND=cpu makes it smaller where the index of torch can
# be reached) and runs the unit tests there, or those that are named.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV="${LOWEST_VENV:-build/lowest}"

# 3.11: the lowest versions have no wheels for later ones.
[ -x "$VENV/bin/uv" ] || { "${PYTHON:-python3.11}" -m venv "$VENV" && "$VENV/bin/pip" install -q uv; }
uv() { "$VENV/bin/uv" --quiet pip "$@" --python "$VENV/bin/python"; }
[ "$VENV/lowest.txt" -nt pyproject.toml ] ||
    uv compile pyproject.toml --extra dev --resolution lowest-direct --output-file "$VENV/lowest.txt"
# sam2 comes as source and is built against the torch that is there.
uv install -r <(grep -v '^sam2==' "$VENV/lowest.txt")
SAM2_BUILD_CUDA=0 uv install --no-build-isolation --no-deps "$(grep '^sam2==' "$VENV/lowest.txt")"
uv install --no-build-isolation --no-deps -e .

# Deprecations are news of newer versions; the old ones give their own, which nobody mends.
"$VENV/bin/pytest" -q -W default -p no:cacheprovider "${@:-tests/unit}"
