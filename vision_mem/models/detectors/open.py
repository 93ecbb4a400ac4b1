"""One door for every detector: a word of the command line, a folder, a file, a callable."""

from __future__ import annotations

import difflib
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np

from vision_mem.config import is_object_name, load_object, nearest
from vision_mem.errors import InputError
from vision_mem.models.detectors.appearance import Described, open_embedder
from vision_mem.models.detectors.asynchronous import LatestOnly
from vision_mem.models.detectors.callable import as_detector
from vision_mem.models.detectors.ensemble import Ensemble
from vision_mem.models.detectors.filters import Chosen, EveryNth, Guarded, Within
from vision_mem.models.detectors.protocol import Detector
from vision_mem.models.hub import DETECTORS, check_fetchable, has_transformers
from vision_mem.text import short, shown

log = logging.getLogger(__name__)

_PATIENCE = 30
"""Frames on all of which a detector may fail before the run ends."""
_MOTION = ("mog2", "knn", "upright")
_NETWORKS = ("dfine", "rtdetr", "rtdetrv2")
_WORD_NETWORKS = ("grounding-dino", "owlv2", "sam3")
_TORCHVISION = ("maskrcnn", "fasterrcnn", "fasterrcnn-320")
_FILE_OPTIONS = {"box": "box_format", "first": "first_frame", "scores": "scores"}

_FOREIGN_NETWORKS = (
    "centernet", "damo-yolo", "detr", "dino-detr", "efficientdet", "maskdino", "nanodet",
    "retinanet", "rf-detr", "rfdetr", "rtmdet", "ssd",
)  # fmt: skip
"""Names of networks that nobody looks for as things, and that are not here."""
_CHECKPOINTS = (".pt", ".pth", ".engine", ".tflite", ".torchscript", ".mlpackage", ".weights")

HOW = (
    "motion (a camera that stands still), file:PATH[:FORMAT], onnx:FILE, dfine, rtdetr, rtdetrv2, "
    '"red car, person" (any words; "red car@owlv2" or @sam3 for another network), maskrcnn, '
    "fasterrcnn, a network of transformers (its folder or its id on Hugging Face), or "
    "module:function of your own"
)


SHARED_DETECTORS: ContextVar[
    Callable[[tuple[Any, ...], Callable[[], Detector]], Detector] | None
] = ContextVar("shared_detectors", default=None)
"""Given what a detector is known by, and what makes it, of those who run many in a process."""


def open_detector(
    spec: Any,
    *,
    device: str = "auto",
    precision: str = "auto",
    frame_count: int | None = None,
    size: tuple[int, int] | None = None,
    guarded: bool = True,
) -> Detector:
    """Open a detector.

    Args:
        spec: a word:

            * ``motion``, ``motion:knn``, ``motion:upright``: what moves, for a camera that stands
              still; needs no weights;
            * ``file:PATH[:FORMAT[,box=xywh][,first=1][,scores=percent]]``: detections made before;
              formats are in ``files.FORMATS``;
            * ``dfine``, ``rtdetr``, ``rtdetrv2``: COCO's classes, with weights of Hugging Face; or
              an id there, or a folder;
            * ``red car, person``: whatever words name, with Grounding DINO; with
              ``red car@owlv2`` or ``red car@sam3``, or a folder after the ``@``, another network;
              ``words:motion@grounding-dino`` where a word is also a name above;
            * ``words:car, dog``: what words name, coarsely, by the classes of parts of the
              picture; without a download (extra ``[offline]``);
            * ``onnx:FILE``: YOLO v5 to v12, RT-DETR, D-FINE, RF-DETR, exported; with
              ``onnx:FILE,names=FILE`` words for its classes, a line each;
            * ``maskrcnn``, ``fasterrcnn``, ``fasterrcnn-320``: torchvision's; with
              ``maskrcnn:FILE`` weights of one's own;
            * ``module:function`` or ``module:Class``: one's own (``config.load_object``); a class
              is called for an object. Identifiers without spaces on both sides of the colon are
              always this, unless a name above stands before it: ``words:red:car@owlv2`` looks for
              words.

            Or anything ``as_detector`` takes; or a list of all this, for a ``Ensemble``.
        device: ``auto`` or a torch device, for networks.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``, for networks of transformers.
        frame_count: frames of the whole video, to refuse detections of another one.
        size: ``(height, width)`` of the video, likewise.
        guarded: errors on single frames are logged and count as "no answer" (``Guarded``).

    Raises:
        InputError: for what cannot be understood, and for damaged or foreign files.
        MissingExtra: for libraries that are not installed.
        ModelError: for weights that are missing or damaged.
    """
    options: dict[str, Any] = {"device": device, "precision": precision}
    if isinstance(spec, (list, tuple)):
        more: dict[str, Any] = {"frame_count": frame_count, "size": size, "guarded": guarded}
        parts = [open_detector(each, **options, **more) for each in spec]
        return parts[0] if len(parts) == 1 else Ensemble(parts)
    if isinstance(spec, str):
        detector = _of_word(spec.strip(), options, frame_count, size)
    else:
        detector = as_detector(spec)
    if not guarded or isinstance(detector, Guarded):
        return detector
    # A function of the user's that fails at once is at fault; a network may stumble over a frame.
    own = not isinstance(spec, str) or is_object_name(spec.strip())
    return Guarded(detector, give_up_after=1 if own else _PATIENCE)


