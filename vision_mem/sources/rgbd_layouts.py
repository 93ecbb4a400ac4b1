"""Folders of depth cameras and data sets: which file belongs to which moment."""

from __future__ import annotations

import operator
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.config import near_file
from vision_mem.errors import InputError, MissingExtra, NotThere, NotUsable, SourceError
from vision_mem.formats.depth import DEPTH_SUFFIXES, read_depth
from vision_mem.formats.rgbd_folders import (
    StoredCamera,
    find_camera,
    listed_rows,
    read_matrix,
)
from vision_mem.formats.trajectory import Trajectory, read_numbers, read_trajectory
from vision_mem.geometry.camera import Pinhole
from vision_mem.geometry.poses import inverse, is_rigid, make_pose, rotation_from, rotation_of
from vision_mem.sources.images import IMAGE_SUFFIXES, read_image
from vision_mem.text import parse_json, read_json, read_text

LAYOUTS = (
    "tum", "7scenes", "scannet", "folder", "record3d", "polycam", "arkitscenes", "stray",
    "3dscanner", "transforms",
)  # fmt: skip
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})
MOST_APART_S = 0.02
"""Seconds by which colour, depth and pose of one moment may differ (TUM's own tool)."""

_VGA = (640, 480)
# Focal lengths and principal points of TUM's three cameras, as published with the data.
_TUM = {
    "1": (517.3, 516.5, 318.6, 255.3),
    "2": (520.9, 521.0, 325.1, 249.7),
    "3": (535.4, 539.2, 320.1, 247.6),
}


class StoredPicture(Protocol):
    """A picture inside of a larger file; its text says where."""

    def read(self) -> NDArray[np.generic]:
        """``(H, W, 3)`` uint8 RGB, or depth ``(H, W)`` as stored."""


class Registration(Protocol):
    """What brings colour to the pixels of depth."""

    def __call__(
        self, image: NDArray[np.uint8], depth: NDArray[np.float32], camera: Pinhole
    ) -> NDArray[np.uint8]:
        """See ``geometry.camera.colour_seen``."""


@dataclass(frozen=True)
class FrameFiles:
    """Files of one frame.

    Attributes:
        time_s: seconds.
        colour: image; None where colour comes from a video, in order.
        depth: depth map. Both are files, or stored in a log or an archive.
        pose: file with a 4x4 matrix, the matrix, or None.
    """

    time_s: float
    colour: Path | StoredPicture | None
    depth: Path | StoredPicture
    pose: Path | NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Layout:
    """A recording on disk.

    Attributes:
        name: of the layout.
        moments: in the order of their files; ``with_poses`` puts them in order of time.
        scale: metres of one unit of whole-numbered depth maps; floats are metres.
        camera: its intrinsics; None when nothing says them.
        video: where colour comes from, when it is a video.
        notes: what was odd, one line each.
        doubts: what may make results wrong, one line each.
        fit: brings colour to the depth's pixels, where another camera took it.
    """

    name: str
    moments: Sequence[FrameFiles]
    scale: float
    camera: StoredCamera | None
    video: Path | None = None
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    fit: Registration | None = None


LOG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})


def is_robot_log(path: Path) -> bool:
    """Whether a path is that of a robot's log, from its name and what lies in it."""
    if path.is_dir():
        about = path / "metadata.yaml"
        return about.is_file() and "rosbag2" in read_text(about, most=10_000_000)
    return path.suffix.lower() in LOG_SUFFIXES or path.name.endswith(".bag.active")


def matched(one: Sequence[float], other: Sequence[float], apart_s: float) -> list[tuple[int, int]]:
    """Which moments of two streams belong together: the nearest ones first, each once.

    Args:
        one: rising seconds.
        other: likewise.
        apart_s: seconds by which two may differ.

    Returns:
        Positions in both, rising in the first.
    """
    times, found = np.asarray(other, np.float64), []
    for k, stamp in enumerate(one):
        low = int(np.searchsorted(times, stamp - apart_s - 1e-9))
        high = int(np.searchsorted(times, stamp + apart_s + 1e-9))
        found += [(abs(times[j] - stamp), k, j) for j in range(low, high)]
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for _, k, j in sorted(found):
        if k not in taken[0] and j not in taken[1]:
            taken[0].add(k)
            taken[1].add(j)
            pairs.append((k, j))
    return sorted(pairs)


