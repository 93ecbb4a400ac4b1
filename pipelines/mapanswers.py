"""What a map answers on the command line: where, route, recall; and forget, show, export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vision_mem.errors import InputError
from vision_mem.runs.tally import count

if TYPE_CHECKING:
    from vision_mem.navigation import Hit, NavigationSession

NOTHING_FOUND = 3
"""Exit code of a question that nothing remembered answers."""

MapOption = Annotated[Path, typer.Option("--map", help="The map file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The answer as JSON.")]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="Draw the map from above, with the answer: .png.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: change a setting, planning.radius=0.3")
]


def where(
    map_: MapOption,
    query: Annotated[
        str | None, typer.Argument(help='Words: "red sofa". Left out: what is near --from.')
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="x,y,z or a name: prefer what is near there.")
    ] = None,
    at: Annotated[float | None, typer.Option(help="Seconds: as it was known then.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Answers at most.")] = 5,
    picture: PictureOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say where something is, how sure that is, and when it was last seen.

    Exit code 3 when nothing remembered answers.
    """
    from vision_mem.navigation.export import direction_words, latest_pose

    with open_to_read(map_) as session:
        near = None if from_ is None else _spot(session, from_)
        hits = session.where(query, near=near, at=at, k=k) if query or near is not None else None
        if query and not hits and session.state.encoder.startswith("words#"):
            hits = _by_meaning(session, query, near, at, k)
        if hits is None:
            raise InputError('nothing asked: give words, as in where "red sofa", or --from x,y,z')
        close = [] if hits or not query else session.nearest_words(query)
        pose = None if near is not None else latest_pose(session)
        if picture is not None:
            seen_from = near if near is not None else None if pose is None else pose[:3, 3]
            draw_map(session, picture, hits=hits or None, start=seen_from, title=query or "")
        if as_json:
            rows = [_hit_record(session, hit) for hit in hits]
            value = {"query": query, "at_s": at, "hits": rows, "near_in_spelling": close}
            print(json.dumps(value, ensure_ascii=False))
            return 0 if hits else NOTHING_FOUND
        for number, hit in enumerate(hits, start=1):
            there = "" if pose is None else f"{direction_words(pose, hit.position)}; "
            if near is not None:
                there = f"{float(((hit.position - near) ** 2).sum() ** 0.5):.1f} m from there; "
            print(f"{number}. {hit.label or 'no name'} (landmark:{hit.node}): {there}"
                  f"at {_xyz(hit.position)} +-{hit.sigma:.2f} m")  # fmt: skip
            gone = ", believed gone" if hit.gone else ""
            print(f"   seen {count(hit.count, 'time')}, last {_ago(hit.age_s)}{gone}; best in "
                  f"{_source_of(session, hit) or 'no named frame'}")  # fmt: skip
        if not hits:
            known = count(len(session.state.landmarks), "remembered thing")
            hint = f"; near in spelling: {', '.join(close)}" if close else ""
            print(f"nothing found among {known}{hint}")
    return 0 if hits else NOTHING_FOUND


