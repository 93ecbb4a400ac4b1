"""Keep a map of places and things, ask where they are and how to get there."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from vision_mem.errors import InputError, SourceError

from . import evaluate, following, mapanswers
from .mapanswers import MapOption, PictureOption, SetOption, draw_map, open_to_read, parse_numbers
from .options import DemoFolder, DepthScale, End, Intrinsics

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_QUIET = Annotated[bool, typer.Option("--quiet", help="No progress, no summary.")]


@app.callback()
def about() -> None:
    """Keep a spatial memory in one file, and ask it where things are and how to get there."""


@app.command()
def build(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with depth and poses (TUM, 7-Scenes, ScanNet, ...) or of results of "
            "reconstruct, JSON lines, - for JSON lines on standard input, or a street graph "
            "(nodes.txt, links.txt)."
        ),
    ],
    map_: MapOption,
    landmark: Annotated[
        list[str] | None,
        typer.Option(help="NAME=x,y,z in metres, or NAME=u,v@FRAME: a pixel of a frame."),
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="The same as JSON lines: name, position or pixel and frame.")
    ] = None,
    detect: Annotated[
        list[str] | None,
        typer.Option(help='As for mots: "red chair, lamp", dfine, maskrcnn, file:PATH[:FORMAT].'),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Detect on every so manieth frame.")] = 1,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out detections below it.")
    ] = 0.0,
    only: Annotated[str | None, typer.Option(help="Classes to remember: chair,lamp.")] = None,
    embed: Annotated[
        bool,
        typer.Option("--embed", help='Embed names, as ask does: "couch" finds a sofa; [offline].'),
    ] = False,
    device: Annotated[str, typer.Option(help="Of detectors: auto, cpu, cuda, mps.")] = "auto",
    preset: Annotated[
        str | None, typer.Option(help="Of a new map: indoor (default), street, paper, or a .yaml.")
    ] = None,
    set_: SetOption = None,
    ram: Annotated[
        float | None,
        typer.Option(
            min=0, help="Megabytes of space in memory at most, the rest in the file only."
        ),
    ] = None,
    up: Annotated[
        str,
        typer.Option(help="The map's axis that is up: +z, -y, ...; auto: found, and made exact."),
    ] = "auto",
    layout: Annotated[
        str | None, typer.Option(help="tum, 7scenes, scannet, folder; found out if unset.")
    ] = None,
    intrinsics: Intrinsics = None,
    depth_scale: DepthScale = None,
    poses: Annotated[
        Path | None, typer.Option(help="Poses (TUM, KITTI) in place of the recording's own.")
    ] = None,
    find_poses: Annotated[
        bool, typer.Option("--find-poses", help="Find missing poses, as reconstruct does.")
    ] = False,
    pixels: Annotated[
        int | None, typer.Option(min=1, help="Pixels from one point to the next [about 20,000].")
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="First frame, from 0.")] = 0,
    end: End = None,
    stride: Annotated[int, typer.Option(min=1, help="Every how many frames.")] = 1,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Frames at most.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at a frame that cannot be used.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget what the map holds, and begin anew.")
    ] = False,
    sights: Annotated[
        Path | None,
        typer.Option(help="Streets: what is seen where, JSON lines of words or features (.npz)."),
    ] = None,
    tour: Annotated[
        int | None,
        typer.Option(min=1, help="Streets: only what a walk of so many steps passes [all]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the walk.")] = 0,
    picture: PictureOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="A line of JSON for each frame, flushed.")
    ] = False,
    quiet: _QUIET = False,
) -> int:
    """Take a recording, or a live stream of observations, into a map.

    Each frame is in the file when the next one begins; the same command goes on where it was cut
    off, and another source is added to what is known.
    """
    from vision_mem.runs.signals import StopSignals
    from vision_mem.runs.tally import count

    from .feeding import Feed, of_reconstruction
    from .mapping import Build, open_for_writing
    from .navigating import parse_thing, read_things

    refused = {
        "--landmark": landmark, "--landmarks": landmarks, "--detect": detect, "--embed": embed,
        "--preset": preset, "--set": set_, "--ram": ram, "--poses": poses,
        "--find-poses": find_poses, "--intrinsics": intrinsics,
        "--depth-scale": depth_scale, "--layout": layout, "--end": end,
        "--max-frames": max_frames, "--start": start,
    }  # fmt: skip
    if following.is_street_graph(source):
        _refuse(refused, f"{source} is a street graph")
        walk = following.StreetBuild(source, map_, sights, tour, seed, overwrite)
        return following.build_streets(walk, map_, picture, as_json=as_json, quiet=quiet)
    _refuse({"--sights": sights, "--tour": tour}, f"{source} is no street graph")
    things = [parse_thing(word) for word in landmark or []]
    things += [] if landmarks is None else read_things(landmarks)
    if poses is None and not find_poses and (rebuilt := of_reconstruction(source)) is not None:
        source, poses = rebuilt[0], rebuilt[1]
    options = {
        "layout": layout, "intrinsics": parse_numbers(intrinsics, 4, "--intrinsics"),
        "depth_scale": depth_scale, "poses": poses, "strict": strict, "end": end, "stride": stride,
        "max_frames": max_frames,
    }  # fmt: skip
    with ExitStack() as stack:
        whole = Feed(source, start, **options)  # before the map is made: slips are told at once
        detector = None
        if detect:
            from vision_mem.models.detectors import make_detector

            chosen = [word.strip() for word in (only or "").split(",") if word.strip()]
            size = (whole.info.height, whole.info.width)
            detector = make_detector(
                detect, every=every, min_score=min_score, only=chosen, device=device,
                size=size if size > (1, 1) else None,
            )  # fmt: skip
            stack.callback(detector.close)
        looks = None
        if embed:
            from .looks import WordLooks

            looks = WordLooks()
        encoder = "" if looks is None else looks.encoder
        changes = [*(set_ or []), *([] if ram is None else [f"store.ram={ram}"])]
        session, turn = open_for_writing(map_, preset, changes, up, whole, overwrite, encoder)
        stack.callback(session.close)
        job = Build(
            session, whole, source, start, options, detector, things, pixels, find_poses, turn,
            strict, looks,
        )  # fmt: skip
        with StopSignals() as signals:
            say = (lambda line: print(line, flush=True)) if as_json else None
            done = job.run(lambda: signals.received is not None, say, show=not quiet)
        if not done and not job.before and job.left_out:
            raise SourceError(
                f"no frame of {source} could be used ({count(len(job.left_out), 'frame')}): "
                f"{job.left_out[0]}; --poses FILE or --find-poses where poses are missing"
            )
        if signals.received is None:
            job.put_rest()
        if picture is not None:
            draw_map(session, picture, title=str(map_))
        if not quiet and not as_json:
            for line in job.lines():
                print(line)
            went_on = f", after {count(job.before, 'frame')} before" if job.before else ""
            stopped = "stopped: " if signals.received is not None else ""
            print(f"{stopped}{count(done, 'frame')} taken in{went_on}; map: {map_}")
    return signals.exit_code


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise InputError(f"{why}: leave out {', '.join(given)}")


@app.command()
def demo(
    out: DemoFolder = Path("runs/navigate-demo"),
    frames: Annotated[int, typer.Option(min=8, help="Frames of the recording.")] = 72,
    streets: Annotated[
        bool, typer.Option("--streets", help="A generated city instead: walk, ask, follow.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    quiet: _QUIET = False,
) -> int:
    """Film a generated room, build its map, ask where things are, plan a route, draw it.

    No download, no training; the same steps as the commands by hand, which it prints.
    """
    if streets:
        return following.show_streets(out, seed, quiet)
    from .mapping import film_room

    room, detections = film_room(out, frames, seed)
    place, map_ = out / "room", out / "room.map"
    drawn = out / "room.png"
    steps: list[tuple[str, Any]] = [
        (f"build {place} --map {map_} --detect file:{detections} "
            "--set landmark.radius=1.2 --overwrite",
         lambda: build(str(place), map_, detect=[f"file:{detections}"],
                       set_=["landmark.radius=1.2"], overwrite=True, quiet=quiet)),
        (f'where --map {map_} "red sofa"', lambda: mapanswers.where(map_, "red sofa")),
        (f'route --map {map_} --from "red sofa" --to fridge --picture {drawn}',
         lambda: mapanswers.route(map_, "fridge", "red sofa", picture=drawn)),
    ]  # fmt: skip
    for words, step in steps:
        print(f"\n$ vision-mem navigate {words}", flush=True)
        if code := step():
            return int(code)
    with open_to_read(map_) as session:
        off = {}
        for thing in room.furniture:
            hits = session.where(thing.name, k=1)
            if hits and hits[0].label == thing.name:
                off[thing.name] = float(((hits[0].position - thing.middle) ** 2).sum() ** 0.5)
    said = ", ".join(f"{name} {metres:.2f} m" for name, metres in off.items())
    print(f"\nfound {len(off)} of {len(room.furniture)} things; to their middles (the camera sees "
          f"their surfaces): {said}")  # fmt: skip
    print(f"the map from above: {drawn}")
    return 0


for _name, _command in (
    ("where", mapanswers.where), ("route", mapanswers.route), ("recall", mapanswers.recall),
    ("forget", mapanswers.forget), ("show", mapanswers.show), ("export", mapanswers.export),
    ("follow", following.follow_instruction), ("eval", evaluate.evaluate_cities),
):  # fmt: skip
    app.command(_name)(_command)
