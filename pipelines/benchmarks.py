"""What an evaluation is to run: a plan for each family of benchmarks, and who loads the models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.models import load_segmenter, use_threads
from vision_mem.runs.tally import count

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.engine.run import Workplace
    from vision_mem.evaluation.engine.runner import Job, MakeSession
    from vision_mem.evaluation.mots.job import FramesOf, MotsWorker
    from vision_mem.models.detectors import Detector
    from vision_mem.models.segmenters.protocol import Segmenter
    from vision_mem.mots import MotsConfig
    from vision_mem.tracking import TrackingConfig, TrackingSession

CROWDS = Path("runs/crowds")
"""Where generated crowds lie when --root is not given."""

_OF_SEQUENCES = ("file", "public", "truth")
"""Detectors that are another one for each sequence."""


@dataclass(frozen=True)
class Request:
    """What was asked for, whichever family of benchmarks answers."""

    dataset: str
    root: Path | None
    preset: str | None
    changes: Sequence[str]
    model: str
    model_config: str | None
    precision: str
    attention: str
    compile: bool
    resize: str
    init: str
    sequences: str | None
    limit: int | None
    shard: str | None
    devices: str
    workers: int | None
    threads: int
    ray: str | None
    out: Path | None
    strict: bool
    overwrite: bool
    quiet: bool
    detect: str | None = None
    classes: Sequence[str] = ()
    split: str | None = None
    crowd: Sequence[str] = ()
    tasks: str | None = None
    asking: Sequence[str] = ()
    stream: Sequence[str] = ()
    scene: Sequence[str] = ()
    room: Sequence[str] = ()

    def model_on(self, device: str) -> Segmenter:
        """The model, loaded."""
        use_threads(self.threads)
        return load_segmenter(
            self.model, config=self.model_config, device=device, precision=self.precision,
            compile=self.compile, resize=self.resize, attention=self.attention,
        )  # fmt: skip

    def place_of(self) -> Path:
        """The benchmark's folder.

        Raises:
            InputError: when it was not given.
        """
        if self.root is None:
            raise InputError(f"missing option --root: the folder of {self.dataset}")
        return self.root

    @property
    def of_questions(self) -> dict[str, object]:
        """Options that only sets of questions have."""
        return {"--tasks": self.tasks, "--ask": self.asking, "--stream": self.stream}

    def refuse(self, kind: str, options: Mapping[str, object]) -> None:
        """Refuse options that say nothing about a kind of set.

        Raises:
            InputError: when one of them was given.
        """
        given = [name for name, value in options.items() if value]
        if given:
            raise InputError(f"{self.dataset} has {kind}; leave out {', '.join(given)}")


@dataclass(frozen=True)
class EvaluationPlan:
    """What to run, whichever family of benchmarks it is.

    Attributes:
        key, title, notes: of the benchmark.
        preset: its name, for files and tables.
        identity: what all results in a folder have in common, beside model and version.
        jobs: what to run.
        make: loads the model.
        sum_up: scores all that is in the folder, or packs it; gets the tracker's name.
        tracker: that name.
        around: what speed "end to end" counts beside tracking.
    """

    key: str
    title: str
    notes: Sequence[str]
    preset: str
    identity: Mapping[str, object]
    jobs: Sequence[Job]
    make: MakeSession
    sum_up: Callable[[EvaluationFolder, str], list[str]]
    tracker: str
    around: str = "reading files"


@dataclass(frozen=True)
class MakeTracker:
    """Loads the model on a device and makes a session; travels to other processes."""

    request: Request
    config: TrackingConfig

    def __call__(self, device: str) -> TrackingSession:
        """A session with the model on ``device``."""
        from vision_mem.tracking import TrackingSession

        return TrackingSession(self.request.model_on(device), self.config)


@dataclass(frozen=True)
class MakeMots:
    """The same for many objects, with a detector."""

    request: Request
    config: MotsConfig
    detect: str

    def __call__(self, device: str) -> MotsWorker:
        """A session with the model on ``device``, and what opens detectors there."""
        from vision_mem.evaluation.mots.job import MotsWorker
        from vision_mem.mots import MotsSession

        segmenter = self.request.model_on(device)
        if segmenter.traits.parallel:
            use_threads(1)  # objects share the cores, not the layers of one object
        session = MotsSession(segmenter, self.config, self.request.threads)
        return MotsWorker(session, DetectorOpener(self.detect, device, self.request.precision))


class DetectorOpener:
    """Opens detectors of a worker; a network is loaded once, and first of all."""

    def __init__(self, word: str, device: str, precision: str) -> None:
        self._device, self._precision = device, precision
        self._shared: Detector | None = None
        if word.partition(":")[0] not in _OF_SEQUENCES:
            self._shared = self._open(word)

    def __call__(
        self, word: str, *, frame_count: int, size: tuple[int, int] | None, frames: FramesOf
    ) -> Detector:
        """The detector for a sequence, as before its first frame."""
        from vision_mem.models.detectors import learn_background

        if self._shared is None:
            return self._open(word, frame_count, size)
        self._shared.reset()
        learn_background(self._shared, frames, 0, ())
        return self._shared

    def _open(
        self, word: str, frame_count: int | None = None, size: tuple[int, int] | None = None
    ) -> Detector:
        from vision_mem.models.detectors import open_detector

        return open_detector(
            word, device=self._device, precision=self._precision, frame_count=frame_count, size=size
        )


def shard_of(request: Request) -> tuple[int, int] | None:
    """The share of the sequences that is asked for."""
    from vision_mem.evaluation.selection import parse_shard

    return None if request.shard is None else parse_shard(request.shard)


def place_of(request: Request) -> Workplace:
    """Where to run."""
    from vision_mem.evaluation.engine.run import Workplace

    devices = tuple(name.strip() for name in request.devices.split(","))
    return Workplace(devices, request.workers, request.ray)


def plan_prompted(request: Request) -> EvaluationPlan:
    """Benchmarks of one object, or given masks, followed from the first frame."""
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.evaluation.engine.run import sum_up
    from vision_mem.evaluation.selection import choose_sequences
    from vision_mem.evaluation.sot.datasets.open import open_benchmark
    from vision_mem.evaluation.sot.job import PromptedJob
    from vision_mem.evaluation.sot.result_files import layout_of
    from vision_mem.tracking import TrackingConfig

    request.refuse(
        "objects that are given",
        {
            "--detect": request.detect, "--classes": request.classes, "--split": request.split,
            "--crowd": request.crowd, **request.of_questions,
        },
    )  # fmt: skip
    preset = request.preset or "samurai"
    config = load_config(TrackingConfig, preset, request.changes, folder="tracking")
    benchmark = open_benchmark(request.dataset, request.place_of())
    chosen = choose_sequences(
        benchmark.sequences, names=request.sequences, limit=request.limit, shard=shard_of(request)
    )
    jobs = [
        PromptedJob(sequence, layout_of(benchmark, sequence), request.init, request.strict)
        for sequence in chosen
    ]
    tracker = f"{Path(preset).stem} {Path(request.model).name}"
    return EvaluationPlan(
        benchmark.key, benchmark.title, benchmark.notes, preset,
        {"init": request.init, **asdict(config)}, jobs, MakeTracker(request, config),
        partial(sum_up, benchmark), tracker,
    )  # fmt: skip


def plan_detected(request: Request) -> EvaluationPlan:
    """Benchmarks of many objects that a detector finds."""
    from vision_mem.evaluation.mots import open_mot_benchmark
    from vision_mem.evaluation.mots.detections import PUBLIC, TRUTH, detector_word
    from vision_mem.evaluation.mots.job import DetectedJob
    from vision_mem.evaluation.mots.summary import sum_up_tracks
    from vision_mem.evaluation.selection import choose_sequences
    from vision_mem.formats.class_names import parse_classes
    from vision_mem.mots.config import MotsConfig, usual_preset

    generated = request.dataset == "crowds"
    given = {"--init": request.init != "auto", **request.of_questions}
    request.refuse("objects that a detector finds", given)
    if not generated:
        request.refuse("its own sequences", {"--crowd": request.crowd})
    detect = (request.detect or PUBLIC).strip()
    preset = request.preset or usual_preset([detect])
    config = load_config(MotsConfig, preset, request.changes, folder="mots")
    classes = tuple(sorted(parse_classes(request.classes).items()))
    crowd = _prepare(request) if generated else {}
    root = request.root or CROWDS if generated else request.place_of()
    benchmark = open_mot_benchmark(request.dataset, root, split=request.split)
    if detect == TRUTH:
        title = f"{benchmark.title}, its truth boxes as detections (an oracle)"
        benchmark = replace(benchmark, title=title)
    chosen = choose_sequences(
        benchmark.sequences, names=request.sequences, limit=request.limit, shard=shard_of(request)
    )
    jobs = [
        DetectedJob(
            each, benchmark.rules, benchmark.title, detector_word(detect, benchmark, each),
            classes, request.strict,
        )
        for each in chosen
    ]  # fmt: skip
    identity = {
        "split": request.split, "detect": detect, "classes": [list(pair) for pair in classes],
        "crowd": crowd, **asdict(config),
    }  # fmt: skip
    kind = detect.partition(":")[0]
    shown = kind if kind in _OF_SEQUENCES else detect
    tracker = f"{Path(preset).stem} {Path(request.model).name} {shown}"
    return EvaluationPlan(
        benchmark.key, benchmark.title, benchmark.notes, preset, identity, jobs,
        MakeMots(request, config, detect), partial(sum_up_tracks, benchmark), tracker,
        "detecting and reading files",
    )  # fmt: skip


def _pairs(words: Sequence[str]) -> list[str]:
    return [pair.strip() for word in words for pair in word.split(",") if pair.strip()]


def _prepare(request: Request) -> dict[str, object]:
    """Generated crowds on disk, written where there are none."""
    from vision_mem.synthetic.crowd_sets import CrowdSeries, prepare_crowd

    series = load_config(CrowdSeries, None, _pairs(request.crowd), folder="crowds")
    root = request.root or CROWDS
    if not request.quiet and not root.is_dir():
        print(
            f"writing {count(series.sequences, 'generated sequence')} of "
            f"{count(series.frames, 'frame')} to {root}", file=sys.stderr,
        )  # fmt: skip
    return prepare_crowd(root, series if request.crowd else None)