def make_detector(
    words: Sequence[Any],
    *,
    every: int = 1,
    looked: int | None = None,
    min_score: float = 0.0,
    only: Sequence[str] = (),
    region: str | None = None,
    live: bool = False,
    reid: str = "colours",
    **options: Any,
) -> Detector:
    """Open a detector and put around it what the command line asks for.

    Args:
        words: as ``open_detector`` takes them; several are a union.
        every: look at every ``every``-th frame only.
        looked: the frame last looked at, in a run that is continued; see ``looked_at``.
        min_score: lower scores are left out.
        only: classes to keep; all when empty.
        region: ``x,y,w,h``, ``xyxy:x1,y1,x2,y2``, or corners ``x1,y1,x2,y2,x3,y3,...``; objects
            elsewhere are left out.
        live: a detector slower than the stream must not hold it up: networks run in a thread.
        reid: what describes the looks of what is found, as ``open_embedder`` takes it.
        options: of ``open_detector``.

    Raises:
        VisionMemError: for what cannot be opened or understood.
    """
    embedder = open_embedder(reid, options.get("device", "auto"))
    detector = open_detector(list(words), **options)
    spoken = [word for word in words if isinstance(word, str)]
    if live and any(word.strip().partition(":")[0] not in ("motion", "file") for word in spoken):
        detector = LatestOnly(detector)
    if min_score > 0 or only:
        detector = Chosen(detector, min_score=min_score, classes=only or None)
    if region is not None:
        corners = np.reshape(parse_region(region), (-1, 2))
        size = options.get("size")  # (height, width)
        if size and (corners.max(0) <= 0).any() | (corners.min(0) >= size[::-1]).any():
            raise InputError(
                f"--region {shown(region)} lies outside the frame, {size[1]}x{size[0]} pixels"
            )
        if size and ((corners < 0) | (corners > size[::-1])).any():
            log.warning(
                "--region %s reaches beyond the frame, %dx%d pixels; only what is inside counts",
                *(short(region), size[1], size[0]),
            )
        detector = Within(detector, parse_region(region))
    if embedder is not None:  # of those that are left only
        detector = Described(detector, embedder)
    if every != 1:
        detector = EveryNth(detector, every, last=looked)
    return detector


def parse_region(text: str) -> list[list[float]] | list[float]:
    """Read ``x,y,w,h``, ``xyxy:x1,y1,x2,y2`` or corners into what ``Within`` takes.

    Raises:
        InputError: when it is neither.
    """
    two, bare = text.lower().startswith("xyxy:"), text.lower().removeprefix("xywh:")
    try:
        values = [float(part) for part in bare.removeprefix("xyxy:").split(",")]
    except ValueError:
        values = []
    good = all(map(math.isfinite, values))
    if two and len(values) == 4 and good and values[0] < values[2] and values[1] < values[3]:
        return values
    if two:
        raise InputError(f"--region {shown(text)}: expected xyxy:x1,y1,x2,y2, two corners")
    if len(values) == 4 and good and min(values[2:]) > 0:
        x, y, w, h = values
        return [x, y, x + w, y + h]
    if len(values) < 6 or len(values) % 2 or not good:
        raise InputError(
            f"--region {shown(text)}: expected x,y,w,h or three or more corners x1,y1,x2,y2,x3,y3"
        )
    return [values[at : at + 2] for at in range(0, len(values), 2)]


