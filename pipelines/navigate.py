"""Keep a map of places and things, ask where they are and how to get there."""

from __future__ import annotations

import contextlib
import functools
import io
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import near_file
from vision_mem.errors import InputError, NotFoundError, SourceError, VisionMemError
from vision_mem.formats.sqlite import check_database
from vision_mem.formats.touchdown import is_street_graph
from vision_mem.runs.folder import number_folder
from vision_mem.runs.tally import count
from vision_mem.text import short

from . import evaluate, navigate_streets
from .options import (
    ADVANCED,
    INPUT,
    MODEL,
    OUTPUT,
    AsJson,
    DepthScale,
    End,
    Follow,
    FollowFor,
    GroupedCommand,
    Intrinsics,
    MaxFrames,
    PoseOffset,
    PoseTolerance,
    Quiet,
    Start,
    Strict,
    Stride,
    Topics,
    followed,
    grouped,
    listed,
    parse_numbers,
    preset_option,
)

if TYPE_CHECKING:
    from vision_mem.models.detectors import Detector
    from vision_mem.models.vlm.word_search import WordEmbedder
    from vision_mem.navigation import Hit, NavigationSession
    from vision_mem.navigation.builder import MapBuild
    from vision_mem.types import SourceInfo
    from vision_mem.vln.exploration import StreetBuild

app = typer.Typer(add_completion=False, rich_markup_mode=None)

NOTHING_FOUND = NotFoundError.exit_code

MapOption = Annotated[Path, typer.Option("--map", help="The map file.")]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="Draw the map from above, with the answer: .png.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value: change a setting, planning.radius=0.3")
]
FloorOption = Annotated[
    float | None,
    typer.Option(help="Metres along up at which the floor lies, where it is not found [found]."),
]
OverwriteFiles = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]


@app.callback()
def about() -> None:
    """Keep a spatial memory in one file, and ask it where things are and how to get there."""


# -- build and demo --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RememberOptions:
    """Things with names."""

    heading: ClassVar[str] = "What to remember"
    landmark: Annotated[
        list[str] | None,
        typer.Option(help="NAME=x,y,z in metres, or NAME=u,v@FRAME: a pixel of a frame."),
    ] = None
    landmarks: Annotated[
        Path | None, typer.Option(help="The same as JSON lines: name, position or pixel and frame.")
    ] = None
    detect: Annotated[
        list[str] | None,
        typer.Option(help='As for mots: "red chair, lamp", dfine, maskrcnn, file:PATH[:FORMAT].'),
    ] = None
    every: Annotated[int, typer.Option(min=1, help="Detect on every N-th frame only.")] = 1
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out detections below it.")
    ] = 0.0
    only: Annotated[str | None, typer.Option(help="Classes to remember: chair,lamp.")] = None
    sights: Annotated[
        Path | None,
        typer.Option(help="Streets: what is seen where, JSON lines of words or features (.npz)."),
    ] = None
    tour: Annotated[
        int | None,
        typer.Option(min=1, help="Streets: only what a walk of so many steps passes [all]."),
    ] = None
    seed: Annotated[int, typer.Option(min=0, help="Of the walk.")] = 0


@dataclass(frozen=True)
class RecordingOptions:
    """How a recording is read."""

    heading: ClassVar[str] = INPUT
    layout: Annotated[
        str | None, typer.Option(help="tum, 7scenes, scannet, folder; found out if unset.")
    ] = None
    intrinsics: Intrinsics = None
    depth_scale: DepthScale = None
    poses: Annotated[
        Path | None, typer.Option(help="Poses (TUM, KITTI, EuRoC) in place of the recording's own.")
    ] = None
    pose_tolerance: PoseTolerance = None
    pose_offset: PoseOffset = None
    track_poses: Annotated[
        bool, typer.Option("--track-poses", help="Find missing poses, as reconstruct does.")
    ] = False
    pixels: Annotated[
        int | None, typer.Option(min=1, help="Pixels from one point to the next [about 20,000].")
    ] = None
    follow: Follow = None
    follow_for: FollowFor = None
    topic: Topics = None
    start: Start = 0
    end: End = None
    stride: Stride = 1
    max_frames: MaxFrames = None
    strict: Strict = False


