"""Systems in one line of Python: ``vision_mem.track``, ``vision_mem.mots``, ``vision_mem.ask``.

Each opens a source, makes a session and gives its results: all of them as a list with its masks
packed, or one after the other with ``stream=True``, in constant memory. Boxes are corners here,
``(x1, y1, x2, y2)`` in pixels; the command line and text files say ``x,y,w,h``.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from vision_mem.config import is_object_name, load_config
from vision_mem.errors import InputError
from vision_mem.formats.annotation_rows import FrameRows, VideoAbout, rows_of
from vision_mem.formats.class_names import parse_classes
from vision_mem.formats.coco import write_coco
from vision_mem.formats.prompts import FIRST, PromptPlan, number_objects, read_init, read_mask
from vision_mem.formats.rle import MaskRuns, runs_of_masks
from vision_mem.models import load_segmenter
from vision_mem.models.vlm.load import load_video_model
from vision_mem.mots.config import MotsConfig, usual_preset
from vision_mem.results import Shown, as_table
from vision_mem.runs.folder import RunFolder, choose_folder, without_secret
from vision_mem.runs.loop import run
from vision_mem.runs.tally import count
from vision_mem.session import FrameSource, Sink, Steps
from vision_mem.sinks.annotations import AnnotationChoice, check_pictures, row_entries
from vision_mem.sinks.registry import MOTS_SINKS, SINKS, SinkKind, check_names, make_sinks
from vision_mem.sinks.window import LiveWindow
from vision_mem.sources.live import StopRun
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import check_exists, is_url
from vision_mem.tracking.config import TrackingConfig
from vision_mem.tracking.prompts import check_plan
from vision_mem.types import Event, Frame, Prompt, SourceInfo
from vision_mem.videoqa.config import SUFFIX
from vision_mem.videoqa.records import Answer

Found = TypeVar("Found")

_EMPTY: NDArray[np.bool_] = np.zeros((0, 0), bool)


# -- what comes out ----------------------------------------------------------------------------


class ResultStream(Iterator[Found]):
    """Results one after the other, as the source gives its frames; one pass.

    Attributes:
        info: the source: name, size, rate, length.
        folder: of what is saved; None when nothing is.

    Closing it, or leaving its ``with`` block, ends source and files early; its end does too.
    """

    def __init__(
        self, results: Iterator[Found], info: SourceInfo, folder: Path | None, close: ExitStack
    ) -> None:
        self.info, self.folder = info, folder
        self._results, self._close = results, close

    def __next__(self) -> Found:
        try:
            return next(self._results)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop, and finish the files; safe to call twice."""
        getattr(self._results, "close", lambda: None)()
        self._close.close()

    def __enter__(self) -> ResultStream[Found]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"results of {self.info.name}, one after the other: for result in ..."


