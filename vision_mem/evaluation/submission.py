"""Zip files for the servers that score sets whose truth is secret."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation.sot.records import Benchmark
from vision_mem.evaluation.sot.result_files import is_whole, layout_of, result_path
from vision_mem.formats.text import write_file

SERVERS = {
    "got10k-test": ("http://got-10k.aitestunion.com", 180),
    "trackingnet": ("the server named at https://tracking-net.org", 511),
}
"""Benchmark key to where results are sent in, and how many sequences the server expects."""

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same results give the same file


def write_submission(benchmark: Benchmark, results: Path, path: Path) -> list[str]:
    """Pack all results of a set as its server takes them.

    GOT-10k: ``<sequence>/<sequence>_001.txt`` and ``<sequence>/<sequence>_time.txt``;
    TrackingNet: ``<sequence>.txt``. Nothing else, and no folder above.

    Args:
        benchmark: the set; all its sequences must have whole results.
        results: the folder with the result files.
        path: of the zip file.

    Returns:
        What the user should know before sending it in, one line each.

    Raises:
        InputError: for a set that no server scores, or when results are missing.
        SinkError: when it cannot be written.
    """
    if benchmark.key not in SERVERS:
        raise InputError(
            f"no server scores {benchmark.key}; submissions are for {' and '.join(SERVERS)}"
        )
    missing = missing_results(benchmark, results)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(benchmark.sequences)} sequences have no results yet, the "
            f"first is {missing[0]}; the server wants all of them: run again without --limit, "
            "--sequences and --shard"
        )
    write_zip(path, results, _names(benchmark))
    server, expected = SERVERS[benchmark.key]
    notes = [f"send it in at {server}"]
    if len(benchmark.sequences) != expected:
        notes.append(
            f"this copy of the set has {len(benchmark.sequences)} sequences but the server "
            f"expects {expected}"
        )
    return notes


def write_zip(path: Path, results: Path, names: Iterable[str]) -> None:
    """Pack result files; the same files give the same archive.

    Args:
        path: of the zip file; it appears whole or not at all.
        results: the folder with the result files.
        names: of the files, below it and in the archive.

    Raises:
        SinkError: when it cannot be written.
    """
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(names):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (results / name).read_bytes())
    write_file(path, held.getvalue())


def missing_results(benchmark: Benchmark, results: Path) -> list[str]:
    """Names of sequences without whole results."""
    return [
        sequence.name
        for sequence in benchmark.sequences
        if not is_whole(results, sequence, layout_of(benchmark, sequence))
    ]


def _names(benchmark: Benchmark) -> list[str]:
    names = []
    for sequence in benchmark.sequences:
        path = result_path(sequence, layout_of(benchmark, sequence))
        names.append(path.as_posix())
        if layout_of(benchmark, sequence) == "got10k":
            names.append(path.with_name(f"{sequence.name}_time.txt").as_posix())
    return names
