"""Pictures that training clips are made of, decoded once into one file that all workers share.

Folders are read once: cut-outs are checked (one solid object with opacity), cropped and shrunk,
photographs shrunk, videos sampled as short runs of frames. The result lies uncompressed in a file
that worker processes map into memory, so a clip never waits for a PNG.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.synthetic.clips import cutout, cutout_names, load_photograph

Image = NDArray[np.uint8]

CUTOUT_SIDE = 160
"""Longest side of a stored cut-out, pixels; clips show objects up to about this size."""
PHOTO_SIDE = 448
_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")
_PACKAGED = ("astronaut", "chelsea", "coffee", "rocket", "stereo_left", "grass", "gravel", "brick")
_PACKAGED += ("retina", "camera", "moon", "hubble_deep_field", "coins")
PACKAGED = frozenset([*_PACKAGED, *cutout_names(), *(f"coin{i}" for i in range(12))])
"""Names of what is always there; ``vision_mem.synthetic.clips`` films the same pictures."""
_RUNS, _RUN_LENGTH, _RUN_STEP = 24, 8, 2  # of a video: runs, frames in each, frames between them
_FORMAT = 4  # changes when what is stored does


@dataclass(frozen=True)
class Folders:
    """Where pictures come from; the packaged ones are always there."""

    cutouts: tuple[Path, ...] = ()
    backgrounds: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()


class Pictures:
    """Cut-outs and backgrounds, one split of them.

    Args:
        folder: what ``gather`` returned.
        without: names of pictures that are left out.
        split: ``train``, ``check`` (an eighth, told by name) or ``all``. Where the rarer split
            holds fewer than four pictures, both take all.
    """

    def __init__(self, folder: Path, split: str = "train", without: Collection[str] = ()) -> None:
        table = json.loads((folder / "table.json").read_text())
        for kind in ("cutouts", "backgrounds"):
            table[kind] = [entry for entry in table[kind] if entry[0] not in without]
        self._bytes = np.memmap(folder / "pictures.bin", np.uint8, mode="r")
        self.cutouts: list[list[int]] = [e[1] for e in _of_split(table["cutouts"], split)]
        backgrounds = [e[1] for e in _of_split(table["backgrounds"], split)]
        self._runs: list[list[list[int]]] = [run for run in backgrounds if len(run) > 1]
        self._stills: list[list[list[int]]] = [run for run in backgrounds if len(run) == 1]

    @property
    def photographs(self) -> int:
        """Backgrounds, runs of frames among them."""
        return len(self._runs) + len(self._stills)

    def cutout(self, rng: np.random.Generator) -> Image:
        """A random cut-out: ``(h, w, 4)`` uint8, colours multiplied by opacity."""
        return self.get(self.cutouts[rng.integers(len(self.cutouts))])

    def background(self, rng: np.random.Generator) -> list[Image]:
        """A random photograph, or a run of video frames of equal size: ``(h, w, 3)`` each.

        Where there are both, a third is video.
        """
        runs, stills = self._runs, self._stills
        chosen = runs if runs and (not stills or rng.random() < 1 / 3) else stills
        return [self.get(entry) for entry in chosen[rng.integers(len(chosen))]]

    def texture(self, rng: np.random.Generator, height: int, width: int) -> Image:
        """A piece of a random photograph, at a random scale: ``(height, width, 3)``."""
        picture = self.background(rng)[0]
        share = rng.uniform(0.12, 0.7)
        h, w = (max(8, int(side * share)) for side in picture.shape[:2])
        y, x = rng.integers(picture.shape[0] - h + 1), rng.integers(picture.shape[1] - w + 1)
        piece = picture[y : y + h, x : x + w]
        return np.asarray(cv2.resize(piece, (width, height), interpolation=cv2.INTER_LINEAR))

    def get(self, entry: list[int]) -> Image:
        """A picture by its place in the file."""
        start, height, width, channels = entry
        flat = self._bytes[start : start + height * width * channels]
        return np.asarray(flat).reshape(height, width, channels)


def _of_split(entries: list[tuple[str, list]], split: str) -> list[tuple[str, list]]:
    held_out = [e for e in entries if zlib.crc32(e[0].encode()) % 8 == 0]
    if split == "all" or len(held_out) < 4:
        return entries
    names = {e[0] for e in held_out}
    return held_out if split == "check" else [e for e in entries if e[0] not in names]


def gather(folders: Folders, cache: Path, *, packaged: bool = True) -> Path:
    """Decode everything into ``cache``, unless that was done before.

    Args:
        folders: searched for pictures and videos, subfolders too; unreadable or unfit files are
            left out and counted.
        cache: where the decoded pictures go; about 50 kB a cut-out, 0.5 MB a photograph, 1 MB a
            second of video sampled.
        packaged: add the photographs and cut-outs that come with scikit-image.

    Returns:
        The folder for ``Pictures``.

    Raises:
        InputError: for a folder that is missing, or when no picture is left.
    """
    stills = [*_files(folders.cutouts, _SUFFIXES), *_files(folders.backgrounds, _SUFFIXES)]
    clips = _files(folders.videos, _VIDEOS)
    listing = [f"{p}:{p.stat().st_size}" for p in [*stills, *clips]]
    listing += [str(_FORMAT), str(packaged), *map(str, folders.cutouts), "|"]
    name = hashlib.blake2b("\n".join(listing).encode(), digest_size=6).hexdigest()
    target = cache / f"pictures-{name}"
    if (target / "table.json").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    threads = ThreadPoolExecutor(os.cpu_count())  # OpenCV decodes without Python's lock
    with (target / "pictures.bin").open("wb") as out, threads:
        writer = Writer(out)
        paths = _files(folders.cutouts, _SUFFIXES)
        for label, made in [*_packaged_cutouts(packaged), *_in_order(threads, _cutout_of, paths)]:
            writer.add("cutouts", label, made)
        paths = _files(folders.backgrounds, _SUFFIXES)
        for label, pieces in [*_packaged_photos(packaged), *_in_order(threads, _photos_of, paths)]:
            for piece in pieces:
                writer.add("backgrounds", label, [piece])
        for path in clips:
            for run in _runs(path):
                writer.add("backgrounds", path.name, run)
    if not writer.table["cutouts"] or not writer.table["backgrounds"]:
        raise InputError("no usable cut-out or background was found; give folders that hold some")
    return writer.finish(target)


class Writer:
    """Fills the file of pictures and the table of what lies where."""

    def __init__(self, out) -> None:
        self._out, self._at = out, 0
        self.table: dict[str, list] = {"cutouts": [], "backgrounds": []}
        self.refused = 0

    def add(self, kind: str, label: str, made: Image | list[Image] | None) -> None:
        if made is None:
            self.refused += 1
            return
        run = isinstance(made, list)
        entry = [self._put(image) for image in made] if run else self._put(made)
        self.table[kind].append((label, entry))

    def finish(self, target: Path) -> Path:
        partial = target / ".table.json"
        partial.write_text(json.dumps({**self.table, "refused": self.refused}))
        return partial.replace(target / "table.json").parent

    def _put(self, image: Image) -> list[int]:
        entry = [self._at, *image.shape]
        self._out.write(np.ascontiguousarray(image).tobytes())
        self._at += image.size
        return entry


def _in_order(
    threads: ThreadPoolExecutor, make: Callable[[Path], object], paths: Sequence[Path]
) -> Iterator[tuple[str, object]]:
    yield from zip((p.name for p in paths), threads.map(make, paths), strict=True)


def _files(folders: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for folder in folders:
        if not folder.exists():
            raise InputError(f"no folder {folder}; expected pictures or videos there")
        inside = [folder] if folder.is_file() else sorted(folder.rglob("*"))
        found += [p for p in inside if p.suffix.lower() in suffixes and p.is_file()]
    return found


def _packaged_cutouts(wanted: bool) -> list[tuple[str, Image | None]]:
    names = [n for n in cutout_names() if n != "coin0"] + [f"coin{i}" for i in range(12)]
    return [(name, fit_cutout(cutout(name))) for name in names] if wanted else []


def _packaged_photos(wanted: bool) -> list[tuple[str, list[Image]]]:
    names = _PACKAGED if wanted else ()
    return [(name, [_shrink(load_photograph(name), PHOTO_SIDE)]) for name in names]


def _cutout_of(path: Path) -> Image | None:
    image = _read(path, cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return None
    return fit_cutout(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA))


def _photos_of(path: Path) -> list[Image]:
    """A photograph, and its quarters where it is large: details are pictures too."""
    image = _read(path, cv2.IMREAD_COLOR)
    if image is None or min(image.shape[:2]) < 64:
        return []
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    pieces = [image]
    if min(image.shape[:2]) >= 2 * PHOTO_SIDE:
        h, w = image.shape[0] // 2, image.shape[1] // 2
        corners = ((0, 0), (0, w), (h, 0), (h, w))
        pieces += [image[y : y + h, x : x + w] for y, x in corners]
    small = [_shrink(piece, PHOTO_SIDE) for piece in pieces]
    return [piece for piece in small if _has_texture(piece)]


def _has_texture(image: Image) -> bool:
    """Whether it is more than a smooth gradient, as many desktop pictures are."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean()) > 3.0


