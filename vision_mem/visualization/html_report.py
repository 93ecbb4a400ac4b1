"""Pages about a run: of a rebuilt scene, and of the tracks of a video."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import make_folder, write_file
from vision_mem.text import one_line
from vision_mem.visualization.draw import clock_of, colour_of
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


@dataclass(frozen=True)
class TrackRow:
    """What a page says of a track.

    Attributes:
        object_id: its id.
        name, class_name: words for people.
        frames: on which it was to be seen.
        spans: begin and end of each time in sight, seconds.
        crops: when each was, and its JPEG; by time.
    """

    object_id: int
    name: str
    class_name: str
    frames: int
    spans: Sequence[tuple[float, float]]
    crops: Sequence[tuple[float, bytes]]


_TRACK_STYLE = """
main{max-width:1400px}table{width:100%;border:0}
th{position:sticky;top:0;vertical-align:top;background:#fafafa;cursor:pointer;z-index:1}
th{border-width:0 0 1px}th:nth-child(-n+4),th:last-child{text-align:left}
td{border-width:0 0 1px;padding:3px 8px}td:first-child{border-left:6px solid}
.p{white-space:nowrap;text-align:left}
.p img{height:64px;width:auto;max-width:120px;object-fit:cover;border:0;margin-right:3px}
.n{text-align:left;max-width:180px;overflow-wrap:anywhere}
.l{width:38%;text-align:left}.l div{position:relative;height:18px;background:#eee}
.l i{position:absolute;top:0;bottom:0;min-width:2px}
th small{display:flex;justify-content:space-between;font-weight:400;color:#666}
input{font:inherit;padding:3px 8px;margin:8px 0}
"""
_TRACK_SCRIPT = """
const body=document.querySelector('tbody'),rows=[...body.rows];let up=1,last=0;
document.querySelectorAll('th').forEach((head,n)=>head.onclick=()=>{
 up=last===n?-up:1;last=n;const of=row=>row.cells[n].dataset.v;
 rows.sort((a,b)=>up*(isNaN(of(a))||isNaN(of(b))?of(a).localeCompare(of(b)):of(a)-of(b)));
 body.append(...rows)});
document.querySelector('input').oninput=typed=>{const word=typed.target.value.toLowerCase();
 rows.forEach(row=>row.hidden=!row.dataset.w.includes(word))};
"""
_POLICY = "default-src 'none';img-src data:;style-src 'unsafe-inline';script-src 'unsafe-inline'"


def track_page(
    title: str, rows: Sequence[TrackRow], time_s: tuple[float, float], left_out: int = 0
) -> str:
    """A page with a row for each track: pictures, name, class, time in sight, and a time line.

    It needs no other file and loads nothing. A click on a head sorts, a word in the field chooses.

    Args:
        title: the name of the source.
        rows: the tracks.
        time_s: when the run began and ended; the ends of the time lines.
        left_out: tracks that are not on the page.
    """
    begin, length = time_s[0], max(time_s[1] - time_s[0], 1e-9)
    kinds = Counter(one_line(row.class_name) or "object" for row in rows)
    said = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(12))
    about = f"{len(rows)} tracks in {clock_of(time_s[1] - begin)}" + (f": {said}" if said else "")
    if left_out:
        about += f"; {left_out} more, seen least, are not shown"
    ends = f"<small><span>{clock_of(begin)}</span><span>{clock_of(time_s[1])}</span></small>"
    heads = ("id", "pictures", "name", "class", "first seen", "in sight", "frames", f"when{ends}")
    title = one_line(title)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title><meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}{_TRACK_STYLE}</style><main><h1>{escape(title)}</h1>",
        f"<p>{escape(about)}</p><input placeholder='name or class' aria-label='name or class'>",
        "<table><thead><tr>"
        + "".join(f"<th>{head}</th>" for head in heads)
        + "</tr></thead><tbody>",
    ]
    for row in rows:
        colour = "#{:02x}{:02x}{:02x}".format(*colour_of(row.object_id))
        name, kind = (escape(one_line(word)) for word in (row.name, row.class_name))
        seen = sum(b - a for a, b in row.spans)
        pictures = "".join(
            f"<img loading=lazy alt='{name} at {clock_of(at)}' title='{clock_of(at)}' "
            f"src='data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}'>"
            for at, jpeg in row.crops
        )
        line = "".join(
            f"<i style='left:{100 * (a - begin) / length:.2f}%;"
            f"width:{100 * (b - a) / length:.2f}%;background:{colour}' "
            f"title='{clock_of(a)} to {clock_of(b)}'></i>"
            for a, b in row.spans
        )
        first = row.spans[0][0]
        parts.append(
            f"<tr data-w='{f'{name} {kind}'.lower()}'>"
            f"<td data-v={row.object_id} style='border-left-color:{colour}'>{row.object_id}</td>"
            f"<td class=p data-v={len(row.crops)}>{pictures}</td>"
            f"<td class=n data-v='{name}'>{name}</td><td class=n data-v='{kind}'>{kind}</td>"
            f"<td data-v={first:.3f}>{clock_of(first)}</td><td data-v={seen:.3f}>{seen:.1f} s</td>"
            f"<td data-v={row.frames}>{row.frames}</td>"
            f"<td class=l data-v={first:.3f}><div>{line}</div></td></tr>"
        )
    parts.append(f"</tbody></table></main><script>{_TRACK_SCRIPT}</script></html>\n")
    return "\n".join(parts)