@dataclass(frozen=True)
class MapOptions:
    """What becomes of the map, and what is said."""

    heading: ClassVar[str] = OUTPUT
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the map, as ever; refused when it is new.")
    ] = False
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget what the map holds, and begin anew.")
    ] = False
    picture: PictureOption = None
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each frame, flushed.")
    ] = False
    quiet: Quiet = False


@dataclass(frozen=True)
class MapModelOptions:
    """The networks."""

    heading: ClassVar[str] = MODEL
    embed: Annotated[
        bool,
        typer.Option("--embed", help='Embed names, as ask does: "couch" finds a sofa; [offline].'),
    ] = False
    device: Annotated[str, typer.Option(help="Of detectors: auto, cpu, cuda, mps.")] = "auto"


@dataclass(frozen=True)
class MapSettings:
    """Settings of the map."""

    heading: ClassVar[str] = ADVANCED
    preset: Annotated[str | None, preset_option("navigation", "indoor")] = None
    set_: SetOption = None
    ram: Annotated[
        float | None,
        typer.Option(
            min=0, help="Megabytes of space in memory at most, the rest in the file only."
        ),
    ] = None
    up: Annotated[
        str,
        typer.Option(help="The map's axis that is up: +z, -y, ...; auto: found, and made exact."),
    ] = "auto"
    floor_height: FloorOption = None

    @property
    def changes(self) -> list[str]:
        """All that is said of settings, as ``key=value``."""
        ram = [] if self.ram is None else [f"store.ram={self.ram}"]
        return [*(self.set_ or []), *ram, *_floor_change(self.floor_height)]


_OF_ROOMS = (
    "landmark", "landmarks", "detect", "embed", "preset", "set_", "ram", "floor_height", "poses",
    "track_poses",
    "pose_tolerance", "pose_offset", "follow", "follow_for", "topic",
    "intrinsics", "depth_scale", "layout", "end", "max_frames", "start",
)  # fmt: skip
_OF_STREETS = ("sights", "tour")
_BESIDE_M = 0.5  # from a thing to the floor before it; more is said


def build(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with depth and poses (TUM, 7-Scenes, ScanNet, ...) or of results of "
            "reconstruct; a robot's log (.bag, .mcap); JSON lines, in a file or - for standard "
            "input; module:function, a live camera; or a street graph (nodes.txt, links.txt)."
        ),
    ],
    map_: Annotated[Path, typer.Option("--map", help="The map file.", rich_help_panel=OUTPUT)],
    remember: RememberOptions,
    recording: RecordingOptions,
    output: MapOptions,
    model: MapModelOptions,
    settings: MapSettings,
) -> int:
    """Take a recording, or a live stream of observations, into a map.

    Each frame is in the file when the next one begins; the same command goes on where it was cut
    off, and another source is added to what is known.
    """
    if output.resume and output.overwrite:
        raise InputError("--overwrite and --resume exclude each other: give one of them")
    if output.resume and not (map_.is_file() and map_.stat().st_size):
        raise InputError(f"there is no map {map_} to go on with; leave out --resume")
    _check_map(map_)
    groups = (remember, recording, model, settings)
    if is_street_graph(source):
        _refuse(groups, _OF_ROOMS, f"{source} is a street graph")
        return _build_streets(source, map_, remember, output)
    _refuse(groups, _OF_STREETS, f"{source} is no street graph")
    return _build_room(source, map_, remember, recording, output, model, settings)


def _check_map(map_: Path) -> None:
    """Refuse a file that is no map before recordings and networks are opened for it."""
    if map_.exists() and (map_.is_dir() or map_.stat().st_size):
        from vision_mem.navigation.storage import MapFile

        check_database(map_, f"map {map_}")
        MapFile(map_, "r").close()