def _runs(path: Path) -> Iterator[list[Image]]:
    """Short runs of frames, spread over a video, read in one pass."""
    video = cv2.VideoCapture(str(path))
    try:
        total = max(int(video.get(cv2.CAP_PROP_FRAME_COUNT)), 1)
        every = max(total // _RUNS, _RUN_LENGTH * _RUN_STEP)
        run: list[Image] = []
        for t in range(total):
            if not video.grab():
                break
            within = t % every
            if within < _RUN_LENGTH * _RUN_STEP and within % _RUN_STEP == 0:
                read, frame = video.retrieve()
                if read:
                    run.append(_shrink(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), PHOTO_SIDE))
            if len(run) == _RUN_LENGTH:
                yield run
                run = []
    finally:
        video.release()


def _read(path: Path, flags: int) -> Image | None:
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), flags)
    except (cv2.error, OSError):
        return None
    return None if image is None or image.dtype != np.uint8 else np.asarray(image)


def _shrink(image: Image, side: int) -> Image:
    scale = side / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def fit_cutout(image: Image) -> Image | None:
    """Crop, multiply colours by opacity and shrink; None for what makes no object to follow.

    Refused: hardly anything opaque, a full rectangle, several pieces of like size, line drawings.

    Args:
        image: ``(h, w, 4)`` uint8 RGB and opacity.
    """
    solid = image[..., 3] > 127
    if solid.sum() < 200:
        return None
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    image = _shrink(image, 2 * CUTOUT_SIDE)  # what follows is slow at full size
    opacity = image[..., 3:].astype(np.float32) / 255
    both = np.dstack([image[..., :3] * opacity, image[..., 3]]).astype(np.uint8)
    both = _shrink(both, CUTOUT_SIDE)
    solid = (both[..., 3] > 127).astype(np.uint8)
    area = int(solid.sum())
    _, _, stats, _ = cv2.connectedComponentsWithStats(solid)
    inside = int(cv2.erode(solid, np.ones((3, 3), np.uint8)).sum())
    whole = area > 0.97 * solid.size
    if whole or area < 100 or stats[1:, cv2.CC_STAT_AREA].max() < 0.7 * area or inside < area / 2:
        return None
    return np.ascontiguousarray(both)


