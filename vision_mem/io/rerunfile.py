"""A recording for the viewer of rerun (https://rerun.io); needs the extra ``[viewer]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from vision_mem.errors import MissingExtra, SinkError
from vision_mem.io.lines import make_folder


def write_rerun(
    path: str | Path,
    points: ArrayLike,
    colours: ArrayLike,
    *,
    size: float,
    names: Sequence[str],
    things: ArrayLike,
    places: ArrayLike,
    lines: Sequence[ArrayLike] = (),
) -> None:
    """Write a map as an ``.rrd`` file.

    Args:
        path: the file.
        points: ``(n, 3)`` metres, middles of occupied cells.
        colours: ``(n, 3)`` uint8 RGB.
        size: edge of a cell, metres.
        names: of the things.
        things: ``(k, 3)`` metres.
        places: ``(p, 3)`` metres.
        lines: ``(m, 3)`` each: ways.

    Raises:
        MissingExtra: when rerun is not installed.
        SinkError: when the file cannot be written.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise MissingExtra(
            "rerun files need rerun: pip install 'vision-mem[viewer]', or export PLY or GeoJSON"
        ) from error
    make_folder(Path(path).parent)
    try:
        stream = rr.RecordingStream("vision-mem-map")
        stream.save(str(path))
        stream.log("map/space", rr.Points3D(points, colors=colours, radii=size / 2), static=True)
        stream.log("map/places", rr.Points3D(places, radii=size / 2), static=True)
        stream.log("map/ways", rr.LineStrips3D(list(lines)), static=True)
        stream.log("map/things", rr.Points3D(things, labels=list(names), radii=size), static=True)
        stream.flush()
        stream.disconnect()
    except (OSError, RuntimeError) as error:
        raise SinkError(f"{path} cannot be written: {' '.join(str(error).split())}") from error
