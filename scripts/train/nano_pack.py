"""Gathered pictures as one small file, to train on a machine that has neither them nor a network.

python scripts/train/nano_pack.py OUT/pictures-... FILE.zip
python scripts/train/train_nano.py --pictures FILE.zip --out ...
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
from nano_pictures import Folders, Image, Pictures, Writer, gather

from vision_mem.errors import InputError


def pack(folder: Path, file: Path, quality: int = 75) -> None:
    """Write what ``gather`` made as compressed pictures: a tenth of the bytes."""
    pictures = Pictures(folder, "all")
    table = json.loads((folder / "table.json").read_text())
    with zipfile.ZipFile(file, "w") as out:
        names: dict[str, list] = {"cutouts": [], "backgrounds": []}
        for kind, entries in names.items():
            for label, found in table[kind]:
                run = [found] if kind == "cutouts" else found
                entries.append((label, len(run)))
                for n, entry in enumerate(run):
                    image = pictures.get(entry)
                    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
                    image = cv2.cvtColor(image, code)
                    _, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])
                    out.writestr(f"{kind}/{len(entries) - 1}-{n}.webp", data.tobytes())
        out.writestr("table.json", json.dumps(names))


def unpack(file: Path, cache: Path) -> Path:
    """Decode what ``pack`` wrote, unless that was done before; a folder for ``Pictures``.

    Raises:
        InputError: for a file that is not such a pack.
    """
    target = cache / f"pictures-{file.stem}-{file.stat().st_size if file.is_file() else 0}"
    if (target / "table.json").is_file():
        return target
    target.mkdir(parents=True, exist_ok=True)
    try:
        with (target / "pictures.bin").open("wb") as out, zipfile.ZipFile(file) as stored:
            writer = Writer(out)
            for kind, entries in json.loads(stored.read("table.json")).items():
                for n, (label, length) in enumerate(entries):
                    run = [_decode(stored.read(f"{kind}/{n}-{k}.webp")) for k in range(length)]
                    writer.add(kind, label, run[0] if kind == "cutouts" else run)
    except (OSError, LookupError, ValueError, zipfile.BadZipFile, cv2.error) as error:
        raise InputError(f"{file} is no pack of pictures that can be read ({error})") from error
    return writer.finish(target)


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    """Where the pictures of training clips come from."""
    for name in ("cutouts", "backgrounds", "videos"):
        parser.add_argument(f"--{name}", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--pictures", type=Path, metavar="ZIP", help="packed by nano_pack.py")
    parser.add_argument("--cache", type=Path, help="decoded pictures go here [OUT]")


def pictures_from(args: argparse.Namespace) -> Path:
    """What these flags ask for, decoded; a folder for ``Pictures``.

    Raises:
        InputError: for what is not there or cannot be read.
    """
    cache: Path = args.cache or args.out
    if args.pictures:
        return unpack(args.pictures, cache)
    folders = Folders(tuple(args.cutouts), tuple(args.backgrounds), tuple(args.videos))
    return gather(folders, cache)


def _decode(data: bytes) -> Image:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    image = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    # Compression leaves colour where nothing is; multiplied colours cannot exceed opacity.
    return np.asarray(np.minimum(image, image[..., 3:]))


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
