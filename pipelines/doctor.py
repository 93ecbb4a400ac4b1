"""Say what works on this machine: versions, devices, codecs, what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from vision_mem.runs.doctor import Finding, check_all

from .options import AsJson


def main(
    as_json: AsJson = False,
    out: Annotated[Path, typer.Option(help="Folder where results will be written.")] = Path("runs"),
) -> int:
    """Try out what tracking needs: versions, devices, codecs, weights, disk.

    The exit code is 0 when tracking can work here, 1 when something it needs is missing.
    """
    findings = list(check_all(out))
    failed = [finding for finding in findings if finding.needed and not finding.ok]
    if as_json:
        print(json.dumps({"ok": not failed, "findings": [asdict(f) for f in findings]}, indent=2))
        return bool(failed)
    area = ""
    for finding in findings:
        title = finding.area if finding.area != area else ""
        print(f"{title:10}{finding.name:34}{_state(finding):8}{finding.detail}")
        area = finding.area
    if failed:
        print(f"\nmissing or broken, and needed: {', '.join(f.name for f in failed)}")
        return 1
    print("\neverything that tracking needs is here")
    return 0


def _state(finding: Finding) -> str:
    if finding.ok:
        return "ok"
    return "FAILS" if finding.needed else "absent"
