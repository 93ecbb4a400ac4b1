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
from vision_mem.visualization.point_viewer import VIEWER_STYLE

_STYLE = (
    """
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
.wide{overflow-x:auto}.cards{display:flex;flex-wrap:wrap;gap:12px}
.card{background:#fff;border:1px solid #ddd;padding:8px;width:220px}
.card img{display:block;width:100%;margin-bottom:6px}.card ul{margin:4px 0;padding-left:18px}
.tag{font-size:12px;border-radius:8px;padding:1px 8px;background:#e8e8e8}
.tag.sure{background:#d9f0dd;color:#14632a}
"""
    + VIEWER_STYLE
)


def table_html(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; names of its columns may be left out."""
    if not rows:
        return "<p>nothing</p>"
    head = "<tr>" + "".join(f"<th>{escape(n)}</th>" for n in names) + "</tr>" if names else ""
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(str(v))}</td>" for v in row) + "</tr>" for row in rows
    )
    return f"<div class=wide><table>{head}{body}</table></div>"


def pictures_html(files: Mapping[str, str], *, large: bool = False) -> str:
    """Pictures that lie beside the page, with words below each; side by side unless ``large``."""
    figures = "\n".join(
        f"<figure><a href='{escape(name)}'><img src='{escape(name)}' alt='{escape(words)}'></a>"
        f"<figcaption>{escape(words)}</figcaption></figure>"
        for name, words in files.items()
    )
    return figures if large else f"<div class=row>{figures}</div>"


def cards_html(cards: Sequence[tuple[str, str, str, Sequence[str]]]) -> str:
    """Things with a picture each: name, how sure it is, picture ("" for none), and lines."""
    if not cards:
        return "<p>nothing</p>"
    made = []
    for name, sure, picture, lines in cards:
        image = f"<img src='{escape(picture)}' alt='{escape(name)}'>" if picture else ""
        words = "".join(f"<li>{escape(line)}</li>" for line in lines)
        made.append(
            f"<div class=card>{image}<b>{escape(name)}</b> <span class='tag {escape(sure)}'>"
            f"{escape(sure)}</span><ul>{words}</ul></div>"
        )
    return "<div class=cards>" + "\n".join(made) + "</div>"


def write_report(
    path: str | Path, title: str, about: str, sections: Sequence[tuple[str, str]]
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: the ``.html``; pictures lie beside it.
        title: in large letters.
        about: a line below it.
        sections: headings ("" for none) and what stands below each, as HTML.

    Raises:
        SinkError: when it cannot be written.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(title)}</title><meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}</style><main><h1>{escape(title)}</h1><p>{escape(about)}</p>",
    ]
    for heading, body in sections:
        parts += [f"<h2>{escape(heading)}</h2>"] * bool(heading) + [body]
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