def _refuse(groups: Sequence[object], names: Sequence[str], why: str) -> None:
    given = [
        f"--{name.strip('_').replace('_', '-')}"
        for name in names for group in groups if getattr(group, name, None)
    ]  # fmt: skip
    if given:
        raise InputError(f"{why}: leave out {', '.join(given)}")


def _build_room(
    source: str,
    map_: Path,
    remember: RememberOptions,
    recording: RecordingOptions,
    output: MapOptions,
    model: MapModelOptions,
    settings: MapSettings,
) -> int:
    numbers = parse_numbers(recording.intrinsics, 4, "--intrinsics")
    # What typing alone shows is told before the recording and the networks are opened.
    _check_settings(settings)

    from vision_mem.navigation.builder import MapBuild, open_for_writing, recording_of
    from vision_mem.navigation.observer import parse_thing, read_things
    from vision_mem.navigation.storage import discard_map
    from vision_mem.sources.posed import PosedSource

    things = [parse_thing(word) for word in remember.landmark or []]
    things += [] if remember.landmarks is None else read_things(remember.landmarks)
    poses, start, strict = recording.poses, recording.start or 0, bool(recording.strict)
    if poses is None and not recording.track_poses and (made := recording_of(source)) is not None:
        source, poses = made
    options = {
        "layout": recording.layout, "intrinsics": numbers, "depth_scale": recording.depth_scale,
        "poses": poses, "strict": strict, "end": recording.end,
        "stride": recording.stride or 1, "max_frames": recording.max_frames,
        "follow_for": followed(recording.follow, recording.follow_for),
        "topics": recording.topic or (),
    }  # fmt: skip
    for name in ("pose_tolerance", "pose_offset"):
        if (value := getattr(recording, name)) is not None:
            options[name] = value
    with ExitStack() as stack:
        # Before the map is made: slips are told at once.
        whole = PosedSource(source, start, **options)
        detector = _open_detector(remember, whole.info, model.device)
        if detector is not None:
            stack.callback(detector.close)
        embedder = _open_embedder() if model.embed else None
        session, turn = open_for_writing(
            map_, settings.preset, settings.changes, settings.up, whole, output.overwrite,
            "" if embedder is None else embedder.encoder,
        )  # fmt: skip
        stack.callback(session.close)
        job = MapBuild(
            session, whole, source, start, options, detector, things, recording.pixels,
            recording.track_poses, turn, strict, embedder,
        )  # fmt: skip
        try:
            return _take_in(job, map_, output, "frame")
        except VisionMemError:
            if not session.state.frame and not len(session.state.landmarks):
                session.close()
                discard_map(map_)  # nothing is left of a run that took in nothing
            raise


def _build_streets(source: str, map_: Path, remember: RememberOptions, output: MapOptions) -> int:
    from vision_mem.vln.exploration import StreetBuild

    job = StreetBuild(source, map_, remember.sights, remember.tour, remember.seed, output.overwrite)
    with job.memory:
        return _take_in(job, map_, output, "panorama")


def _take_in(job: MapBuild | StreetBuild, map_: Path, output: MapOptions, what: str) -> int:
    """Run a build to its end or to a signal, with progress; then say what came of it."""
    from vision_mem.navigation.export import write_picture
    from vision_mem.runs.folder import tell_notes
    from vision_mem.runs.progress import MapProgress
    from vision_mem.runs.signals import StopSignals

    show = not output.quiet and not output.as_json
    tell_notes()
    bar = MapProgress(job.session, job.left, show=show, done=job.before)

    def tell(number: int, result: Any) -> None:
        bar.add(result)
        if output.as_json:
            print(json.dumps({"index": number, **asdict(result)}), flush=True)

    with StopSignals() as signals:
        with bar:
            done = job.run(signals.until, tell)
        if signals.received is None:
            if not done and not job.before:
                raise SourceError(f"no {what} came in; expected what docs/navigation.md describes")
            job.put_rest()
        if output.picture is not None:
            write_picture(job.session, output.picture, title=str(map_))
    if show:
        went_on = f", after {count(job.before, what)} before" if job.before else ""
        stopped = "stopped: " if signals.received is not None else ""
        print("\n".join(job.lines()))
        print(f"{stopped}{count(done, what)} taken in{went_on}; map: {map_}")
        _say_picture(output.picture)
    return signals.exit_code