def check_layout(path: Path, name: str | None = None) -> None:
    """Refuse what cannot be, without looking into the folder; raises as ``find_layout``."""
    if name is not None and name not in LAYOUTS:
        raise InputError(f"layout is {name!r}; expected one of {', '.join(LAYOUTS)}")
    suffix = path.suffix.lower()
    if path.is_dir() or (path.exists() and (is_robot_log(path) or suffix == _R3D)):
        return
    if suffix == ".mkv" and path.is_file():
        raise NotUsable(
            f"{path} is a video, or what an Azure Kinect records: its depth is not read there; "
            "azure_kinect_mkv_reader of Open3D unpacks it into color/ and depth/. Pictures alone: "
            "reconstruct --model"
        )
    if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
        raise NotUsable(
            f"{path} is a video without depth; expected a folder with it beside depth/ (a map for "
            "each frame), or reconstruct --model, which makes depth of pictures alone"
        )
    if path.exists():
        raise NotUsable(f"{path} is no folder; expected one with colour and depth frames")
    near = near_file(path)
    meant = f"did you mean {near!r}?" if near else "expected one with colour and depth frames"
    raise NotThere(f"{path} is no folder; {meant}")


def has_depth(path: Path) -> bool:
    """Whether a path is a folder that looks like a recording with depth, by its names alone."""
    return path.is_dir() and _guess(path, _names(path)) is not None


def find_layout(path: Path, name: str | None = None, *, growing: bool = False) -> Layout:
    """Look at a folder and list its frames.

    Args:
        path: the folder.
        name: one of ``LAYOUTS``; None to find out.
        growing: whether frames still come in: what has no partner yet is not spoken of.

    Raises:
        SourceError: one line for a folder that is missing, empty, or of no known layout.
        InputError: for an unknown name.
    """
    check_layout(path, name)
    if path.suffix.lower() == _R3D and not path.is_dir():
        return _record3d(path)
    entries = sorted(e.name for e in path.iterdir() if not e.name.startswith("."))
    if not entries:
        raise SourceError(f"{path} is empty; expected colour and depth frames")
    kind = name or _guess(path, entries)
    if kind is None:
        inner = [e for e in entries if (path / e).is_dir() and _guess(path / e, _names(path / e))]
        hint = f"; open one of its folders: {', '.join(inner[:4])}" if inner else ""
        if not inner and any(Path(e).suffix.lower() in IMAGE_SUFFIXES for e in entries):
            hint = "; reconstruct --model makes depth of pictures alone"
        raise SourceError(
            f"{path} has no known layout; expected rgb.txt and depth.txt (TUM), "
            "frame-000000.depth.png (7-Scenes), color/ depth/ pose/ (ScanNet), a video or color/ "
            f"beside depth/, or what a phone's app or a robot writes{hint}"
        )
    readers = {
        "tum": _tum, "7scenes": _seven, "scannet": _scannet, "folder": _folder,
        "record3d": _record3d, "polycam": _polycam, "arkitscenes": _arkitscenes, "stray": _stray,
        "3dscanner": _scanner, "transforms": _transforms,
    }  # fmt: skip
    found = _folder(path, growing) if kind == "folder" else readers[kind](path)
    if not found.moments:
        raise SourceError(f"{path} ({kind}) has no moment with both colour and depth")
    return found


def _names(path: Path) -> list[str]:
    return sorted(e.name for e in path.iterdir() if not e.name.startswith("."))


def _guess(path: Path, entries: Sequence[str]) -> str | None:
    there = set(entries)
    if {"metadata", "rgbd"} <= there:
        return "record3d"
    if "keyframes" in there or {"cameras", "depth", "images"} <= there:
        return "polycam"
    if {"lowres_wide", "lowres_depth"} <= there:
        return "arkitscenes"
    if {"odometry.csv", "depth"} <= there and _video(path) is not None:
        return "stray"
    if any(re.fullmatch(r"depth_\d+\.png", e) for e in entries) and any(
        re.fullmatch(r"frame_\d+\.json", e) for e in entries
    ):
        return "3dscanner"
    if "transforms.json" in there and "depth_file_path" in read_text(path / "transforms.json"):
        return "transforms"
    if "rgb.txt" in entries and "depth.txt" in entries:
        return "tum"
    if any(re.fullmatch(r"frame-\d+\.depth(\.proj)?\.png", e) for e in entries):
        return "7scenes"
    if {"depth", "pose"} <= set(entries) and _subfolder(path, _COLOUR):
        return "scannet"
    if _subfolder(path, _DEPTH) and (_subfolder(path, _COLOUR) or _video(path)):
        return "folder"
    return None


_COLOUR = ("color", "colour", "rgb", "image", "images")
_DEPTH = ("depth", "depths", "aligned_depth")


def _subfolder(path: Path, names: Sequence[str]) -> Path | None:
    return next((path / n for n in names if (path / n).is_dir()), None)


