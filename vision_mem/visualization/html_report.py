"""One page about a rebuilt scene: numbers, pictures, and what moved when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;background:#fafafa;margin:0}
main{max-width:1040px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}
table{border-collapse:collapse;background:#fff}
td,th{border:1px solid #ddd;padding:4px 10px;text-align:right;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}
img{max-width:100%;background:#fff;border:1px solid #ddd}
figure{margin:0 0 12px}figcaption{color:#666;font-size:13px}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:12px}
p{margin:4px 0;color:#555}
"""


def write_report(
    path: str | Path,
    title: str,
    about: str,
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[object]]]],
    pictures: Sequence[tuple[str, Mapping[str, str]]],
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the ``.html``; pictures lie beside it.
        title: in large letters.
        about: a line below it.
        tables: heading, names of columns (may be empty), and rows of each.
        pictures: headings, and below each file names with captions.

    Raises:
        SinkError: when it cannot be written.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(title)}</title><meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}</style><main><h1>{escape(title)}</h1><p>{escape(about)}</p>",
    ]
    for heading, names, rows in tables:
        parts.append(f"<h2>{escape(heading)}</h2>")
        if not rows:
            parts.append("<p>nothing</p>")
            continue
        parts.append("<table>")
        if names:
            parts.append("<tr>" + "".join(f"<th>{escape(n)}</th>" for n in names) + "</tr>")
        for row in rows:
            parts.append("<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>")
        parts.append("</table>")
    for heading, files in pictures:
        parts.append(f"<h2>{escape(heading)}</h2><div class=row>")
        for name, words in files.items():
            parts.append(
                f"<figure><a href='{escape(name)}'><img src='{escape(name)}' "
                f"alt='{escape(words)}'></a><figcaption>{escape(words)}</figcaption></figure>"
            )
        parts.append("</div>")
    parts.append("</main></html>\n")
    make_folder(Path(path).parent)
    write_file(Path(path), "\n".join(parts).encode())


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write ``(H, W, 3)`` uint8 RGB as a PNG, whole or not at all.

    Raises:
        SinkError: when it cannot be written.
    """
    good, packed = cv2.imencode(".png", picture[..., ::-1])
    if not good:  # cannot happen with a uint8 picture; said rather than written as nothing
        raise InputError(f"picture {path} cannot be encoded")
    make_folder(path.parent)
    write_file(path, packed.tobytes())