class ResultList(Sequence[Found]):
    """All results of a run. Masks are kept packed, pictures are not kept.

    Attributes:
        info: the source: name, size, rate, length.
        folder: of what was saved; None when nothing was.
    """

    def __init__(
        self,
        results: Iterable[Found],
        info: SourceInfo,
        folder: Path | None = None,
        picture: Callable[[int], NDArray[np.uint8]] | None = None,
    ) -> None:
        self.info, self.folder = info, folder
        self._picture = picture
        self._packed = [_pack(each) for each in results]

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, which: int) -> Found: ...
    @overload
    def __getitem__(self, which: slice) -> list[Found]: ...
    def __getitem__(self, which: int | slice) -> Found | list[Found]:
        if isinstance(which, slice):
            return [self._unpack(each) for each in self._packed[which]]
        try:
            return self._unpack(self._packed[which])
        except TypeError:
            raise InputError(
                f"results are numbered; expected [0] or [5:10], not [{which!r}]"
            ) from None
        except IndexError:  # what a loop over numbers waits for
            there = count(len(self._packed), "frame")
            raise IndexError(f"there is no result {which}: this run has {there}") from None

    def __iter__(self) -> Iterator[Found]:
        return map(self._unpack, self._packed)

    def _unpack(self, packed: tuple[Any, MaskRuns | None]) -> Found:
        result, runs = packed
        if runs is None:
            return result  # type: ignore[no-any-return]
        objects = [replace(each, mask=runs.mask(n)) for n, each in enumerate(result.objects)]
        picture = self._picture
        got = None if picture is None else partial(picture, result.frame_index)
        made: Found = replace(result, **{_field(result): tuple(objects), "pixels": got})
        return made

    @property
    def events(self) -> list[Event]:
        """What happened, in order."""
        return [event for result, _ in self._packed for event in getattr(result, "events", ())]

    @property
    def names(self) -> list[str]:
        """The words for all objects there were, each once."""
        named = (each.name for result, _ in self._packed for each in _objects(result))
        return list(dict.fromkeys(named))

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row an object and frame: who, where, how sure.

        Boxes are ``x1``, ``y1``, ``x2``, ``y2``, NaN where the object is not to be seen. Of answers
        one row each.

        Raises:
            MissingExtra: when pandas is not installed.
        """
        if self._packed and self._packed[0][1] is None:
            return _answer_table([result for result, _ in self._packed])
        return as_table(_measured(self._packed))

    def to_coco(self) -> dict[str, Any]:
        """A data set of COCO's: videos, images, annotations, categories; as ``--save coco``."""

        def frames() -> Iterator[FrameRows]:
            for result in self:
                shown: Any = result
                line = {"frame": shown.frame_index, "time_s": shown.time_s, "size": shown.size}
                objects = row_entries(shown, AnnotationChoice())
                yield line, rows_of(line | {"objects": objects})

        info, pieces = self.info, list[str]()
        about = VideoAbout(info.name, info.name, info.width, info.height, info.fps)
        write_coco(pieces.append, frames, about)
        content: dict[str, Any] = json.loads("".join(pieces))
        return content

    def to_dict(self) -> list[dict[str, Any]]:
        """JSON-ready values, a frame each; see ``TrackingResult.to_dict``."""
        return [asdict(each) if isinstance(each, Answer) else _view(each) for each in self]

    def __repr__(self) -> str:
        if self._packed and self._packed[0][1] is None:
            return "\n".join(repr(result) for result, _ in self._packed)
        seen: dict[str, int] = {}
        for result, _ in self._packed:
            for each in _objects(result):
                seen[each.name] = seen.get(each.name, 0) + bool(each.present)
        said = [f"{name}: seen on {count}" for name, count in itertools.islice(seen.items(), 8)]
        more = [f"and {len(seen) - 8} more"] * (len(seen) > 8)
        frames = f"{len(self)} frame{'' if len(self) == 1 else 's'} of {self.info.name}"
        where = f"; files in {self.folder}" if self.folder else ""
        return "; ".join([frames, *said, *more]) + where


class AnswerList(ResultList[Answer]):
    """Answers in the order of the times they were asked for; of one question its fields too."""

    @property
    def text(self) -> str | None:
        """Of the only answer."""
        return self._only.text

    @property
    def evidence(self) -> tuple[Any, ...]:
        """The moments that the only answer rests on, best first."""
        return self._only.evidence

    @property
    def found(self) -> bool | None:
        """Whether the only answer has seen it; None from models that do not judge that."""
        return self._only.found

    @property
    def intervals(self) -> tuple[Any, ...]:
        """When the only answer has seen it, in time order."""
        return self._only.intervals

    @property
    def _only(self) -> Answer:
        if len(self) != 1:
            raise InputError(f"there are {len(self)} answers; take one of them, as answers[0]")
        return self[0]


def _view(result: Any) -> dict[str, Any]:
    values: dict[str, Any] = result.to_dict()
    return values


def _objects(result: Any) -> Sequence[Any]:
    return getattr(result, "objects", ())


def _field(result: Any) -> str:
    return "tracks" if hasattr(result, "tracks") else "objects"


def _pack(result: Any) -> tuple[Any, MaskRuns | None]:
    """A result without pixels, and the masks of its objects as run lengths."""
    if not hasattr(result, "objects"):
        return result, None
    runs = runs_of_masks([each.mask for each in result.objects], result.size)
    objects = tuple(replace(each, mask=_EMPTY) for each in result.objects)
    return replace(result, **{_field(result): objects, "pixels": None}), runs