def _video(path: Path) -> Path | None:
    found = [e for e in sorted(path.iterdir()) if e.suffix.lower() in VIDEO_SUFFIXES]
    preferred = [e for e in found if "depth" not in e.stem.lower()]
    return preferred[0] if preferred else None


def _files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    from natsort import natsorted

    names = [e.name for e in folder.iterdir() if e.suffix.lower() in suffixes]
    return [folder / n for n in natsorted(n for n in names if not n.startswith("."))]


def _number(path: Path) -> int | None:
    digits = re.findall(r"\d+", path.name)
    return int(digits[0]) if digits else None


# -- TUM RGB-D ---------------------------------------------------------------------------------


def _tum(path: Path) -> Layout:
    notes: list[str] = []
    colour, depth = _listed(path / "rgb.txt", notes), _listed(path / "depth.txt", notes)
    times = [t for t, _ in colour], [t for t, _ in depth]
    moments = [
        FrameFiles(colour[k][0], colour[k][1], depth[j][1])
        for k, j in matched(*times, MOST_APART_S)
    ]
    apart = len(colour) - len(moments)
    if apart:
        notes.append(
            f"{path}: {apart} of {len(colour)} colour frames have no depth within "
            f"{MOST_APART_S} s ({len(depth)} depth frames); they are left out"
        )
    known = re.search(r"freiburg([123])", str(path.resolve()))
    numbers = _TUM[known.group(1)] if known else (525.0, 525.0, 319.5, 239.5)
    whose = f"TUM's of freiburg{known.group(1)}" if known else "TUM's usual ones"
    camera = find_camera(path) or StoredCamera(numbers, whose, _VGA, built_in=True)
    return Layout("tum", moments, 1 / 5000, camera, notes=tuple(notes))


def _listed(path: Path, notes: list[str]) -> list[tuple[float, Path]]:
    """Rows ``time file`` of a list, by time, each time once."""
    rows = listed_rows(path)
    ordered = sorted(rows, key=lambda row: row[0])
    if ordered != rows:
        notes.append(f"{path}: time stamps are out of order; sorted")
    kept = [row for k, row in enumerate(ordered) if k == 0 or row[0] > ordered[k - 1][0]]
    if len(kept) < len(ordered):
        notes.append(f"{path}: {len(ordered) - len(kept)} time stamps come twice; first ones kept")
    return kept


# -- 7-Scenes ----------------------------------------------------------------------------------


def _seven(path: Path) -> Layout:
    names = set(_names(path))
    registered = any(n.endswith(".depth.proj.png") for n in names)
    ending = ".depth.proj.png" if registered else ".depth.png"
    moments, alone = [], 0
    for name in sorted(n for n in names if n.endswith(ending)):
        stem = name.removesuffix(ending)
        colour = next((s for s in (".png", ".jpg", ".jpeg") if f"{stem}.color{s}" in names), None)
        number = _number(Path(stem))
        if colour is None or number is None:
            alone += 1
            continue
        pose = path / f"{stem}.pose.txt"
        moments.append(
            FrameFiles(
                number / 30.0,
                path / f"{stem}.color{colour}",
                path / name,
                pose if pose.name in names else None,
            )
        )
    colours = sum(bool(re.fullmatch(r"frame-\d+\.color\.\w+", n)) for n in names)
    notes = _unpaired(path, colours, len(moments) + alone, len(moments))
    focal = 525.0 if registered else 585.0
    usual = StoredCamera((focal, focal, 320.0, 240.0), "7-Scenes'", _VGA, built_in=True)
    return Layout("7scenes", moments, 0.001, find_camera(path) or usual, notes=notes)


def _unpaired(path: Path, colours: int, depths: int, both: int) -> tuple[str, ...]:
    if colours == depths == both:
        return ()
    return (
        f"{path}: {colours} colour and {depths} depth frames, {both} moments with both; the "
        "others are left out",
    )


# -- ScanNet and the like ----------------------------------------------------------------------


def _scannet(path: Path) -> Layout:
    colour_folder, depth_folder = _subfolder(path, _COLOUR), path / "depth"
    if colour_folder is None or not depth_folder.is_dir():
        raise SourceError(f"{path} lacks color/ or depth/; expected ScanNet's folders")
    colours = {_number(p): p for p in _files(colour_folder, IMAGE_SUFFIXES)}
    depths = {_number(p): p for p in _files(depth_folder, DEPTH_SUFFIXES)}
    poses = (
        {_number(p): p for p in (path / "pose").glob("*.txt")} if (path / "pose").is_dir() else {}
    )
    both = sorted(n for n in colours if n in depths and n is not None)
    moments = [FrameFiles(n / 30.0, colours[n], depths[n], poses.get(n)) for n in both]
    notes = _unpaired(path, len(colours), len(depths), len(both))
    return Layout("scannet", moments, 0.001, find_camera(path), notes=notes)