def route(
    map_: MapOption,
    to: Annotated[str, typer.Option("--to", help="x,y,z in metres, a name, or place:3.")],
    from_: Annotated[
        str | None, typer.Option("--from", help="Likewise [where the observer was last].")
    ] = None,
    places: Annotated[
        bool, typer.Option("--places", help="Along ways that were walked, not over the floor.")
    ] = False,
    optimistic: Annotated[
        bool, typer.Option("--optimistic", help="Also over floor that was never seen.")
    ] = False,
    set_: SetOption = None,
    picture: PictureOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say how to get somewhere: over the open floor, else along places that were walked."""
    changes = [*(set_ or []), *(["planning.optimistic=true"] if optimistic else [])]
    with open_to_read(map_, changes) as session:
        goal = _point(to) or to
        start = None if from_ is None else _point(from_) or from_
        way = session.plan(goal, start) if places else session.route(goal, start)
        if picture is not None:
            title = f"to {to}: {way.length:.1f} m"
            draw_map(
                session, picture, route=way, start=way.points[0], goal=way.points[-1], title=title
            )
        if as_json:
            print(json.dumps({
                "from": from_, "to": to, "on": way.on, "length_m": round(way.length, 4),
                "points": way.points.round(4).tolist(), "places": list(way.places),
                "directions": list(way.directions), "ends": list(way.ends),
            }))  # fmt: skip
            return 0
        print(f"{way.length:.1f} m over {'the floor' if way.on == 'floor' else 'known places'}")
        for said, end in zip(way.directions, way.ends, strict=True):
            print(f"  {said}, to {_xyz(way.points[end])}")
    return 0


def recall(
    map_: MapOption,
    key: Annotated[str, typer.Argument(help="landmark:12, place:3, leaf:CODE, or a name.")],
    at: Annotated[float | None, typer.Option(help="Seconds: leave out what came later.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the latest so many.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Say everything that was observed of a thing, a place or a spot, byte for byte as it came."""
    with open_to_read(map_) as session:
        found = session.recall(_key(session, key), at=at, limit=limit)
        for memory in found:
            if as_json:
                spot = None if memory.position is None else memory.position[:3].tolist()
                dtype = session.config.store.dtype
                vector = memory.vector(dtype)
                print(json.dumps({
                    "seq": memory.seq, "t": memory.time_s, "frame": memory.frame,
                    "place": memory.place, "landmark": memory.landmark, "label": memory.label,
                    "score": memory.score, "position_in_camera": spot,
                    "pose": memory.pose.tolist(), "source": memory.source, "track": memory.track,
                    "note": memory.note, "embedding": None if vector is None else vector.tolist(),
                }, ensure_ascii=False))  # fmt: skip
                continue
            what = memory.label or ("a look" if memory.landmark is None else "no name")
            print(f"{memory.seq}: at {memory.time_s:g} s from place:{memory.place}: {what} "
                  f"{memory.score:.2f} {memory.source}")  # fmt: skip
        if not found and not as_json:
            print(f"nothing is remembered of {key}")
    return 0 if found else NOTHING_FOUND


def forget(
    map_: MapOption,
    landmark: Annotated[str | None, typer.Option(help="Its number, or its exact name.")] = None,
    region: Annotated[
        str | None, typer.Option(help="x,y,z,x,y,z: two corners of a box, metres.")
    ] = None,
    before: Annotated[float | None, typer.Option(help="Seconds: all that is older.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Take something out of memory and file for good."""
    from vision_mem.navigation import NavigationSession

    if not map_.is_file():
        raise InputError(f"no map file {map_}; build one first")
    corners = parse_numbers(region, 6, "--region")
    with NavigationSession(map_) as session:
        number = None if landmark is None else _landmark(session, landmark)
        box = None if corners is None else (corners[:3], corners[3:])
        gone = session.forget(region=box, landmark=number, before=before)
    if as_json:
        print(json.dumps(gone))
    else:
        print("forgotten: " + ", ".join(f"{number} {what}" for what, number in gone.items()))
    return 0


def show(
    map_: MapOption,
    check: Annotated[
        bool, typer.Option("--check", help="Look through the file and every memory for damage.")
    ] = False,
    picture: PictureOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say what a map holds; draw it, or look through it for damage."""
    with open_to_read(map_) as session:
        usage, state = session.usage(), session.state
        value: dict[str, Any] = {
            "frames": state.frame, "places": len(state.topology.places),
            "landmarks": len(state.landmarks), "memories": usage.memories,
            "occupied_leaves": sum(int(each.occupied.sum()) for each in state.octree.leaves()),
            "file_bytes": usage.file_bytes, "memory_bytes": usage.bytes,
            "dropped": state.dropped + state.octree.stats.dropped, "now_s": state.now_s,
            "up": session.config.planning.up, "leaf_m": session.config.octree.leaf,
        }  # fmt: skip
        if check:
            value["checked"] = session.check()
        if picture is not None:
            draw_map(session, picture, title=str(map_))
        if as_json:
            print(json.dumps(value))
        else:
            for name, one in value.items():
                print(f"{name.replace('_', ' ')}: {one}")
    return 0


def export(
    map_: MapOption,
    ply: Annotated[Path | None, typer.Option(help="Occupied cells with colours.")] = None,
    geojson: Annotated[Path | None, typer.Option(help="Landmarks, places and ways.")] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="LAT,LON[,HEADING] of the map's 0,0,0, for GeoJSON in degrees."),
    ] = None,
    graphml: Annotated[Path | None, typer.Option(help="Places, landmarks, what sees what.")] = None,
    rerun: Annotated[Path | None, typer.Option(help=".rrd for rerun; extra [viewer].")] = None,
    picture: PictureOption = None,
) -> int:
    """Write a map for other programs."""
    from vision_mem.formats.graphs import Origin
    from vision_mem.navigation import export

    if not any((ply, geojson, graphml, rerun, picture)):
        raise InputError("nothing to write; give --ply, --geojson, --graphml, --rerun or --picture")
    earth = None
    if origin is not None:
        with_heading = origin if origin.count(",") == 2 else f"{origin},0"
        earth = Origin(*(parse_numbers(with_heading, 3, "--origin") or ()))
    with open_to_read(map_) as session:
        if ply is not None:
            points = export.write_points(session, ply)
            print(f"{ply}: {points} points" + ("" if points else "; this map holds no space"))
        if geojson is not None:
            print(f"{geojson}: {export.write_features(session, geojson, earth)} features")
        if graphml is not None:
            print(f"{graphml}: {export.write_graph(session, graphml)} nodes")
        if rerun is not None:
            print(f"{rerun}: {export.write_recording(session, rerun)} points")
        if picture is not None:
            draw_map(session, picture, title=str(map_))
            print(f"{picture}: seen from above")
    return 0


# -- what the commands share -----------------------------------------------------------------------


def open_to_read(path: Path, changes: Sequence[str] = ()) -> NavigationSession:
    """A map, with ``key=value`` changes of settings that last as long as it is open."""
    from vision_mem.navigation import NavigationSession

    session = NavigationSession(path, mode="r")
    if not changes:
        return session
    config = session.config
    session.close()
    from .mapping import changed

    return NavigationSession(path, changed(config, changes), mode="r")


def _by_meaning(
    session: NavigationSession, query: str, near: Any, at: float | None, k: int
) -> list[Hit]:
    """Words that no name holds are asked for by what they mean."""
    from .looks import WordLooks

    looks = WordLooks()
    vector = looks.of_text(query) if looks.encoder == session.state.encoder else None
    return [] if vector is None else session.where(vector, near=near, at=at, k=k)


def draw_map(session: NavigationSession, path: Path, **shown: Any) -> None:
    """Draw a map from above; ``shown`` as ``view_from_above``."""
    from vision_mem.navigation.export import view_from_above
    from vision_mem.visualization.bev import write_topdown

    write_topdown(path, view_from_above(session, **shown))


def parse_numbers(text: str | None, count: int, option: str) -> list[float] | None:
    """Numbers with commas between, so many; None for None."""
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(abs(value) < 1e12 for value in values):
        raise InputError(f"{option} {text!r}: expected {count} numbers with commas between")
    return values


def _point(text: str) -> list[float] | None:
    """``x,y,z``; None for words."""
    if text.count(",") != 2:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None


def _spot(session: NavigationSession, text: str) -> Any:
    """``(3,)`` of ``x,y,z`` or of the best hit for words."""
    import numpy as np

    point = _point(text)
    if point is not None:
        return np.array(point)
    hits = session.where(text, k=1)
    if not hits:
        raise InputError(f"--from {text!r} is not known here; give x,y,z, or another name")
    return hits[0].position


def _landmark(session: NavigationSession, text: str) -> int:
    """The number of a landmark; names must be exact, for what is forgotten is gone."""
    marks = session.state.landmarks.by_id
    number = text.removeprefix("landmark:")
    if number.isdigit():
        return int(number)
    found = [i for i, each in marks.items() if each.label == text]
    if len(found) == 1:
        return found[0]
    several = ", ".join(map(str, found[:8]))
    raise InputError(
        f"{len(found)} landmarks are called {text!r}: {several}; give the number of one"
        if found
        else f"no landmark is called {text!r} exactly; `navigate where` finds numbers"
    )


def _key(session: NavigationSession, text: str) -> Any:
    from vision_mem.navigation import Key

    if text.partition(":")[0] in ("leaf", "place", "landmark"):
        return Key.parse(text)
    hits = session.where(text, k=1)
    if not hits:
        raise InputError(f"{text!r} is not known here; give landmark:12, place:3 or another name")
    return Key("landmark", hits[0].node)


def _hit_record(session: NavigationSession, hit: Hit) -> dict[str, Any]:
    return {
        "key": f"landmark:{hit.node}", "label": hit.label,
        "position": hit.position.round(4).tolist(), "covariance": hit.covariance.tolist(),
        "sigma_m": round(hit.sigma, 4), "score": hit.score, "channels": dict(hit.channels),
        "age_s": hit.age_s, "seen": hit.count, "existence": hit.existence, "gone": hit.gone,
        "memories": list(hit.seqs), "best": hit.best_seq, "source": _source_of(session, hit),
    }  # fmt: skip


def _source_of(session: NavigationSession, hit: Hit) -> str:
    found = session.memories([hit.best_seq])
    return found[0].source if found else ""


def _xyz(position: Any) -> str:
    return ", ".join(f"{float(value):.2f}" for value in position)


def _ago(seconds: float) -> str:
    if seconds < 0.05:
        return "just now"
    if seconds < 120:
        return f"{seconds:.1f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.1f} h ago"