def _measured(packed: Iterable[tuple[Any, MaskRuns | None]]) -> Iterator[Shown]:
    """Results whose masks have the right number of pixels, and nothing else of them."""
    for result, runs in packed:
        areas = () if runs is None else runs.areas.tolist()
        objects = tuple(
            replace(each, mask=np.ones((1, area), bool))
            for each, area in zip(result.objects, areas, strict=True)
        )
        yield replace(result, **{_field(result): objects})


def _answer_table(answers: Sequence[Answer]) -> Any:
    from vision_mem.results import needed

    rows = []
    for each in answers:
        best = each.evidence[0] if each.evidence else None
        rows.append({
            "at_s": each.at_s, "text": each.text, "scope": each.scope,
            "start_s": best and best.start_s, "end_s": best and best.end_s,
            "score": best and best.score,
        })  # fmt: skip
    return needed("pandas", "to_pandas").DataFrame(rows)


# -- the three systems --------------------------------------------------------------------------


def track(  # noqa: D417 -- several in a line
    source: Any,
    *,
    box: Any = None,
    point: Any = None,
    not_point: Any = None,
    mask: Any = None,
    init: str | Path | None = None,
    prompts: Sequence[Prompt] | Mapping[int, Sequence[Prompt]] | None = None,
    model: Any = "embedded",
    preset: str = "samurai",
    settings: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    save: Any = (),
    out: str | Path | None = None,
    show: bool = False,
    stream: bool = False,
    frames: bool = False,
    frames_every: int = 1,
    sure: float = 0.0,
    pad: str | float = 0,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    fps: float | None = None,
) -> ResultList[Any] | ResultStream[Any]:
    """Follow objects: ``for result in vision_mem.track("clip.mp4", box=(120, 80, 180, 170)): ...``.

    Args:
        source: a path, an address, a camera number, or RGB images ``(H, W, 3)`` uint8 in anything
            that can be iterated (OpenCV's are BGR: ``image[..., ::-1]``); see ``open_source``.
        box: corners ``(x1, y1, x2, y2)`` in pixels on the first frame; several of them; or
            ``{"dog": (x1, y1, x2, y2)}``. On the command line a box is ``x,y,w,h``.
        point: ``(x, y)`` on the object; several of them, all on one object; or by name.
        not_point: ``(x, y)`` off the object, likewise.
        mask: ``(H, W)`` bool, or whole numbers of which each but 0 is an object; a picture of such
            a mask; or by name.
        init: a file of prompts, see ``formats.prompts.read_init``.
        prompts: ``Prompt``s for the first frame, or by frame number. Prompts of one name belong to
            one object.
        model: a segmenter's name, see ``load_segmenter``; or a segmenter.
        preset: of the memory: ``samurai``, ``sam2``, ...; or a YAML file.
        settings: changes to it, ``key=value`` each.
        device: ``auto``, ``cpu``, ``cuda`` ...
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``.
        save: what to write, as ``--save`` of the command line: ``"video,coco"`` or a list, with
            sinks of your own among it; True for the usual.
        out: folder for it; ``runs/track/NAME`` when left out, numbered if that is taken.
        show: show a window while it runs; closing it ends the run.
        stream: give results as they come instead of a list; needed for what never ends.
        frames, frames_every, sure, pad: what goes into files of annotations: pictures too; every
            N-th frame; only frames whose objects are that sure; boxes with a margin, pixels
            as ``4`` or a part as ``"10%"``.
        start, end, stride, max_frames, fps: which frames, as ``open_source``.

    Returns:
        ``TrackingResult``s: a ``ResultList``, or with ``stream`` a ``ResultStream``.

    Raises:
        VisionMemError: for what cannot be opened, read, written or understood; one line.
    """
    plan = _planned(box, point, not_point, mask, init, prompts)
    config = load_config(TrackingConfig, preset, settings, folder="tracking")
    names, own = _save_words(save, SINKS, "video,lasot,diary")
    choice = AnnotationChoice(frames, frames_every, sure, str(pad))
    check_pictures(choice, names)
    frames_wanted = {
        "start": start, "end": end, "stride": stride, "max_frames": max_frames, "fps": fps
    }  # fmt: skip
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(source, stream, frames_wanted))
        check_plan(plan, opened.info, start, stride)
        folder = _folder("track", source, out) if names or out is not None else None
        place: dict[str, Any] = {"convention": "true" if config.inclusive_box else "samurai"}
        place |= {"annotations": choice, "source": _typed(source)}
        sinks = _sinks(folder, names, own, opened.info, SINKS, show, place)
        from vision_mem.tracking.session import PromptedSession, TrackingSession

        segmenter = _segmenter(model, device, precision)
        session = PromptedSession(TrackingSession(segmenter, config), plan, None)
        about = {"model": segmenter.traits.model_id, "config": asdict(config)}
        results = _results(opened, session, sinks, _record(folder, "track", source, about))
        return _given(results, opened.info, folder, source, stream, stack.pop_all())