# -- a video or images beside depth maps -------------------------------------------------------


def _folder(path: Path, growing: bool = False) -> Layout:
    depth_folder = _subfolder(path, _DEPTH)
    if depth_folder is None:
        raise SourceError(f"{path} has no folder depth/; expected depth maps there")
    depths = _files(depth_folder, DEPTH_SUFFIXES)
    if not depths:
        raise SourceError(f"{depth_folder} is empty; expected depth maps (.png or .npz)")
    images_folder, video = _subfolder(path, _COLOUR), _video(path)
    images = _files(images_folder, IMAGE_SUFFIXES) if images_folder else []
    stamped = () if (path / "timestamps.txt").is_file() else _by_names(path, images, depths)
    if stamped:
        return stamped[0]
    if growing:
        if not images:
            raise SourceError(
                f"{path} has no images yet; expected color/ beside depth/ (a video cannot be "
                "followed while it is written)"
            )
        images, depths = _with_partner(images, depths)
    if images and len(images) != len(depths):
        raise SourceError(
            f"{path}: {len(images)} colour and {len(depths)} depth frames; expected one depth map "
            "for each image, in the same order: remove what has no partner"
        )
    if not images and video is None:
        raise SourceError(f"{path} has no colour; expected a video or a folder color/")
    times = _times(path, len(depths), growing)
    images, depths = images[: len(times)], depths[: len(times)]
    moments = [
        FrameFiles(times[k], images[k] if images else None, depth) for k, depth in enumerate(depths)
    ]
    notes = []
    if (np.diff(times) <= 0).any():
        if not images:
            raise SourceError(
                f"{path}/timestamps.txt is out of order; expected rising seconds, one a frame"
            )
        notes.append(f"{path}: time stamps are out of order; sorted")
    return Layout(
        "folder", moments, 0.001, find_camera(path), None if images else video, tuple(notes)
    )


def _by_names(path: Path, images: list[Path], depths: list[Path]) -> tuple[Layout, ...]:
    """Frames matched by the times in their names; nothing where names hold none."""
    times = [_stamps(files) for files in (images, depths)]
    if not images or not depths or not all(times):
        return ()
    apart = max(MOST_APART_S, min(float(np.median(np.diff(times[0] or (0.0, 0.1)))) / 2, 0.05))
    pairs = matched(times[1], times[0], apart)
    fewer = min(len(images), len(depths))
    if len(pairs) < (fewer if len(images) == len(depths) else fewer / 2):
        return ()
    off = np.array([abs(times[1][k] - times[0][j]) for k, j in pairs])
    notes = []
    if len(images) != len(depths) or off.max() > 1e-3:
        notes.append(
            f"{path}: {len(images)} colour and {len(depths)} depth frames are matched by the times "
            f"in their names: {len(pairs)} pairs, {np.median(off) * 1000:.0f} ms apart, "
            f"{off.max() * 1000:.0f} at most"
        )
    moments = [FrameFiles(times[1][k], images[j], depths[k]) for k, j in pairs]
    return (Layout("folder", moments, 0.001, find_camera(path), notes=tuple(notes)),)


def _stamps(files: Sequence[Path]) -> list[float]:
    """Rising seconds in names of files; nothing where they hold none."""
    found = []
    for file in files:
        named = re.fullmatch(r"\d+-(\d{12})", file.stem)  # SUN3D and Redwood: microseconds
        words = re.findall(r"\d{9,}(?:\.\d+)?|\d+\.\d+", file.stem)
        if named is None and not words:
            return []
        value = float(named[1]) * 1e-6 if named else float(words[-1])
        for least, unit in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3)):
            if named is None and value >= least:
                value *= unit
                break
        found.append(value)
    return found if all(b > a for a, b in pairwise(found)) else []


def _with_partner(images: list[Path], depths: list[Path]) -> tuple[list[Path], list[Path]]:
    """Images and depth maps of one name or number; by order where they have none in common."""
    keys: list[dict[Any, Path]] = []
    for files in (images, depths):
        numbers = [_number(each) for each in files]
        keys.append(
            {n if n is not None else p.stem: p for n, p in zip(numbers, files, strict=True)}
        )
    both = [key for key in keys[0] if key in keys[1]]
    if both and len(keys[0]) == len(images) and len(keys[1]) == len(depths):
        return [keys[0][key] for key in both], [keys[1][key] for key in both]
    count = min(len(images), len(depths))
    return images[:count], depths[:count]


