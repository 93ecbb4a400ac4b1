#!/usr/bin/env bash
# Looks up what is known against the versions of requirements.lock (pip-audit); no part of
# `make test`, because the answer changes without us. `audit.sh lock` writes that file anew.
set -euo pipefail
cd "$(dirname "$0")/.."
TOOLS="${AUDIT_VENV:-build/audit}"

fail() { echo "error: $*" >&2; exit 1; }
[ -x "$TOOLS/bin/uv" ] && [ -x "$TOOLS/bin/pip-audit" ] || {
    "${VENV:-.venv}/bin/python" -m venv "$TOOLS"
    "$TOOLS/bin/pip" install --quiet uv pip-audit || fail "uv and pip-audit cannot be installed"
}
case "${1:-audit}" in
    lock)
        "$TOOLS/bin/uv" pip compile pyproject.toml --quiet --extra dev --extra show \
            --constraints constraints.txt --generate-hashes --no-annotate --no-emit-index-url \
            --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
            --custom-compile-command "make lock" --output-file requirements.lock
        ;;
    audit)
        said="$(mktemp)"
        trap 'rm -f "$said"' EXIT
        # --disable-pip: the file is whole, nothing has to be resolved or installed.
        if "$TOOLS/bin/pip-audit" --require-hashes --disable-pip -r requirements.lock >"$said" 2>&1
        then
            cat "$said"
        elif grep -qiE 'connection|resolve|timed out|proxy|unreachable|forbidden|service' "$said"; then
            echo "skipped: the database of weaknesses cannot be reached from here"
        else
            cat "$said" >&2
            exit 1
        fi
        ;;
    *) echo "error: unknown argument '$1'; expected nothing or 'lock'" >&2; exit 2 ;;
esac