def mots(  # noqa: D417 -- several in a line
    source: Any,
    detect: Any = "motion",
    *,
    every: int = 1,
    min_score: float = 0.0,
    only: Sequence[str] | str = (),
    region: str | None = None,
    classes: Sequence[str] = (),
    model: Any = "embedded",
    preset: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    save: Any = (),
    out: str | Path | None = None,
    show: bool = False,
    stream: bool = False,
    frames: bool = False,
    frames_every: int = 1,
    sure: float = 0.0,
    pad: str | float = 0,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    fps: float | None = None,
) -> ResultList[Any] | ResultStream[Any]:
    """Follow everything a detector finds: ``vision_mem.mots("street.mp4", detect="dfine")``.

    Args:
        source: as ``track``.
        detect: a detector's word as ``motion`` (a camera that stands still), ``"red car, person"``,
            ``dfine``, ``file:PATH``; a function of an image; or several; see ``open_detector``.
        every: detect on every N-th frame.
        min_score: leave out detections below it.
        only: classes to follow.
        region: where to detect: ``x,y,w,h``, ``xyxy:x1,y1,x2,y2``, or corners of a polygon.
        classes: ``WORD=CLASS`` for files of benchmarks.
        preset: of the rules; the one that goes with the detector when left out.
        model, settings, device, precision: as ``track``.
        save: what to write, as ``--save`` of ``mots``; True for the usual.
        out, show, stream, frames, frames_every, sure, pad: as ``track``.
        start, end, stride, max_frames, fps: as ``track``.

    Returns:
        ``MotsResult``s: a ``ResultList``, or with ``stream`` a ``ResultStream``.

    Raises:
        VisionMemError: for what cannot be opened, read, written or understood; one line.
    """
    words = list(detect) if isinstance(detect, (list, tuple)) else [detect]
    meant = parse_classes([classes] if isinstance(classes, str) else classes)
    spoken = [word for word in words if isinstance(word, str)]
    chosen = preset or (usual_preset(spoken) if len(spoken) == len(words) else "default")
    config = load_config(MotsConfig, chosen, settings, folder="mots")
    names, own = _save_words(save, MOTS_SINKS, "video,mot,events,tracks")
    choice = AnnotationChoice(frames, frames_every, sure, str(pad))
    check_pictures(choice, names)
    frames_wanted = {
        "start": start, "end": end, "stride": stride, "max_frames": max_frames, "fps": fps
    }  # fmt: skip
    from vision_mem.models import detectors
    from vision_mem.mots.session import DetectorSession, MotsSession
    from vision_mem.sinks.table import MotsTally, track_table

    with ExitStack() as stack:
        opened = stack.enter_context(_opened(source, stream, frames_wanted))
        info = opened.info
        detector = detectors.make_detector(
            words, every=every, min_score=min_score, region=region, device=device,
            only=only.split(",") if isinstance(only, str) else only, precision=precision,
            live=info.live, size=(info.height, info.width),
        )  # fmt: skip
        stack.callback(detector.close)
        folder = _folder("mots", source, out) if names or out is not None else None
        place = {"classes": meant, "annotations": choice, "source": _typed(source)}
        sinks = _sinks(folder, names, own, info, MOTS_SINKS, show, place)
        segmenter = _segmenter(model, device, precision)
        if not info.live and _lasts(source):
            excerpt = partial(_excerpt, source, stride, fps)
            detectors.learn_background(detector, excerpt, start, [])
        session = DetectorSession(MotsSession(segmenter, config), detector)
        tally = None
        if "tracks" in names and folder is not None:
            tally = MotsTally()
            folder.begin()
            tally.table = track_table(folder.path / f"{info.name}.tracks.csv")
            stack.callback(tally.finish)
        about = {"model": segmenter.traits.model_id, "config": asdict(config)}
        about |= {"detector": detector.name, "preset": chosen}
        results = _results(opened, session, sinks, _record(folder, "mots", source, about))
        if tally is not None:
            results = _counted(results, tally)
        return _given(results, info, folder, source, stream, stack.pop_all())


