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
        # --disable-pip: the file is whole, nothing has to be resolved or installed.
        said="$("$TOOLS/bin/pip-audit" --require-hashes --disable-pip -r requirements.lock \
            --format json --progress-spinner off 2>"$TOOLS/problem")" || true
        [ -n "$said" ] ||
            { echo "skipped: no database was reached ($(tail -n 1 "$TOOLS/problem"))"; exit 0; }
        # A package that the database does not know counts as not looked up, never as good.
        "$TOOLS/bin/python" -c '
import json, sys

found = json.loads(sys.argv[1])["dependencies"]
asked = [each for each in found if "skip_reason" not in each]
for each in asked:
    for known in each["vulns"]:
        fixed = ", ".join(known["fix_versions"]) or "nothing yet"
        name, version, weakness = each["name"], each["version"], known["id"]
        print(f"{name} {version}: {weakness}, mended in {fixed}")
left = [each["name"] for each in found if "skip_reason" in each]
if not asked:
    sys.exit(print(f"skipped: the database here knows none of the {len(left)} packages"))
print(f"{len(asked)} packages looked up" + (f", not: {chr(44).join(left)}" if left else ""))
sys.exit(any(each["vulns"] for each in asked))
' "$said"
        ;;
    *) echo "error: unknown argument '$1'; expected nothing or 'lock'" >&2; exit 2 ;;
esac