def _check_settings(settings: MapSettings) -> None:
    changes = [
        *settings.changes,
        *([] if settings.up == "auto" else [f"planning.up={settings.up}"]),
    ]
    if settings.preset is not None or changes:
        from vision_mem.config import load_config
        from vision_mem.navigation.config import NavigationConfig

        load_config(NavigationConfig, settings.preset, changes, folder="navigation")


def _open_detector(remember: RememberOptions, info: SourceInfo, device: str) -> Detector | None:
    if not remember.detect:
        return None
    from vision_mem.models.detectors import make_detector

    size = (info.height, info.width)
    return make_detector(
        remember.detect, every=remember.every, min_score=remember.min_score,
        only=listed(remember.only),
        device=device, size=size if size > (1, 1) else None,
    )  # fmt: skip


def _open_embedder() -> WordEmbedder:
    from vision_mem.models.vlm.word_search import WordEmbedder

    return WordEmbedder()


def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything [runs/navigate/demo].")
    ] = None,
    max_frames: Annotated[int, typer.Option(min=8, help="Frames of the recording.")] = 72,
    streets: Annotated[
        bool, typer.Option("--streets", help="A generated city instead: walk, ask, follow.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    overwrite: OverwriteFiles = False,
    quiet: Quiet = False,
) -> int:
    """Film a generated room, build its map, ask where things are, plan a route, draw it.

    No download, no training; the same steps as the commands by hand, which it prints.
    """
    usual = Path("runs/navigate/demo")
    out = out or (usual if overwrite else number_folder(usual))
    place, map_ = (out / "city", out / "city.map") if streets else (out / "room", out / "room.map")
    _refuse_existing([map_], overwrite)
    if streets:
        return _demo_streets(place, map_, seed, quiet)
    from vision_mem.synthetic.furnished_room import film_room

    room, detections = film_room(out, max_frames, seed)
    drawn = out / "room.png"
    steps: list[tuple[str, Callable[[], int]]] = [
        (f"build {place} --map {map_} --detect file:{detections} "
            "--set landmark.radius=1.2 --overwrite",
         lambda: build(str(place), map_, RememberOptions(detect=[f"file:{detections}"]),
                       RecordingOptions(), MapOptions(overwrite=True, quiet=quiet),
                       MapModelOptions(), MapSettings(set_=["landmark.radius=1.2"]))),
        (f'where --map {map_} "red sofa"', lambda: where(map_, "red sofa")),
        (f'route --map {map_} --from "red sofa" --to fridge --picture {drawn}',
         lambda: route(map_, "fridge", "red sofa", picture=drawn)),
    ]  # fmt: skip
    for words, step in steps:
        print(f"\n$ vision-mem navigate {words}", flush=True)
        if code := step():
            return code
    with _open_to_read(map_) as session:
        off = {}
        for thing in room.furniture:
            hits = session.where(thing.name, k=1)
            if hits and hits[0].label == thing.name:
                off[thing.name] = float(((hits[0].position - thing.middle) ** 2).sum() ** 0.5)
    said = ", ".join(f"{name} {metres:.2f} m" for name, metres in off.items())
    print(f"\nfound {len(off)} of {len(room.furniture)} things; to their middles (the camera sees "
          f"their surfaces): {said}")  # fmt: skip
    return 0


def _demo_streets(folder: Path, map_: Path, seed: int, quiet: bool) -> int:
    """Generate a city, walk through it, ask, and follow an instruction blindly, by memory only."""
    from vision_mem.synthetic.city import make_city
    from vision_mem.synthetic.city_routes import make_routes, write_city

    city = make_city(seed)
    drawn = map_.with_suffix(".png")
    (task,) = make_routes(city, 1, seed)
    write_city(city, folder, {"dev": [task]})
    sights, steps, name = folder / "sights.jsonl", 1500, task.landmarks[-1]
    print(f"$ vision-mem navigate build {folder} --map {map_} --sights {sights} --tour {steps}")
    remember = RememberOptions(sights=sights, tour=steps, seed=seed)
    if code := _build_streets(str(folder), map_, remember, MapOptions(overwrite=True, quiet=quiet)):
        return code
    print(f'\n$ vision-mem navigate where "{name}" --map {map_} -k 2')
    where(map_, name, k=2)
    print(f'\n$ vision-mem navigate route --map {map_} --to "{name}" --picture {drawn}')
    route(map_, name, picture=drawn)
    print(f"\n{task.text}")
    print(f"$ vision-mem navigate follow --graph {folder} --map {map_}    # nothing is seen now")
    steps_told = io.StringIO()
    with contextlib.redirect_stdout(steps_told):
        navigate_streets.follow(folder, map_=map_)
    lines = steps_told.getvalue().splitlines()
    print("\n".join([*lines[:2], f"... {len(lines) - 4} more steps", *lines[-2:]]))
    return 0


# -- questions -------------------------------------------------------------------------------------


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
    as_json: AsJson = False,
) -> int:
    """Say where something is, how sure that is, and when it was last seen.

    Exit code 3 when nothing remembered answers.
    """
    from vision_mem.navigation.export import direction_words, latest_pose, write_picture

    with _open_to_read(map_) as session:
        near = None if from_ is None else session.resolve(from_, "--from").position
        hits = session.where(query, near=near, at=at, k=k) if query or near is not None else None
        if query and not hits and session.state.encoder.startswith("words#"):
            hits = _by_meaning(session, query, near, at, k)
        if hits is None:
            raise InputError('nothing asked: give words, as in where "red sofa", or --from x,y,z')
        close = [] if hits or not query else session.nearest_words(query)
        pose = None if near is not None else latest_pose(session)
        if picture is not None:
            seen_from = near if near is not None else None if pose is None else pose[:3, 3]
            write_picture(session, picture, hits=hits or None, start=seen_from, title=query or "")
        if as_json:
            rows = [_hit_record(session, hit) for hit in hits]
            value = {"query": query, "at_s": at, "hits": rows, "near_in_spelling": close}
            print(json.dumps(value, ensure_ascii=False))
            return 0 if hits else NOTHING_FOUND
        for number, hit in enumerate(hits, start=1):
            there = "" if pose is None else f"{direction_words(pose, hit.position)}; "
            if near is not None:
                there = f"{float(((hit.position - near) ** 2).sum() ** 0.5):.1f} m from there; "
            print(f"{number}. {short(hit.label) or 'no name'} (landmark:{hit.node}): {there}"
                  f"at {_xyz(hit.position)} +-{hit.sigma:.2f} m")  # fmt: skip
            gone = ", believed gone" if hit.gone else ""
            print(f"   seen {count(hit.count, 'time')}, last {_ago(hit.age_s)}{gone}; best in "
                  f"{short(_source_of(session, hit), 200) or 'no named frame'}")  # fmt: skip
        if not hits:
            known = count(len(session.state.landmarks), "remembered thing")
            hint = f"; near in spelling: {short(', '.join(close), 200)}" if close else ""
            print(f"nothing found among {known}{hint}")
        _say_picture(picture)
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
    floor_height: FloorOption = None,
    set_: SetOption = None,
    picture: PictureOption = None,
    as_json: AsJson = False,
) -> int:
    """Say how to get somewhere: over the open floor, else along places that were walked."""
    changes = [*(set_ or []), *(["planning.optimistic=true"] if optimistic else [])]
    changes += _floor_change(floor_height)
    with _open_to_read(map_, changes) as session:
        way = session.plan(to, from_) if places else session.route(to, from_)
        if picture is not None:
            from vision_mem.navigation.export import write_picture

            title = f"to {to}: {way.length:.1f} m"
            write_picture(
                session, picture, route=way, start=way.points[0], goal=way.points[-1], title=title
            )
        if as_json:
            print(json.dumps({
                "from": from_, "to": to, "on": way.on, "length_m": round(way.length, 4),
                "points": way.points.round(4).tolist(), "places": list(way.places),
                "directions": list(way.directions), "ends": list(way.ends),
                "beside_m": [round(metres, 4) for metres in way.beside],
            }))  # fmt: skip
            return 0
        print(f"{way.length:.1f} m over {'the floor' if way.on == 'floor' else 'known places'}")
        for said, end in zip(way.directions, way.ends, strict=True):
            print(f"  {said}, to {_xyz(way.points[end])}")
        for metres, what, name in zip(way.beside, ("begins", "ends"), (from_, to), strict=True):
            if metres > _BESIDE_M:
                print(f"  it {what} {metres:.1f} m from {name}: no open floor is nearer")
        _say_picture(picture)
    return 0