def ask(  # noqa: D417 -- several in a line
    source: Any,
    question: str | Sequence[str],
    *,
    at: float | None = None,
    scope: str = "auto",
    model: Any = "words",
    preset: str | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    memory: str | Path | None = None,
    save: bool | str = False,
    out: str | Path | None = None,
    show: bool = False,
    stream: bool = False,
    start: int = 0,
    end: int | None = None,
    stride: int = 1,
    max_frames: int | None = None,
    fps: float | None = None,
) -> AnswerList | ResultStream[Answer]:
    """Watch, then answer: ``vision_mem.ask("clip.mp4", "when is there a dog?")``.

    The default model finds the moments that a question is about (``answer.evidence``) and does
    not talk.

    Args:
        source: as ``track``; or a memory that was kept, ``FILE.vmem``.
        question: one or more.
        at: seconds from the beginning at which to ask; at the end when left out.
        scope: what is read: ``auto``, ``recent``, ``all``.
        model: a video model's name, see ``load_video_model``; or a model.
        preset: of the memory; ``search`` for models that do not talk, else ``default``.
        settings: changes to it, ``key=value`` each, as ``fps=1`` for how often it looks.
        memory: keep the memory in this file; one that is there goes on.
        save: True, or ``"answers"``: answers as JSON lines, with sheets of pictures.
        out: folder for it; ``runs/ask/NAME`` when left out, numbered if that is taken.
        show: show what is watched in a window.
        stream: give each answer when its time has come instead of a list.
        device, precision, start, end, stride, max_frames, fps: as ``track``.

    Returns:
        ``Answer``s: an ``AnswerList``, or with ``stream`` a ``ResultStream``.

    Raises:
        VisionMemError: for what cannot be opened, read or understood; one line.
    """
    questions = [question] if isinstance(question, str) else list(question)
    if not questions or not all(isinstance(each, str) and each.strip() for each in questions):
        raise InputError('there is no question; expected one, as "when is there a dog?"')
    if save not in (False, True, "answers", "", None):
        raise InputError(f"save is {save!r}; expected True or 'answers': what ask can write")
    from vision_mem.videoqa.evidence import FileSequence, ThumbnailSession, open_session
    from vision_mem.videoqa.store import MemoryFile

    kept = isinstance(source, (str, os.PathLike)) and os.fspath(source).endswith(SUFFIX)
    file = Path(source) if kept else None if memory is None else Path(memory)
    with ExitStack() as stack:
        frames: Any = None
        wanted = {
            "start": start, "end": end, "stride": stride, "max_frames": max_frames, "fps": fps
        }  # fmt: skip
        if not kept:
            frames = stack.enter_context(_opened(source, stream, wanted, asks=at is not None))
        brain = load_video_model(model, device=device, precision=precision) if isinstance(
            model, str
        ) else model  # fmt: skip
        known = MemoryFile(file) if file is not None and (kept or file.exists()) else None
        session = open_session(brain, preset, settings, known)
        if known is None and file is not None:
            about = {"model_id": brain.traits.model_id, "config": asdict(session.config)}
            known = MemoryFile(file, about | {"source": _shown_source(source)})
        if known is not None:
            stack.callback(known.close)
        watching = ThumbnailSession(session, known)
        chosen = session.config.frames != "raster"
        if frames is not None and (frames.info.live or _lasts(source) or chosen):
            # A memory that was shown this file goes on where it ended, another begins after it.
            frames = FileSequence(
                [_shown_source(source)], frames, partial(_again, source, wanted), watching.files,
                session.seen, session.config,
            )  # fmt: skip
        folder = _folder("ask", source, out) if save or out is not None else None
        info = frames.info if frames is not None else SourceInfo(file.stem if file else "", 1, 1, 1)
        window = [LiveWindow()] if show and frames is not None else []
        answers = _answers(watching, frames, questions, at, scope, folder, window)
        if stream:
            path = None if folder is None else folder.path
            return ResultStream(answers, info, path, stack.pop_all())
        return AnswerList(answers, info, None if folder is None else folder.path)


