"""What is seen on street graphs: words of routes and places, or features of panoramas' crops."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.formats.text import json_rows, make_folder, write_file
from vision_mem.text import read_json, short

SeenWord = tuple[str, float, float]
"""A word, its bearing in degrees clockwise from north, its range in metres."""


def read_route_landmarks(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Landmark words a route, as VELMA's landmark files list them.

    Args:
        path: JSON ``{"instances": {id: {"unfiltered": [words, ...]}}}``.

    Returns:
        Route id to words.

    Raises:
        InputError: when the file is not of that form.
    """
    path = Path(path)
    try:
        value = read_json(path)
        instances = value["instances"]
        return {str(k): tuple(map(str, one["unfiltered"])) for k, one in instances.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f'{path} is no landmark file; expected {{"instances": {{id: {{"unfiltered": '
            "[words]}}}"
        ) from None


def read_sight_words(path: str | Path) -> dict[str, tuple[SeenWord, ...]]:
    """What is seen where, for graphs without panoramas.

    Args:
        path: JSON lines ``{"panorama": id, "sights": [{"word": text, "bearing": degrees,
            "range": metres}]}``; bearing clockwise from north, range 10 when left out.

    Returns:
        Panorama id to ``(word, bearing, range)`` each.

    Raises:
        InputError: one line that names the line.
    """
    path = Path(path)
    found: dict[str, tuple[SeenWord, ...]] = {}
    for number, item in json_rows(path):
        try:
            name = item["panorama"]
            sights = tuple(
                (str(one["word"]), float(one["bearing"]) % 360.0, float(one.get("range", 10.0)))
                for one in item["sights"]
            )
            if not isinstance(name, str) or not np.isfinite([s[1:] for s in sights]).all():
                raise ValueError
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise InputError(
                f'{path} line {number}: expected {{"panorama": id, "sights": [{{"word": text, '
                '"bearing": degrees}]}'
            ) from None
        if name in found:
            raise InputError(f"{path} line {number}: panorama {short(name)} comes twice")
        found[name] = sights
    return found


def write_sight_words(path: str | Path, words: Mapping[str, Sequence[SeenWord]]) -> None:
    """Write what ``read_sight_words`` reads.

    Raises:
        SinkError: when it cannot be written.
    """
    rows = []
    for name, several in words.items():
        sights = [
            {"word": word, "bearing": round(bearing, 2), "range": round(far, 2)}
            for word, bearing, far in several
        ]
        rows.append(json.dumps({"panorama": name, "sights": sights}, ensure_ascii=False) + "\n")
    make_folder(Path(path).parent)
    write_file(Path(path), "".join(rows).encode())


@dataclass(frozen=True)
class PanoramaFeatures:
    """Features of views cut from panoramas.

    Attributes:
        ids: panorama ids, N of them.
        features: ``(N, C, D)`` float32: of C views each, as an embedder of pictures and text gives.
        bearings: ``(N, C)`` degrees clockwise from north, the middle of each view.
        encoder: what made them, where the file says so, or "".
    """

    ids: tuple[str, ...]
    features: NDArray[np.float32]
    bearings: NDArray[np.float64]
    encoder: str = ""


def write_panorama_features(path: str | Path, found: PanoramaFeatures) -> None:
    """Write what ``read_panorama_features`` reads.

    Raises:
        SinkError: when it cannot be written.
    """
    content = io.BytesIO()
    np.savez(
        content, ids=np.array(found.ids), features=found.features, bearings=found.bearings,
        encoder=np.array(found.encoder),
    )  # fmt: skip
    make_folder(Path(path).parent)
    write_file(Path(path), content.getvalue())


def read_panorama_features(path: str | Path) -> PanoramaFeatures:
    """Read features of panoramas.

    Args:
        path: ``.npz`` with ``ids`` ``(N,)`` text, ``features`` ``(N, C, D)`` numbers and
            ``bearings`` ``(C,)`` or ``(N, C)`` degrees clockwise from north; and, if it likes,
            ``encoder``, the name of what made them.

    Raises:
        InputError: for a file that is missing, damaged or of another form; one line.
    """
    path = Path(path)
    wanted = "expected an .npz with ids (N,), features (N, C, D) and bearings (C,) or (N, C)"
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            ids, features, bearings = file["ids"], file["features"], file["bearings"]
            encoder = str(file["encoder"]) if "encoder" in file.files else ""
        features = np.asarray(features, np.float32)
        n, views, _ = features.shape
        bearings = np.broadcast_to(np.asarray(bearings, np.float64), (n, views)) % 360.0
        if ids.shape != (n,) or ids.dtype.kind != "U":
            raise ValueError
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    except (
        ValueError, TypeError, KeyError, AttributeError, EOFError, MemoryError, RuntimeError,
        zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        raise InputError(f"{path} holds no features of panoramas; {wanted}") from None
    if not (np.isfinite(features).all() and np.isfinite(bearings).all()):
        raise InputError(f"{path} holds numbers that are not finite; {wanted}")
    names = tuple(str(name) for name in ids)
    if len(set(names)) < len(names):
        again = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: panorama {short(again)} comes twice; expected each id once")
    return PanoramaFeatures(names, features, bearings, encoder)