def _of_word(
    spec: str, options: Mapping[str, Any], frame_count: int | None, size: tuple[int, int] | None
) -> Detector:
    """The detector of a word; one that is there already, where streams share networks."""

    def make() -> Detector:
        return _from_word(spec, options, frame_count, size)

    shared = SHARED_DETECTORS.get()
    # A file is of one video; what is the user's own may remember anything.
    if shared is None or spec.startswith("file:") or is_object_name(spec):
        return make()
    return shared((spec, *options.values()), make)


def _from_word(
    spec: str, options: Mapping[str, Any], frame_count: int | None, size: tuple[int, int] | None
) -> Detector:
    kind, _, rest = spec.partition(":")
    if spec == "motion" or kind == "motion":
        return _motion(rest or "mog2")
    if kind == "file":
        return _file(rest, frame_count, size)
    if kind == "words":
        return _words(rest, options) if "@" in rest else _word_windows(rest, options)
    if kind == "onnx":
        from vision_mem.models.detectors.onnx import open_onnx

        return open_onnx(rest, options["device"])
    if kind in _TORCHVISION:
        from vision_mem.models.detectors.torchvision import TorchvisionDetector

        return TorchvisionDetector(kind, weights=rest or None, device=options["device"])
    if not spec or Path(spec).suffix.lower() in (".txt", ".json", ".jsonl", ".csv"):
        known = f"file:{spec}" if spec else "one of: " + HOW
        raise InputError(f"no detector {spec!r}; expected {known}")
    _refuse_checkpoint(spec)
    if is_object_name(spec):
        found = load_object(spec, "detector")
        return as_detector(found() if isinstance(found, type) else found)
    if spec in _NETWORKS or _is_network(spec):
        _check_repository(spec, "/path/to/folder")
        from vision_mem.models.detectors.transformers import TransformersDetector

        return TransformersDetector(spec, **options)
    _check_typing(spec)
    if re.fullmatch(r"\w+", spec):
        log.warning(
            "%s is the name of no detector, so it is taken for a word: looking for it with %s",
            *(short(spec), _WORD_NETWORKS[0]),
        )
    return _words(spec, options)


def _refuse_checkpoint(spec: str) -> None:
    """Say how a checkpoint, or a name of a network that is not here, becomes a detector."""
    suffix = Path(spec).suffix.lower()
    if suffix == ".onnx":
        raise InputError(f"{shown(spec)} is an ONNX file: give --detect onnx:{short(spec)}")
    if suffix == ".pt":
        onnx = short(str(Path(spec).with_suffix(".onnx")), 200)
        raise InputError(
            f"{shown(spec)} is a checkpoint of Ultralytics or another program, which cannot be "
            f"opened here; run: yolo export model={short(spec, 200)} format=onnx, and give "
            f"--detect onnx:{onnx} (from Python its model may be a callable: open_detector(model))"
        )
    if suffix in _CHECKPOINTS:
        raise InputError(
            f"{shown(spec)} cannot be opened as a detector; export its network to ONNX with the "
            f"program it is of, and give --detect onnx:FILE. Otherwise choose {HOW}"
        )
    for word in _listed(spec):
        if re.fullmatch(r"yolo[\w.+ -]*", word, re.IGNORECASE):
            stem = re.sub(r"\W", "", word.removesuffix(".yaml")).lower()
            stem = "yolo11n" if re.fullmatch(r"yolov?", stem) else stem
            stem += "n" * stem[-1].isdecimal()
            raise InputError(
                f"{shown(word)} is a network of its own, not a thing to look for; run: yolo export "
                f"model={stem}.pt format=onnx, and give --detect onnx:{stem}.onnx (to look for "
                f"things of that name say words:{word}@grounding-dino)"
            )
        if word.lower().replace("_", "-").replace(" ", "-") in _FOREIGN_NETWORKS:
            raise InputError(
                f"{shown(word)} is a network that is not here; export it to ONNX and give "
                f"--detect onnx:FILE, or choose dfine or rtdetr (to look for things of that name "
                f"say words:{word}@grounding-dino)"
            )


def _is_network(spec: str) -> bool:
    """Whether this is a folder, or looks like an id on Hugging Face."""
    if "@" in spec:
        return False
    if (Path(spec).expanduser() / "config.json").is_file() or spec.startswith(("/", ".", "~")):
        return True
    return re.fullmatch(r"[\w.-]+/[\w.-]+", spec) is not None