# -- parts ---------------------------------------------------------------------------------------


def _opened(source: Any, stream: bool, wanted: Mapping[str, Any], *, asks: bool = False) -> Any:
    """The source; refuses to make a list of what never ends."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if not is_url(text) and not text.isdecimal() and not is_object_name(text):
            check_exists(text)
    frames = open_source(source, **wanted)
    ends = stream or asks or wanted["max_frames"] is not None or wanted["end"] is not None
    if frames.info.live and not ends:
        frames.close()
        raise InputError(
            f"{frames.info.name} is live and may never end; give stream=True, or max_frames"
        )
    return frames


def _planned(
    box: Any, point: Any, not_point: Any, mask: Any, init: Any, prompts: Any
) -> PromptPlan:
    """Everything that was pointed at, by frame; one name is one object."""
    found: list[tuple[int, Prompt]] = []
    boxes = _named(box, "box", "four numbers x1, y1, x2, y2")
    clicks = {
        label: _named(given, what, "x, y")
        for label, given, what in ((1, point, "point"), (0, not_point, "not_point"))
    }
    names = list(dict.fromkeys([*boxes, *clicks[1], *clicks[0]]))
    for name in names:
        on, off = (
            np.concatenate([np.reshape(each, (-1, 2)) for each in clicks[label].get(name, ())])
            if name in clicks[label] else np.zeros((0, 2))
            for label in (1, 0)
        )  # fmt: skip
        points = np.concatenate([on, off]) if len(on) + len(off) else None
        labels = (
            None if points is None else np.repeat(np.array([1, 0], np.int32), [len(on), len(off)])
        )
        corners = boxes.get(name, [])
        if len(corners) > 1 and name is not None:
            raise InputError(f"{name!r} has {len(corners)} boxes; give each object a name")
        if len(corners) > 1 and points is not None:
            raise InputError("there are several boxes without a name; name what points belong to")
        if not corners and not len(on):
            raise InputError("there are only not_point clicks; add a point or a box on the object")
        for corner in corners or [None]:
            found.append((FIRST, Prompt(box=corner, points=points, labels=labels, name=name)))
    found += [(FIRST, prompt) for prompt in _masks(mask)]
    if init is not None:
        found += read_init(init)
    by_frame = prompts if isinstance(prompts, Mapping) else {FIRST: prompts or ()}
    for frame, some in by_frame.items():
        for each in [some] if isinstance(some, Prompt) else some:
            if not isinstance(each, Prompt) or not isinstance(frame, (int, np.integer)):
                raise InputError(
                    f"prompts hold {each!r} for frame {frame!r}; expected Prompts, or "
                    "{frame number: [Prompt(box=(x1, y1, x2, y2)), ...]}"
                )
            found.append((int(frame), each))
    if not found:
        raise InputError(
            "say what to follow: box=(x1, y1, x2, y2) in pixels, point=(x, y), mask= or prompts=; "
            'by name, as box={"dog": (120, 80, 180, 170)}'
        )
    return PromptPlan(number_objects(found))


def _named(given: Any, what: str, expected: str) -> dict[str | None, list[Any]]:
    """Arrays by name; those without a name under None."""
    if given is None:
        return {}
    count = len(expected.split(", "))
    items = given.items() if isinstance(given, Mapping) else [(None, given)]
    found: dict[str | None, list[Any]] = {}
    for name, values in items:
        try:
            if isinstance(values, str):
                raise ValueError
            array = np.asarray(values, dtype=np.float64)
            good = array.ndim in (1, 2) and array.shape[-1] == count and array.size > 0
        except (TypeError, ValueError):
            good = False
        if not good:
            hint = "; on the command line it is x,y,w,h" if what == "box" else ""
            raise InputError(f"{what} is {values!r}; expected {expected}, or several{hint}")
        found.setdefault(None if name is None else str(name), []).extend(
            np.reshape(array, (-1, count))
        )
    return found


def _masks(given: Any) -> Iterator[Prompt]:
    if given is None:
        return
    for name, value in given.items() if isinstance(given, Mapping) else [(None, given)]:
        if isinstance(value, (str, os.PathLike)):
            yield from read_mask(os.fspath(value), name)
            continue
        array = np.asarray(value)
        if array.ndim != 2 or array.dtype.kind not in ("b", "u", "i"):
            raise InputError(
                f"a mask has shape {array.shape} and type {array.dtype}; expected (H, W) bool, or "
                "whole numbers of which each but 0 is an object"
            )
        values = [True] if array.dtype == bool else [v for v in np.unique(array) if v]
        if not values or not array.any():
            raise InputError("a mask marks no pixel; expected at least one: mark the object")
        stem = name or "object"
        for one in values:
            called = name if len(values) == 1 else f"{stem}-{one}"
            yield Prompt(mask=array == one, name=called)


def _save_words(
    save: Any, table: Mapping[str, SinkKind], usual: str
) -> tuple[list[str], list[Any]]:
    """Names of a table, and sinks of the caller's own."""
    if save is True:
        save = usual
    given = [save] if isinstance(save, str) or hasattr(save, "write") else list(save or ())
    names: list[str] = []
    own = []
    for each in given:
        if isinstance(each, str):
            names += [word.strip() for word in each.split(",") if word.strip()]
        elif all(hasattr(each, key) for key in ("open", "write", "close")):
            own.append(each)
        else:
            raise InputError(f"save holds {each!r}; expected {', '.join(table)}, or a sink")
    return check_names(names, table), own