def recall(
    map_: MapOption,
    key: Annotated[str, typer.Argument(help="landmark:12, place:3, leaf:CODE, or a name.")],
    at: Annotated[float | None, typer.Option(help="Seconds: leave out what came later.")] = None,
    max_results: Annotated[int | None, typer.Option(min=1, help="Only the latest so many.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say everything that was observed of a thing, a place or a spot, byte for byte as it came."""
    with _open_to_read(map_) as session:
        found = session.recall(key, at=at, limit=max_results)
        for memory in found:
            if as_json:
                spot = None if memory.position is None else memory.position[:3].tolist()
                vector = memory.vector(session.config.store.dtype)
                print(json.dumps({
                    "seq": memory.seq, "t": memory.time_s, "frame": memory.frame,
                    "place": memory.place, "landmark": memory.landmark, "label": memory.label,
                    "score": memory.score, "position_in_camera": spot,
                    "pose": memory.pose.tolist(), "source": memory.source, "track": memory.track,
                    "note": memory.note, "embedding": None if vector is None else vector.tolist(),
                }, ensure_ascii=False))  # fmt: skip
                continue
            what = short(memory.label) or ("a look" if memory.landmark is None else "no name")
            print(f"{memory.seq}: at {memory.time_s:g} s from place:{memory.place}: {what} "
                  f"{memory.score:.2f} {short(memory.source, 200)}")  # fmt: skip
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
    as_json: AsJson = False,
) -> int:
    """Take something out of memory and file for good."""
    corners = parse_numbers(region, 6, "--region")
    box = None if corners is None else (corners[:3], corners[3:])
    _must_exist(map_)
    from vision_mem.navigation import NavigationSession

    with NavigationSession(map_) as session:
        gone = session.forget(region=box, landmark=landmark, before=before)
    if as_json:
        print(json.dumps(gone))
    else:
        print("forgotten: " + ", ".join(f"{number} {what}" for what, number in gone.items()))
    return 0 if any(gone.values()) else NOTHING_FOUND


def show(
    map_: MapOption,
    check: Annotated[
        bool, typer.Option("--check", help="Look through the file and every memory for damage.")
    ] = False,
    picture: PictureOption = None,
    as_json: AsJson = False,
) -> int:
    """Say what a map holds; draw it, or look through it for damage."""
    with _open_to_read(map_) as session:
        from vision_mem.navigation.export import levels_of

        usage, state = session.usage(), session.state
        levels = levels_of(session)
        value: dict[str, Any] = {
            "frames": state.frame, "places": len(state.topology.places),
            "landmarks": len(state.landmarks), "memories": usage.memories,
            "occupied_leaves": sum(int(each.occupied.sum()) for each in state.octree.leaves()),
            "file_bytes": usage.file_bytes, "memory_bytes": usage.bytes,
            "dropped": state.dropped + state.octree.stats.dropped, "now_s": state.now_s,
            "up": session.config.planning.up, "leaf_m": session.config.octree.leaf,
            "floors_m": [round(each.height, 3) for each in levels.floors],
        }  # fmt: skip
        if as_json:
            value["levels"] = [
                {k: None if v != v else v for k, v in asdict(each).items()}
                for each in levels.surfaces
            ]
        if check:
            value["checked"] = session.check()
        if picture is not None:
            from vision_mem.navigation.export import write_picture

            write_picture(session, picture, title=str(map_))
        if as_json:
            print(json.dumps(value))
        else:
            for name, one in value.items():
                print(f"{name.replace('_', ' ')}: {one}")
            print("\n".join(levels.words() if value["occupied_leaves"] else []))
            _say_picture(picture)
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
    overwrite: OverwriteFiles = False,
) -> int:
    """Write a map for other programs."""
    wanted = [each for each in (ply, geojson, graphml, rerun, picture) if each is not None]
    if not wanted:
        raise InputError("nothing to write; give --ply, --geojson, --graphml, --rerun or --picture")
    with_heading = f"{origin},0" if origin is not None and origin.count(",") != 2 else origin
    earth = parse_numbers(with_heading, 3, "--origin")
    _must_exist(map_)
    _refuse_existing(wanted, overwrite)
    from vision_mem.formats.graphs import Origin
    from vision_mem.navigation import export

    place = None if earth is None else Origin(*earth)
    with _open_to_read(map_) as session:
        writers: list[tuple[Path | None, Callable[[NavigationSession, Path], int], str]] = [
            (ply, export.write_points, "points"),
            (geojson, functools.partial(export.write_features, origin=place), "features"),
            (graphml, export.write_graph, "nodes"),
            (rerun, export.write_recording, "points"),
        ]
        for path, write, what in writers:
            if path is not None:
                number = write(session, path)
                empty = "; this map holds no space" if path is ply and not number else ""
                print(f"{path}: {number} {what}{empty}")
        if picture is not None:
            export.write_picture(session, picture, title=str(map_))
            _say_picture(picture)
    return 0


# -- what the commands share -----------------------------------------------------------------------


def _floor_change(height: float | None) -> list[str]:
    return [] if height is None else [f"planning.floor={height}"]


def _must_exist(map_: Path) -> None:
    """Told before anything is loaded."""
    if not map_.is_file():
        near = near_file(map_)
        meant = f"did you mean {near!r}?" if near else "build one first"
        raise InputError(f"no map file {map_}; {meant}")


def _refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise InputError(f"{', '.join(there)} is there already; give --overwrite to replace it")


def _say_picture(picture: Path | None) -> None:
    if picture is not None:
        print(f"{picture}: the map from above")


def _open_to_read(path: Path, changes: Sequence[str] = ()) -> NavigationSession:
    """A map, with ``key=value`` changes of settings that last as long as it is open."""
    _must_exist(path)
    from vision_mem.navigation import NavigationSession
    from vision_mem.navigation.config import changed

    session = NavigationSession(path, mode="r")
    if not changes:
        return session
    config = session.config
    session.close()
    return NavigationSession(path, changed(config, changes), mode="r")


def _by_meaning(
    session: NavigationSession, query: str, near: Any, at: float | None, k: int
) -> list[Hit]:
    """Words that no name holds are asked for by what they mean."""
    embedder = _open_embedder()
    vector = embedder.of_text(query) if embedder.encoder == session.state.encoder else None
    return [] if vector is None else session.where(vector, near=near, at=at, k=k)


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


for _name, _command in (
    ("build", build), ("demo", demo), ("where", where), ("route", route), ("recall", recall),
    ("forget", forget), ("show", show), ("export", export), ("follow", navigate_streets.follow),
    ("eval", evaluate.evaluate_cities),
):  # fmt: skip
    _line = (_command.__doc__ or "").partition("\n")[0]
    app.command(_name, cls=GroupedCommand, short_help=_line)(grouped(_command))
