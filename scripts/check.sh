#!/usr/bin/env bash
# The one gate: format, lint, types, spelling, tests. `check.sh` runs the quick tests,
# `check.sh all` all that need neither a GPU nor downloaded weights. CI runs `all`.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN="${VENV:-.venv}/bin"

step() { echo "== $*"; "$@"; }

step "$BIN/ruff" format --check .
step "$BIN/ruff" check .
step "$BIN/mypy"
step "$BIN/codespell"
case "${1:-quick}" in
    quick) step "$BIN/pytest" -q ;;
    # One process a core: the suite is many small runs of one thread each.
    all) step "$BIN/pytest" -q -n auto --durations=60 -m "not gpu and not weights" ;;
    *) echo "error: unknown argument '$1'; expected nothing or 'all'" >&2; exit 2 ;;
esac