def _check_repository(network: str, example: str) -> None:
    """Tell at once, before torch is imported, where there is no network to fetch it over."""
    name = DETECTORS.get(network, network)
    folder = Path(name).expanduser()
    elsewhere = folder.exists() or name.startswith(("/", ".", "~")) or name.count("/") != 1
    if has_transformers() and not elsewhere:
        check_fetchable(name, f": --detect {example}", DETECTORS.values())


def _motion(method: str) -> Detector:
    from vision_mem.models.detectors.motion import MotionConfig, MotionDetector

    if method not in _MOTION:
        raise InputError(
            f"motion:{method} is not known; expected motion:{' or motion:'.join(_MOTION)}"
            f"{nearest(method, _MOTION)}"
        )
    config = MotionConfig.upright() if method == "upright" else MotionConfig(method)
    return MotionDetector(config)


def _check_typing(spec: str) -> None:
    """Refuse words that are probably meant to be one of the names."""
    known = ("motion", *_NETWORKS, *_TORCHVISION, *_WORD_NETWORKS)
    for word in _listed(spec):
        close = difflib.get_close_matches(word.lower(), known, 1, 0.8)
        if close and close[0] in _WORD_NETWORKS:
            raise InputError(f'{close[0]} looks for words: give some, as in "red car@{close[0]}"')
        if close:
            raise InputError(
                f"no detector {word!r}; did you mean {close[0]}? To look for things of that name "
                f"say words:{word}@grounding-dino"
            )


def _listed(spec: str) -> list[str]:
    words = spec.partition("@")[0].split(",")
    return [word.strip() for word in words if word.strip()]


def _word_windows(spec: str, options: Mapping[str, Any]) -> Detector:
    if not _listed(spec):
        raise InputError('words are missing; expected some, such as words:"car, dog"')
    from vision_mem.models.detectors.class_windows import WordWindows
    from vision_mem.models.device import choose_device

    return WordWindows(_listed(spec), device=str(choose_device(options["device"])))


def _words(spec: str, options: Mapping[str, Any]) -> Detector:
    network = spec.partition("@")[2].strip()
    if (
        network
        and network not in _WORD_NETWORKS
        and not ("/" in network or Path(network).expanduser().exists())
    ):
        raise InputError(
            f"no network {network!r} that finds words; expected one of {', '.join(_WORD_NETWORKS)}"
            f", a folder or an id on Hugging Face{nearest(network, _WORD_NETWORKS)}"
        )
    if not _listed(spec):
        raise InputError('words are missing; expected some, such as "red car"')
    _check_repository(network or _WORD_NETWORKS[0], '"red car@/path/to/folder"')
    from vision_mem.models.detectors.transformers import WordsDetector

    return WordsDetector(_listed(spec), network or _WORD_NETWORKS[0], **options)


def _file(rest: str, frame_count: int | None, size: tuple[int, int] | None) -> Detector:
    from vision_mem.models.detectors.file_formats import FORMATS
    from vision_mem.models.detectors.files import FileDetector

    path, _, tail = rest.rpartition(":")
    format, *pairs = tail.split(",")
    if not path or (format not in (*FORMATS, "auto") and not _is_option(format)):
        # A colon of the path itself; or a format that is none, which has no separator in it.
        if path and not Path(rest).exists() and re.fullmatch(r"[\w-]+", format):
            raise InputError(
                f"no format {format!r} of detections; expected one of {', '.join(FORMATS)}"
                f"{nearest(format, list(FORMATS))}"
            )
        path, format, pairs = rest, "auto", []
    if _is_option(format):
        format, pairs = "auto", [format, *pairs]
    if not path:
        raise InputError("file: without a path; expected file:PATH or file:PATH:FORMAT")
    given: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in _FILE_OPTIONS or not value:
            expected = "box=xywh, first=1 or scores=percent"
            raise InputError(f"option {pair!r} of {path} is not known; expected {expected}")
        given[_FILE_OPTIONS[name]] = value
    if "first_frame" in given:
        if not given["first_frame"].isdecimal():
            raise InputError(f"first={given['first_frame']} is not a frame number from 0")
        given["first_frame"] = int(given["first_frame"])
    return FileDetector(path, format, frame_count=frame_count, size=size, **given)


def _is_option(text: str) -> bool:
    return text.partition("=")[0] in _FILE_OPTIONS and "=" in text