def _times(path: Path, count: int, growing: bool = False) -> list[float]:
    listed = path / "timestamps.txt"
    if not listed.is_file():
        return [k / 30.0 for k in range(count)]
    rows = read_numbers(listed, 1)
    if growing:  # a stamp is written before its frame or after it
        return [values[0] for _, values in rows[:count]]
    if len(rows) != count:
        raise SourceError(f"{listed} has {len(rows)} rows for {count} frames; expected one each")
    return [values[0] for _, values in rows]


# -- phones ------------------------------------------------------------------------------------

_R3D = ".r3d"
_ARKIT = np.diag([1.0, -1.0, -1.0, 1.0])
"""ARKit's and OpenGL's camera axes (x right, y up, z back) to ours."""


@dataclass(frozen=True)
class TrustedDepth:
    """Depth of a phone without the readings that it does not trust itself.

    Attributes:
        depth: map.
        confidence: 0 for what is not trusted.
    """

    depth: Path
    confidence: Path

    def __str__(self) -> str:
        return str(self.depth)

    def read(self) -> NDArray[np.generic]:
        """The map; 0 where it is not trusted."""
        depth, trust = read_depth(self.depth), read_depth(self.confidence)
        if trust.shape != depth.shape:
            raise SourceError(f"{self.confidence} is of another size than {self.depth}")
        return np.where(np.asarray(trust, np.float64) > 0, depth, 0).astype(depth.dtype)


def _trusted(depth: Path, confidence: Path) -> Path | TrustedDepth:
    return TrustedDepth(depth, confidence) if confidence.is_file() else depth