def _shown_source(source: Any) -> str:
    """A source as records and folders name it."""
    if isinstance(source, (str, os.PathLike)):
        return without_secret(os.fspath(source))
    return str(source) if isinstance(source, (int, np.integer)) else "array"


def _typed(source: Any) -> str:
    """A path or address as it was given; "" for what else there is."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""


def _folder(command: str, source: Any, out: str | Path | None) -> RunFolder:
    return choose_folder(command, _shown_source(source), None if out is None else Path(out))


def _sinks(
    folder: RunFolder | None, names: list[str], own: list[Any], info: SourceInfo,
    table: Mapping[str, SinkKind], show: bool, place: Mapping[str, Any],
) -> list[Any]:  # fmt: skip
    made = [] if folder is None else make_sinks(folder.path, names, info, table=table, **place)
    if show and "window" not in names:
        made += make_sinks(Path(), ["window"], info, table=table)
    return [*made, *own]


def _segmenter(model: Any, device: str, precision: str) -> Any:
    if not isinstance(model, (str, os.PathLike)):
        return model
    return load_segmenter(os.fspath(model), device=device, precision=precision)


def _lasts(source: Any) -> bool:
    """Whether a source gives the same frames again when it is opened once more."""
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        return not is_url(text) and not text.isdecimal()
    return isinstance(source, (Sequence, np.ndarray))


def _excerpt(source: Any, stride: int, fps: float | None, begin: int, end: int) -> Iterator[Frame]:
    with open_source(source, start=begin, end=end, stride=stride, fps=fps) as frames:
        yield from frames


def _again(source: Any, wanted: Mapping[str, Any], number: int, whole: bool) -> FrameSource:
    """The source once more; with ``whole`` from its first frame on."""
    return open_source(source, **{**wanted, "start": 0} if whole else wanted)


def _picture(source: Any, index: int) -> NDArray[np.uint8]:
    """The image of a frame, read again."""
    with open_source(source, start=index, max_frames=1) as frames:
        return next(iter(frames)).image


@dataclass
class _Record:
    """The record of a run in its folder, and how the run ended."""

    folder: RunFolder
    frames: int = 0

    def begin(self, info: SourceInfo, about: Mapping[str, Any]) -> None:
        self.folder.begin()
        self.folder.record(status="running", source_info=asdict(info), **about)

    def end(self, status: str) -> None:
        self.folder.record(status=status, frames=self.frames, files=self.folder.files())


def _record(
    folder: RunFolder | None, command: str, source: Any, about: Mapping[str, Any]
) -> Callable[[SourceInfo], _Record | None]:
    def begun(info: SourceInfo) -> _Record | None:
        if folder is None:
            return None
        record = _Record(folder)
        record.begin(info, {"command": command, "source": _shown_source(source), **about})
        return record

    return begun


def _results(
    frames: FrameSource,
    session: Steps[Any],
    sinks: Sequence[Sink[Any]],
    begun: Callable[[SourceInfo], _Record | None],
) -> Iterator[Any]:
    """Results, while they go into the sinks; closing the window ends them."""
    record, status = begun(frames.info), "stopped"
    try:
        for _, result in run(frames, session, sinks):
            if record is not None:
                record.frames += 1
            yield result
        status = "finished"
    except StopRun:
        pass
    except GeneratorExit:
        raise
    except BaseException:
        status = "failed"
        raise
    finally:
        if record is not None:
            record.end(status)


def _counted(results: Iterator[Any], tally: Any) -> Iterator[Any]:
    for result in results:
        tally.add(result)
        yield result


def _given(
    results: Iterator[Any], info: SourceInfo, folder: RunFolder | None, source: Any,
    stream: bool, stack: ExitStack,
) -> ResultList[Any] | ResultStream[Any]:  # fmt: skip
    path = None if folder is None else folder.path
    flow = ResultStream(results, info, path, stack)
    if stream:
        return flow
    with flow:
        return ResultList(flow, info, path, partial(_picture, source) if _lasts(source) else None)


@dataclass(frozen=True)
class _WatchedFrame:
    """What a window shows of a frame that is only watched."""

    frame_index: int
    time_s: float
    size: tuple[int, int]
    objects: tuple[Any, ...] = ()
    events: tuple[Event, ...] = ()


def _answers(
    watching: Any, frames: FrameSource | None, questions: Sequence[str], at: float | None,
    scope: str, folder: RunFolder | None, window: Sequence[Sink[Any]],
) -> Iterator[Answer]:  # fmt: skip
    """Watch; answer when the time has come, or at the end."""
    from vision_mem.videoqa.evidence import AnswerLog, spans_of

    session = watching.session
    with ExitStack() as stack:
        log = None
        if folder is not None:
            folder.begin()
            log = AnswerLog(folder.path, watching)
            stack.callback(log.close)
        for each in window if frames is not None else ():
            stack.callback(each.close)
            each.open(frames.info)  # type: ignore[union-attr]

        def answer(question: str, when: float | None) -> Answer:
            found: Answer = session.ask(question, at=when, scope=scope)
            if log is not None:
                gap = 1.5 / (session.config.fps or 1e9)
                log.add(question, found, spans_of(found.evidence, gap, watching.files))
            return found

        origin, seconds, waiting = None, 0.0, list(questions)
        for frame in frames if frames is not None else ():
            origin = frame.time_s if origin is None else origin
            seconds = frame.time_s - origin
            if at is not None and seconds > at:
                while waiting:
                    yield answer(waiting.pop(0), None)
                if watching.file is None:
                    break  # a memory that is kept gets the rest too
            watching.step(frame)
            try:
                for each in window:
                    shown: Any = _WatchedFrame(frame.index, frame.time_s, frame.size)
                    each.write(frame, shown)
            except StopRun:
                break
        watching.finish()
        if waiting and at is not None and frames is not None and at > seconds + 1.0:
            raise InputError(f"at is {at:g} s, but the source ends after {seconds:.1f} s")
        when = None if at is None or frames is not None else at
        while waiting:
            yield answer(waiting.pop(0), when)