# -- pictures of objects ------------------------------------------------------------------------


def random_picture(pictures: Pictures, rng: np.random.Generator, side: float) -> Image:
    """A cut-out, a cut-out's outline filled with texture, or a textured blob.

    Args:
        pictures: where it comes from.
        rng: decides which.
        side: its longer side will have at most so many pixels.
    """
    kind = rng.random()
    if kind < 0.65:
        made = _to_side(pictures.cutout(rng), side).astype(np.float32)
    else:
        outline = pictures.cutout(rng)[..., 3] if kind < 0.85 else _blob(rng)
        outline = _to_side(outline, side)
        made = filled(pictures.texture(rng, *outline.shape), outline)
    opacity = made[..., 3:] / 255
    colours = made[..., :3]
    if rng.random() < 0.35:  # light and grain of a photograph over flat colours
        grain = pictures.texture(rng, *made.shape[:2]).mean(axis=2, keepdims=True)
        colours = colours * (0.5 + 0.5 * grain / max(float(grain.mean()), 1.0))
    if rng.random() < 0.2:
        colours = colours[..., rng.permutation(3)]
    contrast = rng.uniform(0.4, 1.2)
    middle = opacity * rng.uniform(40, 215)
    colours = middle + contrast * (colours - middle) + opacity * rng.normal(0, 14, 3)
    made = np.dstack([np.clip(colours, 0, 255 * opacity), made[..., 3]])
    made = made[:, ::-1] if rng.random() < 0.5 else made
    return np.ascontiguousarray(made.astype(np.uint8))


def filled(texture: Image, outline: Image) -> NDArray[np.float32]:
    """A texture ``(h, w, 3)`` in an outline ``(h, w)``, colours multiplied by opacity."""
    opacity = outline[..., None].astype(np.float32) / 255
    return np.dstack([texture * opacity, outline]).astype(np.float32)


def _blob(rng: np.random.Generator, side: int = 128) -> Image:
    """A smooth closed outline: a circle with a few waves on its radius."""
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radius = np.ones_like(turn)
    for wave in range(1, 6):
        radius += rng.normal(0, 0.28 / wave) * np.cos(wave * turn + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.25, None)
    radius *= 0.48 * side / radius.max()
    squash = rng.uniform(0.4, 1.0)
    points = np.stack([radius * np.cos(turn) * squash, radius * np.sin(turn)], 1) + side / 2
    outline = np.zeros((side, side), np.uint8)
    cv2.fillPoly(outline, [points.astype(np.int32)], 255, cv2.LINE_AA)
    return outline


def _to_side(picture: Image, side: float) -> Image:
    """Shrink before warping: a warp alone would alias small objects."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(2, round(picture.shape[1] * scale)), max(2, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