def _rigid(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    return matrix if is_rigid(matrix) else None


def _one_camera(
    path: Path, cameras: Sequence[tuple[Any, ...]], size: tuple[int, int] | None, doubts: list[str]
) -> StoredCamera | None:
    """The middle one of cameras that change a little from frame to frame: ``fx, fy, cx, cy``."""
    if not cameras:
        return None
    table = np.asarray(cameras, np.float64)
    middle, most = np.median(table, axis=0), table[:, 0].max() / max(table[:, 0].min(), 1e-9)
    if most > 1.02:
        doubts.append(
            f"{path}: focal lengths vary by {most - 1:.0%} from frame to frame (the lens focused); "
            "their median is used for all"
        )
    fx, fy, cx, cy = middle.tolist()
    return StoredCamera((fx, fy, cx, cy), f"{path}: of its frames", size)


def _said(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError as error:
        raise SourceError(f"{path} cannot be read: {error}") from None


@dataclass(frozen=True)
class ArchivedPicture:
    """A picture of Record3D, in its archive or its folder.

    Attributes:
        path: ``.r3d``, or the folder that was in it.
        name: ``rgbd/0.jpg`` or ``rgbd/0.depth``.
        size: ``(width, height)`` of the depth map.
    """

    path: Path
    name: str
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    def read(self) -> NDArray[np.generic]:
        """Colour, or metres."""
        content = _member(self.path, self.name)
        if not self.name.endswith(".depth"):
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            if image is None:
                raise SourceError(f"{self} cannot be read as an image")
            return np.ascontiguousarray(image[..., ::-1])
        depth = np.frombuffer(_unpacked(content, str(self)), "<f4")
        if depth.size != self.size[0] * self.size[1]:
            raise SourceError(f"{self} has {depth.size} numbers; expected {self.size}")
        return depth.reshape(self.size[1], self.size[0])


def _member(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size > _LARGEST:
                raise SourceError(f"{path}/{name} is larger than {_LARGEST >> 20} MiB")
            return archive.read(name)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, SourceError):
            raise
        said = " ".join(str(error).split()) or "it is damaged"
        raise SourceError(f"{path}/{name} cannot be read: {said}") from None


_LARGEST = 1 << 28


def _unpacked(content: bytes, name: str) -> bytes:
    """What Apple's LZFSE packed."""
    if content[:4] == b"bvx-" and content[-4:] == b"bvx$":  # stored as it is
        return content[8:-4]
    try:
        import liblzfse
    except ImportError:
        raise MissingExtra(
            f'{name} is packed by LZFSE, which needs pyliblzfse; pip install "vision-mem[phone]"'
        ) from None
    try:
        return bytes(liblzfse.decompress(content))
    except Exception as error:
        raise SourceError(f"{name} cannot be unpacked: {' '.join(str(error).split())}") from None


def _record3d(path: Path) -> Layout:
    about = parse_json(_member(path, "metadata"), f"{path}/metadata", nan=True)
    try:
        wide, high = int(about.get("w", 0)), int(about.get("h", 0))
        size = int(about.get("dw") or wide), int(about.get("dh") or high)
        k = [float(n) for n in about["K"]]  # by column
        rate = float(about.get("fps") or 60.0)
        poses = [[float(n) for n in row] for row in about.get("poses", [])]
        times = [float(t) for t in about.get("frameTimestamps", [])]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SourceError(
            f"{path}/metadata is not what Record3D writes; expected K, w, h"
        ) from None
    if path.is_dir():
        names = {e.name for e in (path / "rgbd").iterdir()}
    else:
        with zipfile.ZipFile(path) as archive:
            names = {n.removeprefix("rgbd/") for n in archive.namelist()}
    numbers = sorted(
        int(n.split(".")[0]) for n in names
        if re.fullmatch(r"\d+\.depth", n) and n.replace(".depth", ".jpg") in names
    )  # fmt: skip
    moments = []
    for number in numbers:
        pose = None
        if number < len(poses) and len(poses[number]) == 7:
            x, y, z, w, *place = poses[number]
            pose = _rigid(make_pose(rotation_of((w, x, y, z)), place) @ _ARKIT)
        time_s = times[number] if number < len(times) else number / rate
        colour, depth = (
            ArchivedPicture(path, f"rgbd/{number}.{kind}", size) for kind in ("jpg", "depth")
        )
        moments.append(FrameFiles(time_s, colour, depth, pose))
    known = (wide, high) if min(wide, high) > 0 else None
    camera = StoredCamera((k[0], k[4], k[6], k[7]), f"{path}/metadata", known)
    return Layout("record3d", moments, 1.0, camera)


def _polycam(path: Path) -> Layout:
    root, doubts = path / "keyframes" if (path / "keyframes").is_dir() else path, list[str]()
    folders = [(f"{a}images", f"{a}cameras") for a in ("corrected_", "")]
    images, cameras = next(
        (pair for pair in folders if (root / pair[0]).is_dir() and (root / pair[1]).is_dir()),
        folders[1],
    )
    if not (root / "depth").is_dir():
        raise SourceError(f"{root} has no depth/; export raw data of a LiDAR scan from Polycam")
    moments, held, size = [], [], None
    for depth in _files(root / "depth", frozenset({".png"})):
        image, about = root / images / f"{depth.stem}.jpg", root / cameras / f"{depth.stem}.json"
        if not (image.is_file() and about.is_file()):
            continue
        said = _said(about)
        try:
            rows = [[float(said[f"t_{r}{c}"]) for c in range(4)] for r in range(3)]
            held.append(tuple(float(said[n]) for n in ("fx", "fy", "cx", "cy")))
            size = int(said["width"]), int(said["height"])
            # Names are microseconds.
            time_s = float(said.get("timestamp", depth.stem)) * 1e-6
        except (KeyError, TypeError, ValueError):
            raise SourceError(
                f"{about} is not what Polycam writes; expected t_00, fx ..."
            ) from None
        pose = np.vstack([rows, (0, 0, 0, 1)]) @ _ARKIT
        trusted = _trusted(depth, root / "confidence" / depth.name)
        moments.append(FrameFiles(time_s, image, trusted, _rigid(pose)))
    if moments and any(b.time_s <= a.time_s for a, b in pairwise(moments)):
        moments = [replace(m, time_s=k / 2.0) for k, m in enumerate(moments)]
    camera = _one_camera(root / cameras, held, size, doubts)
    return Layout("polycam", moments, 0.001, camera, doubts=tuple(doubts))


def _arkitscenes(path: Path) -> Layout:
    """``NAME_TIME.png`` each; the path holds world-to-camera, as angle and axis."""
    doubts: list[str] = []
    files: dict[str, dict[str, Path]]
    files = {n: {} for n in ("lowres_wide", "lowres_depth", "lowres_wide_intrinsics", "confidence")}
    for name, found in files.items():
        if (path / name).is_dir():
            found.update({e.stem: e for e in sorted((path / name).iterdir())})
    poses = []
    walked = next(iter([*path.glob("*.traj"), *(path / "lowres_wide.traj",)]), None)
    if walked is not None and walked.is_file():
        for _, (time_s, *motion) in read_numbers(walked, 7):
            seen = make_pose(rotation_from(motion[:3]), motion[3:6])
            poses.append((time_s, inverse(seen)))
    stamps, moments, held = [t for t, _ in poses], [], []
    size = None
    for stem, depth in files["lowres_depth"].items():
        if stem not in files["lowres_wide"]:
            continue
        time_s = float(stem.rpartition("_")[2])
        near = matched([time_s], stamps, MOST_APART_S)
        if stem in files["lowres_wide_intrinsics"]:
            numbers = read_text(files["lowres_wide_intrinsics"][stem]).split()
            if len(numbers) == 6:
                size = int(float(numbers[0])), int(float(numbers[1]))
                held.append(tuple(float(n) for n in numbers[2:]))
        trusted: Path | TrustedDepth = depth
        if stem in files["confidence"]:
            trusted = _trusted(depth, files["confidence"][stem])
        pose = _rigid(poses[near[0][1]][1]) if near else None
        moments.append(FrameFiles(time_s, files["lowres_wide"][stem], trusted, pose))
    camera = _one_camera(path / "lowres_wide_intrinsics", held, size, doubts)
    return Layout("arkitscenes", moments, 0.001, camera, doubts=tuple(doubts))


def _stray(path: Path) -> Layout:
    """Stray Scanner: ``rgb.mp4`` beside ``depth/``, ``odometry.csv`` and ``camera_matrix.csv``."""
    import csv

    video, depths = _video(path), _files(path / "depth", DEPTH_SUFFIXES)
    rows = list(csv.reader(read_text(path / "odometry.csv").splitlines()))
    if not rows or video is None:
        raise SourceError(f"{path} lacks a video or rows in odometry.csv")
    names = [each.strip() for each in rows[0]]
    moments, notes = [], []
    try:
        columns = [names.index(n) for n in ("timestamp", "x", "y", "z", "qx", "qy", "qz", "qw")]
        table = [[float(row[k]) for k in columns] for row in rows[1:] if row]
    except (ValueError, IndexError):
        raise SourceError(
            f"{path}/odometry.csv: expected columns timestamp, frame, x, y, z, qx, qy, qz, qw"
        ) from None
    for depth, (time_s, x, y, z, qx, qy, qz, qw) in zip(depths, table, strict=False):
        pose = _rigid(make_pose(rotation_of((qw, qx, qy, qz)), (x, y, z)))
        trusted = _trusted(depth, path / "confidence" / f"{depth.stem}.png")
        moments.append(FrameFiles(time_s, None, trusted, pose))
    if len(depths) != len(table):
        notes.append(f"{path}: {len(depths)} depth maps and {len(table)} poses; matched by order")
    matrix = path / "camera_matrix.csv"
    camera = None
    if matrix.is_file():
        m, about = read_matrix(matrix, [(3, 3)]), cv2.VideoCapture(str(video))
        size = tuple(
            int(about.get(k)) for k in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        about.release()
        numbers = (float(m[0, 0]), float(m[1, 1]), float(m[0, 2]), float(m[1, 2]))
        camera = StoredCamera(numbers, str(matrix), (size[0], size[1]) if min(size) > 0 else None)
    return Layout("stray", moments, 0.001, camera, video, tuple(notes))


def _scanner(path: Path) -> Layout:
    """3D Scanner App: ``frame_00000.jpg``, its ``.json``, ``depth_00000.png``, ``conf_...``."""
    moments, held, doubts, size = [], [], list[str](), None
    for depth in _files(path, frozenset({".png"})):
        named = re.fullmatch(r"depth_(\d+)", depth.stem)
        image = path / f"frame_{named[1]}.jpg" if named else path
        about = image.with_suffix(".json")
        if named is None or not (image.is_file() and about.is_file()):
            continue
        said = _said(about)
        try:
            pose = np.asarray(said["cameraPoseARFrame"], np.float64).reshape(4, 4) @ _ARKIT
            k = np.asarray(said["intrinsics"], np.float64).reshape(3, 3)
            time_s = float(said.get("time", int(named[1]) / 30.0))
        except (KeyError, TypeError, ValueError):
            raise SourceError(
                f"{about} is not what 3D Scanner App writes; expected intrinsics, cameraPoseARFrame"
            ) from None
        held.append((k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        if size is None:
            height, width = read_image(image).shape[:2]
            size = (width, height)
        trusted = _trusted(depth, path / f"conf_{named[1]}.png")
        moments.append(FrameFiles(time_s, image, trusted, _rigid(pose)))
    camera = _one_camera(path, held, size, doubts)
    return Layout("3dscanner", moments, 0.001, camera, doubts=tuple(doubts))


def _transforms(path: Path) -> Layout:
    """Nerfstudio's ``transforms.json`` with ``depth_file_path``; also of phone apps."""
    said, doubts = _said(path / "transforms.json"), list[str]()
    keys, moments, held = ("fl_x", "fl_y", "cx", "cy"), [], []
    try:
        size = int(said.get("w", 0)), int(said.get("h", 0))
        scale = float(said.get("depth_unit_scale_factor", 0.001))
        frames = [each for each in said["frames"] if each.get("depth_file_path")]
        for number, each in enumerate(sorted(frames, key=lambda f: str(f["file_path"]))):
            pose = np.asarray(each["transform_matrix"], np.float64).reshape(4, 4) @ _ARKIT
            held.append(tuple(float(each.get(n, said.get(n, 0.0))) for n in keys))
            time_s = float(each.get("timestamp", number / 30.0))
            image, depth = path / str(each["file_path"]), path / str(each["depth_file_path"])
            moments.append(FrameFiles(time_s, image, depth, _rigid(pose)))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise SourceError(
            f"{path}/transforms.json: expected frames with file_path, depth_file_path and a 4x4 "
            "transform_matrix"
        ) from None
    known = size if min(size) > 0 else None
    camera = _one_camera(path, [c for c in held if min(c[:2]) > 0], known, doubts)
    return Layout("transforms", moments, scale, camera, doubts=tuple(doubts))


_time = operator.attrgetter("time_s")
_PATHS = {
    "tum": ("groundtruth.txt",),
    "folder": ("trajectory.txt", "poses.txt", "groundtruth.txt", "pose.txt"),
}


def with_poses(
    layout: Layout, folder: Path, given: Path | None, tolerance: float, offset: float
) -> Layout:
    """In order of time, with the poses of a trajectory: by time, or by row where no stamp fits.

    Args:
        layout: whose frames get them.
        folder: of the recording, which may have a trajectory itself.
        given: a trajectory that replaces the recording's; None for that one.
        tolerance: seconds by which a pose may be away from its frame.
        offset: seconds to add to the trajectory's times.

    Raises:
        SourceError: when a trajectory that was given fits neither way.
    """
    own = (folder / name for name in _PATHS.get(layout.name, ()))
    path = given or next((each for each in own if each.is_file()), None)
    if path is None:
        return replace(layout, moments=sorted(layout.moments, key=_time))
    known = read_trajectory(path, "tum" if given is None and layout.name == "tum" else None)
    times, stamps = np.array([m.time_s for m in layout.moments]), known.times + offset
    found: list[NDArray[np.float64] | None] = [None] * len(times)
    if known.timed:
        found = _by_time(known, stamps, times, tolerance)
    doubts, why = [], f"{path} has no times"
    fitting = sum(pose is not None for pose in found)
    if known.timed:
        why = (
            f"no pose of {path} is within {tolerance:g} s of a frame (from {stamps[0]:.2f} s on, "
            f"frames from {times[0]:.2f} s)"
        )
    if known.timed and 2 * fitting < len(known) and _are_numbers(stamps, len(times)):
        found = [None] * len(times)
        for stamp, pose in zip(stamps, known.poses, strict=True):
            found[int(stamp)] = pose
        doubts.append(f"the times of {path} are taken for numbers of frames: none has a fraction")
    elif not fitting:
        rows = known.by_row(len(times))
        if rows is None and given is not None:
            raise SourceError(
                f"{why}, and there are {known.total} poses for {len(times)} frames; expected one "
                "for each, or times on one clock (--pose-offset, --pose-tolerance)"
            )
        if rows is None:
            doubts.append(f"{why}, and there are {known.total} for {len(times)} frames: none used")
        elif known.timed:
            doubts.append(
                f"{why}; poses are taken row by row, as there are as many: is there a shift "
                "(--pose-offset)?"
            )
        found = rows or found
    moments = [replace(m, pose=p) for m, p in zip(layout.moments, found, strict=True)]
    doubts = [*layout.doubts, *doubts]
    return replace(layout, moments=sorted(moments, key=_time), doubts=tuple(doubts))


def _by_time(
    known: Trajectory, stamps: NDArray[np.float64], times: NDArray[np.float64], tolerance: float
) -> list[NDArray[np.float64] | None]:
    after = np.searchsorted(stamps, times).clip(1, max(len(stamps) - 1, 1))
    before = after - 1
    after = after.clip(max=len(stamps) - 1)
    nearest = np.where(
        np.abs(stamps[after] - times) < np.abs(stamps[before] - times), after, before
    )
    close = np.abs(stamps[nearest] - times) <= tolerance + 1e-9
    return [known.poses[k] if near else None for k, near in zip(nearest, close, strict=True)]


def _are_numbers(stamps: NDArray[np.float64], frames: int) -> bool:
    return bool((stamps == np.rint(stamps)).all() and stamps[0] >= 0 and stamps[-1] < frames)


def read_pose(path: Path) -> NDArray[np.float64] | None:
    """``(4, 4)`` of a file; None where the file says that the pose is not known.

    Raises:
        SourceError: for a file that holds no matrix.
    """
    matrix = read_matrix(path, [(4, 4), (3, 4)])
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, (0, 0, 0, 1)])
    return matrix if is_rigid(matrix) else None
