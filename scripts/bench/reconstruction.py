"""What geometric reconstruction costs and how well it does, in tables.

    python scripts/bench/reconstruction.py held-out            # 20 generated scenes
    python scripts/bench/reconstruction.py speed               # two sizes, time by stage
    python scripts/bench/reconstruction.py stream --frames 5000
    python scripts/bench/reconstruction.py recording FOLDER    # map and path against given poses
    python scripts/bench/reconstruction.py drift FOLDER        # the path, whole and in stretches
    python scripts/bench/reconstruction.py lost [FOLDER]       # does a lost camera come back?

Each part prints a table; ``--json FILE`` keeps the numbers with the machine they are from.
Times are given twice: by the clock on the wall, and of the processor alone, which other programs
on the same machine disturb less. The first frames, in which loops are compiled, are not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import psutil
import torch

from vision_mem.config import load_config
from vision_mem.geometry.poses import aligned, inverse, transform
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.sources.rgbd import open_rgbd
from vision_mem.synthetic.rgbd_bodies import SceneryConfig
from vision_mem.synthetic.rgbd_scene import SyntheticStream

GHOST_M = 0.1


def settings(preset="default", **changes):
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(ReconstructionConfig, preset, overrides, folder="reconstruction")


def percent(part, whole):
    return 100.0 * part / max(whole, 1)


def held_out(args):
    """Ghost points and moving masks of generated scenes, beside fusing everything."""
    rows, sums = [], defaultdict(int)
    print("| seed | ghosts % | (bodies at rest allowed) | fuse-everything % | precision | recall |")
    print("| --- | --- | --- | --- | --- | --- |")
    for seed in range(args.seed, args.seed + args.scenes):
        stream = SyntheticStream(seed, args.frames, 96, 72)
        ours = ReconstructionSession(settings())
        plain = ReconstructionSession(settings("fuse-everything"))
        hit = wrong = missed = 0
        for true in stream:
            found = ours.step(true.frame).dynamic
            plain.step(true.frame)
            hit += int((found & true.dynamic).sum())
            wrong += int((found & ~true.dynamic).sum())
            missed += int((~found & true.dynamic).sum())
        points = ours.static_map().points
        ghosts = {
            "ghosts": points_off(stream, points),
            "ghosts_rest": points_off(stream, points, resting_at=args.frames - 1),
            "plain": points_off(stream, plain.static_map(smooth=False).points),
        }
        for name, value in (("hit", hit), ("wrong", wrong), ("missed", missed)):
            sums[name] += value
        precision, recall = percent(hit, hit + wrong), percent(hit, hit + missed)
        rows.append({"seed": seed, **ghosts, "precision": precision, "recall": recall})
        print(
            f"| {seed} | {ghosts['ghosts']:.2f} | {ghosts['ghosts_rest']:.2f} | "
            f"{ghosts['plain']:.2f} | {precision / 100:.3f} | {recall / 100:.3f} |",
            flush=True,
        )
    mean = {k: float(np.mean([r[k] for r in rows])) for k in ("ghosts", "ghosts_rest", "plain")}
    mean["precision"] = sums["hit"] / (sums["hit"] + sums["wrong"])
    mean["recall"] = sums["hit"] / (sums["hit"] + sums["missed"])
    print(
        f"| all | {mean['ghosts']:.2f} | {mean['ghosts_rest']:.2f} | {mean['plain']:.2f} | "
        f"{mean['precision']:.3f} | {mean['recall']:.3f} |"
    )
    return {"scenes": rows, "all": mean}


def points_off(stream, points, **more):
    away = stream.scenery.distance(points, **more)
    return percent(int((away > GHOST_M).sum()), len(points))


def speed(args):
    """Frames a second at two sizes, and where the time goes."""
    found = []
    for width, height in ((160, 120), (320, 240)):
        frames = [true.frame for true in SyntheticStream(args.seed, args.frames, width, height)]
        for posed in (True, False):
            session = ReconstructionSession(settings())
            stages = defaultdict(list)
            wall, cpu = [], []
            for frame in frames:
                given = frame if posed or not frame.index else frame.without_pose()
                clock, own = time.perf_counter(), time.process_time()
                result = session.step(given)
                wall.append(time.perf_counter() - clock)
                cpu.append(time.process_time() - own)
                for name, value in result.stage_ms.items():
                    stages[name].append(value)
            row = {
                "size": f"{width}x{height}",
                "poses": "given" if posed else "found",
                "wall_fps": 1 / float(np.mean(wall[3:])),
                "cpu_fps": 1 / float(np.mean(cpu[3:])),
                "median_ms": {name: float(np.median(v[3:])) for name, v in stages.items()},
            }
            found.append(row)
    names = list(found[0]["median_ms"])
    print("| size | poses | frames/s (wall) | frames/s (processor) | ", " | ".join(names), " |")
    print("| --- " * (4 + len(names)) + "|")
    for row in found:
        parts = " | ".join(f"{row['median_ms'].get(name, 0):.1f}" for name in names)
        print(
            f"| {row['size']} | {row['poses']} | {row['wall_fps']:.0f} | {row['cpu_fps']:.0f} | "
            f"{parts} |"
        )
    return found


def stream(args):
    """A long generated stream in a small budget: bytes and milliseconds must stay flat."""
    session = ReconstructionSession(settings(budget_mb=args.budget))
    most, cpu, rows = 0, [], []
    print("| frame | bytes | of the budget | ms a frame (processor) | voxels |")
    print("| --- | --- | --- | --- | --- |")
    for true in SyntheticStream(args.seed, args.frames, 96, 72):
        own = time.process_time()
        session.step(true.frame)
        cpu.append(1e3 * (time.process_time() - own))
        usage = session.usage()
        most = max(most, usage.bytes)
        done = true.frame.index + 1
        if done % max(1, args.frames // 10) == 0:
            part = args.frames // 10
            row = (done, usage.bytes, float(np.median(cpu[-part:])), usage.entries)
            rows.append(row)
            share = usage.bytes / (args.budget * 2**20)
            print(f"| {done} | {row[1]:,} | {share:.1%} | {row[2]:.2f} | {row[3]:,} |", flush=True)
    print(f"most bytes held: {most:,} of {int(args.budget * 2**20):,}")
    return {"rows": rows, "most_bytes": most, "budget_bytes": int(args.budget * 2**20)}


def map_errors(found, frames, poses):
    """Metres between the nearest map point of each pixel block and the reading there."""
    errors = []
    for frame, pose in zip(frames, poses, strict=True):
        step = max(1, frame.camera.width // 160)
        camera = frame.camera.every(step)
        depth = frame.depth[step // 2 :: step, step // 2 :: step]
        pixels, z = camera.project(transform(inverse(pose), found.points))
        with np.errstate(invalid="ignore"):
            inside = (pixels >= 0).all(axis=1) & (pixels < (camera.width, camera.height)).all(
                axis=1
            )
        u, v = np.floor(pixels[inside]).astype(int).T
        nearest = np.full(depth.shape, np.inf)
        np.minimum.at(nearest, (v, u), z[inside])
        both = np.isfinite(nearest) & (depth > 0)
        errors.append(np.abs(nearest - depth)[both])
    return np.concatenate(errors)


def path_error(path, truth):
    _, motion = aligned(path[:, :3, 3], truth[:, :3, 3])
    away = transform(motion, path[:, :3, 3]) - truth[:, :3, 3]
    return float(np.sqrt((away**2).sum(axis=1).mean()))


def recording(args):
    """A recording with poses: the map against its depth, the path found against the given one."""
    frames = list(open_rgbd(args.folder, stride=args.stride, max_frames=args.frames))
    frames = [frame for frame in frames if frame.pose is not None]
    truth = np.stack([frame.pose for frame in frames])
    rows = []
    for name in ("given", "found"):
        session = ReconstructionSession(settings())
        clock, own = time.perf_counter(), time.process_time()
        results = [session.step(f if name == "given" else f.without_pose()) for f in frames]
        wall, cpu = time.perf_counter() - clock, time.process_time() - own
        poses = np.stack([r.pose for r in results])
        errors = map_errors(session.static_map(), frames, poses)
        rows.append(
            {
                "poses": name,
                "path_cm": 100 * path_error(poses, truth),
                "map_mm": 1e3 * float(np.median(errors)),
                "moving": float(np.mean([r.dynamic.mean() for r in results])),
                "lost": sum(r.lost for r in results),
                "points": len(session.static_map(smooth=False).points),
                "wall_fps": len(frames) / wall,
                "cpu_fps": len(frames) / cpu,
            }
        )
    print("| poses | path error cm | map error mm (median) | moving % | lost | points | frames/s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['poses']} | {row['path_cm']:.2f} | {row['map_mm']:.1f} | "
            f"{100 * row['moving']:.2f} | {row['lost']} of {len(frames)} | {row['points']:,} | "
            f"{row['wall_fps']:.1f} ({row['cpu_fps']:.1f} processor) |"
        )
    other = open3d_path(frames)
    if other is None:
        print("Open3D is not installed: its odometry is left out")
    else:
        row = {"poses": "Open3D RGB-D odometry", "path_cm": 100 * path_error(other, truth)}
        rows.append(row)
        print(
            f"Open3D's RGB-D odometry (hybrid, frame to frame): path error {row['path_cm']:.2f} cm"
        )
    return rows


def drift(args):
    """Our path of a recording with poses beside Open3D's odometry, whole and in stretches."""
    frames = list(open_rgbd(args.folder, stride=args.stride, max_frames=args.frames))
    frames = [frame for frame in frames if frame.pose is not None]
    truth = np.stack([frame.pose for frame in frames])
    session, clock = ReconstructionSession(settings()), time.process_time()
    results = [session.step(frame.without_pose()) for frame in frames]
    took = time.process_time() - clock
    held, resident = session.usage().bytes / 1e6, psutil.Process().memory_info().rss / 1e6
    paths = {"ours": (np.stack([r.pose for r in results]), np.array([r.lost for r in results]))}
    times = {"ours": took}
    clock = time.process_time()
    other = open3d_path(frames)
    if other is None:
        print("Open3D is not installed: its odometry is left out")
    else:
        paths["Open3D"] = other, np.zeros(len(frames), bool)
        times["Open3D"] = time.process_time() - clock
    cuts = range(0, max(len(frames) - args.stretch // 2, 1), args.stretch)
    stretches = [(0, len(frames))]
    if len(cuts) > 1:
        ends = [*list(cuts)[1:], len(frames)]
        stretches += zip(cuts, ends, strict=True)
    print("| frames | metres | path | ATE cm | farthest cm | drift, cm a metre | lost |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for first, stop in stretches:
        part = slice(first, stop)
        long = float(np.linalg.norm(np.diff(truth[part, :3, 3], axis=0), axis=1).sum())
        for name, (path, gone) in paths.items():
            row = {
                "frames": f"{frames[first].index}-{frames[stop - 1].index}",
                "metres": round(long, 2),
                "path": name,
                "ate_cm": round(100 * path_error(path[part], truth[part]), 2),
                "farthest_cm": round(100 * farthest(path[part], truth[part]), 1),
                "drift_cm_m": round(100 * drift_a_metre(path[part], truth[part]), 2),
                "lost": int(gone[part].sum()),
            }
            rows.append(row)
            print("|", " | ".join(map(str, row.values())), "|", flush=True)
    each = {name: 1e3 * value / len(frames) for name, value in times.items()}
    for name, value in each.items():
        print(f"{name}: {value:.0f} ms a frame (processor)")
    print(f"held {held:.1f} MB, resident {resident:.0f} MB")
    return {"rows": rows, "ms": each, "held_mb": held, "resident_mb": resident}


def farthest(path, truth):
    _, motion = aligned(path[:, :3, 3], truth[:, :3, 3])
    return float(np.linalg.norm(transform(motion, path[:, :3, 3]) - truth[:, :3, 3], axis=1).max())


def drift_a_metre(path, truth, metres=1.0):
    """How far off a motion is after ``metres`` of path (all of it where it is shorter)."""
    away = np.concatenate(
        [[0], np.cumsum(np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1))]
    )
    metres = min(metres, away[-1])
    off = []
    for i, start in enumerate(away):
        j = int(np.searchsorted(away, start + metres - 1e-9))
        if i < j < len(away):
            true, ours = (inverse(one[i]) @ one[j] for one in (truth, path))
            off.append(np.linalg.norm((inverse(true) @ ours)[:3, 3]) / (away[j] - start))
    return float(np.mean(off)) if off else 0.0


def lost(args):
    """Frames lost, without and with places, when the camera jumps back or sees nothing."""
    recordings = {}
    if args.folder:
        recordings["recording"] = list(open_rgbd(args.folder))
    scenery = SceneryConfig(camera="tour", time_step=0.1)
    for seed in range(args.seed, args.seed + args.scenes):
        stream = SyntheticStream(seed, args.frames, 160, 120, config=scenery)
        recordings[f"room {seed}"] = [true.frame for true in stream]
    print(
        "| recording | what happens | frames | lost without places | lost | ATE cm, of all frames "
        "| farthest believed, cm |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = []
    for name, frames in recordings.items():
        third = len(frames) // 3
        dark = dataclasses.replace(
            frames[0],
            image=np.zeros_like(frames[0].image),
            depth=np.zeros_like(frames[0].depth),
        )
        hidden = [
            dataclasses.replace(dark, pose=f.pose) if third <= i < third + third // 2 else f
            for i, f in enumerate(frames)
        ]
        cases = {
            "nothing": frames,
            "jump back to the beginning": frames + frames[:third],
            "lens covered": hidden,
            "half the middle third cut out": frames[:third] + frames[third + third // 2 :],
        }
        for case, course in cases.items():
            course = [dataclasses.replace(f, index=i, time_s=i / 10) for i, f in enumerate(course)]
            row = {"recording": name, "case": case, "frames": len(course)}
            row["lost_without_places"] = lost_frames(course, settings(odometry__places=0))["lost"]
            rows.append(row | lost_frames(course, settings()))
            print("|", " | ".join(map(str, rows[-1].values())), "|", flush=True)
    for case in cases:
        of = [row for row in rows if row["case"] == case and row["recording"] != "recording"]
        if of:
            sums = [
                sum(row[key] for row in of) for key in ("frames", "lost_without_places", "lost")
            ]
            error = np.mean([row["ate_cm"] for row in of])
            worst = max(row["farthest_cm"] for row in of)
            print("| all rooms |", case, "|", *(f"{n} |" for n in sums), f"{error:.1f} | {worst} |")
    return rows


def lost_frames(frames, config):
    """Frames lost with poses tracked, and how far from the truth."""
    session = ReconstructionSession(config)
    results = [session.step(frame.without_pose()) for frame in frames]
    start = inverse(frames[0].pose)
    off = [
        np.linalg.norm(r.pose[:3, 3] - (start @ f.pose)[:3, 3])
        for r, f in zip(results, frames, strict=True)
        if not r.lost
    ]
    path, truth = (np.stack([one.pose for one in many]) for many in (results, frames))
    return {
        "lost": sum(r.lost for r in results),
        "ate_cm": round(100 * path_error(path, truth), 1),
        "farthest_cm": round(100 * float(max(off)), 1),
    }


def open3d_path(frames):
    """Poses by Open3D's hybrid RGB-D odometry from frame to frame; None when it is missing."""
    try:
        import open3d as o3d
    except ImportError:
        return None

    def picture(frame):
        return o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(np.ascontiguousarray(frame.image)),
            o3d.geometry.Image(frame.depth),
            depth_scale=1.0,
            depth_trunc=4.0,
        )

    camera = frames[0].camera
    intrinsics = o3d.camera.PinholeCameraIntrinsic(
        camera.width, camera.height, camera.fx, camera.fy, camera.cx - 0.5, camera.cy - 0.5
    )
    poses, last = [np.eye(4)], picture(frames[0])
    method = o3d.pipelines.odometry.RGBDOdometryJacobianFromHybridTerm()
    for frame in frames[1:]:
        now = picture(frame)
        good, motion, _ = o3d.pipelines.odometry.compute_rgbd_odometry(
            now, last, intrinsics, np.eye(4), method
        )
        poses.append(poses[-1] @ (motion if good else np.eye(4)))
        last = now
    return np.stack(poses)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    for name, task, frames in (
        ("held-out", held_out, 40),
        ("speed", speed, 40),
        ("stream", stream, 5000),
        ("recording", recording, None),
        ("drift", drift, None),
        ("lost", lost, 60),
    ):
        own = parts.add_parser(name, help=task.__doc__)
        own.add_argument("--frames", type=int, default=frames)
        own.add_argument("--seed", type=int, default=2_000_000)
        own.add_argument("--json")
        own.set_defaults(task=task)
        if name in ("held-out", "lost"):
            own.add_argument("--scenes", type=int, default=20 if name == "held-out" else 5)
        if name == "lost":
            own.add_argument("folder", nargs="?")
        if name == "stream":
            own.add_argument("--budget", type=float, default=1.5, help="MiB")
        if name == "drift":
            own.add_argument("--stretch", type=int, default=40, help="frames")
        if name in ("recording", "drift"):
            own.add_argument("folder")
            own.add_argument("--stride", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    numbers = args.task(args)
    if args.json:
        machine = {"machine": platform.platform(), "cores": os.cpu_count()}
        made = {"part": args.part, "numbers": numbers, **machine}
        Path(args.json).write_text(json.dumps(made, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
