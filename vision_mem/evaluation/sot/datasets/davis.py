"""DAVIS 2016 and 2017, validation split, at 480p (Perazzi et al., CVPR 2016; Pont-Tuset et al.).

Truth is an indexed PNG a frame: the value of a pixel is the number of the object there. In 2016
there is one object, marked by whatever is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vision_mem.errors import InputError
from vision_mem.evaluation import dataset_files
from vision_mem.evaluation.sot.datasets.truth import mask_sequence
from vision_mem.evaluation.sot.records import Benchmark

_EXPECTED = (
    "JPEGImages/480p/NAME/, Annotations/480p/NAME/ and ImageSets/YEAR/val.txt; or NAME/JPEGImages/ "
    "and NAME/Annotations/"
)
_SIZES = ("480p", "Full-Resolution", "1080p", "")

_VALIDATION: Mapping[str, str] = {
    "2016": """
    blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl dog
    drift-chicane drift-straight goat horsejump-high kite-surf libby motocross-jump
    paragliding-launch parkour scooter-black soapbox
    """,
    "2017": """
    bike-packing blackswan bmx-trees breakdance camel car-roundabout car-shadow cows dance-twirl
    dog dogs-jump drift-chicane drift-straight goat gold-fish horsejump-high india judo kite-surf
    lab-coat libby loading mbike-trick motocross-jump paragliding-launch parkour pigs
    scooter-black shooting soapbox
    """,
}


def _open(year: str, root: Path, *, need_frames: bool) -> Benchmark:
    notes: list[str] = []
    place = dataset_files.first_folder(root / "DAVIS") or root
    if not place.is_dir():
        raise dataset_files.no_sequences(root, _EXPECTED)
    found = paired_folders(place)
    if not found:
        raise dataset_files.no_sequences(place, _EXPECTED)
    file = f"ImageSets/{year}/val.txt"
    names = dataset_files.chosen_names(
        list(found), dataset_files.first_list(place / file), _VALIDATION[year].split(), file,
        place, notes,
    )  # fmt: skip
    sequences = []
    for name in names:
        images, truth = found[name]
        frames, masks = dataset_files.images_in(images), dataset_files.images_in(truth, {".png"})
        if need_frames and not frames:
            raise InputError(f"{images} holds no images; unpack DAVIS's images there")
        sequence = mask_sequence(name, frames, masks, merge=year == "2016", notes=notes)
        sequences.append(sequence)
    title = f"DAVIS {year}"
    return Benchmark(f"davis{year}", title, "davis", f"davis{year}", tuple(sequences), tuple(notes))


open_davis2016, open_davis2017 = (partial(_open, year) for year in ("2016", "2017"))
"""The 20 validation sequences, one object each; the 30 with one object or more."""


def paired_folders(place: Path) -> dict[str, tuple[Path, Path]]:
    """Folder of images and folder of masks by sequence, for sequences that have masks.

    Args:
        place: holds ``JPEGImages/480p/NAME`` and ``Annotations/480p/NAME``, the same without
            ``480p``, or ``NAME/JPEGImages`` and ``NAME/Annotations``.
    """
    for size in _SIZES:
        inside = place / "Annotations" / size
        if inside.is_dir():
            found = {
                name: (place / "JPEGImages" / size / name, folder)
                for name, folder in dataset_files.folders_in(inside).items()
                if dataset_files.has_images(folder, {".png"})
            }
            if found:
                return found
    return {
        name: (folder / "JPEGImages", folder / "Annotations")
        for name, folder in dataset_files.folders_in(place).items()
        if dataset_files.has_images(folder / "Annotations", {".png"})
    }
