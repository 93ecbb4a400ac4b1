#!/usr/bin/env bash
# Makes the development environment. Called by make; safe to run twice, and after being cut off.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV="${VENV:-.venv}"

fail() { echo "error: $*" >&2; exit 1; }

# python3.11 is what the pinned versions were tested with; any other from 3.10 to 3.13 may serve.
usable() {
    "$1" -c 'import sys; raise SystemExit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
        >/dev/null 2>&1
}
choose_python() {
    local candidate broken=""
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.10}; do
        usable "$candidate" || continue
        if "$candidate" -c 'import venv, ensurepip' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
        broken="$candidate"
    done
    [ -z "$broken" ] || fail "$broken has no venv and pip; on Debian or Ubuntu: apt install python3-venv"
    fail "no Python from 3.10 to 3.13 was found${PYTHON:+ as '$PYTHON'}; install python3.11, or set PYTHON=/path/to/python"
}

# A mark says that an installation began. If it is still there, that one was cut off and may have
# left half a package behind, which pip cannot always repair: start from nothing.
if [ -e "$VENV/.installing" ] || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1 ||
    ! usable "$VENV/bin/python"; then
    python="$(choose_python)"
    echo "making $VENV with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" || fail "could not make $VENV with $python: see the lines above"
fi
rm -f "$VENV/.installed"
touch "$VENV/.installing"

install() {
    echo "installing ${*: -1}"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@" ||
        fail "pip could not install ${*: -1}: see the lines above, check the network, run make again"
}
# The order matters. torch first and alone, exactly: the CPU build is taken where the index has it.
# sam2 then builds against that torch; by itself it would fetch a second one and compile CUDA code.
install "$(grep '^torch==' constraints.txt)"
# Beside a torch without CUDA the plain torchvision does not load its operators; where the index
# has the one build of torch, it has the same of torchvision.
build="$("$VENV/bin/python" -c 'import torch; print(torch.__version__.partition("+")[2])')"
if [ "$build" = cpu ]; then
    (install "$(grep '^torchvision==' constraints.txt)+cpu") 2>/dev/null ||
        echo "note: there is no torchvision for this torch here: --detect maskrcnn will not work" \
            "(docs/install.md says how to get the pair); everything else does"
fi
install wheel setuptools
SAM2_BUILD_CUDA=0 install --no-build-isolation "$(grep '^sam2==' constraints.txt)"
install --no-build-isolation -e '.[dev,show]'

rm -f "$VENV/.installing"
touch "$VENV/.installed"
