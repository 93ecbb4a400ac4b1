"""Benchmarks of many objects that a detector finds, with identities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.evaluation.mots.datasets import MOT_BENCHMARKS, open_mot_benchmark
from vision_mem.evaluation.options import (
    INPUT,
    MODEL,
    PARTIAL,
    Option,
    ScoreOptions,
    SegmenterOptions,
    Words,
    made_set,
    place_of,
    preset_option,
)
from vision_mem.evaluation.registry import Family, chosen_part
from vision_mem.models.segmenters.load import check_model
from vision_mem.runs.tally import count

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.engine.run import EvaluationPlan
    from vision_mem.evaluation.mots.job import FramesOf, MotsWorker
    from vision_mem.evaluation.mots.records import MotBenchmark
    from vision_mem.models.detectors.protocol import Detector
    from vision_mem.mots import MotsConfig

GENERATED = "crowds"
CROWDS = Path("runs/crowds")
"""Where generated crowds lie when --root is not given."""

SERVERS: Mapping[str, str] = {
    "kitti-mots": "https://www.cvlibs.net/datasets/kitti/eval_mots.php",
    "kitti-mot": "https://www.cvlibs.net/datasets/kitti/eval_tracking.php",
    "mots-challenge": "https://motchallenge.net",
    "mot15": "https://motchallenge.net",
    "mot17": "https://motchallenge.net",
    "mot20": "https://motchallenge.net",
}
"""Where results on sequences without truth are sent in, by the word for a set."""

SPLIT = Annotated[
    str | None,
    Option("val, train, training, testing, test; of MOT17 also DPM, FRCNN, SDP or all.", INPUT),
]
_OF_SEQUENCES = ("file", "public", "truth")
"""Detectors that are another one for each sequence."""


@dataclass(frozen=True)
class MotsRunOptions(SegmenterOptions):
    """What a run on such a set may be told."""

    preset: Annotated[str | None, preset_option("mots", "default; motion with --detect motion")] = (
        None
    )
    detect: Annotated[
        str,
        Option(
            "public (the set's own), public:DIR, file:DIR/{sequence}.txt:FORMAT, truth (an "
            "oracle), motion, dfine, ...",
            MODEL,
        ),
    ] = "public"
    classes: Annotated[
        Words, Option("DETECTOR'S WORD=CLASS of the set, ..., as truck=car.", MODEL)
    ] = None
    split: SPLIT = None


@dataclass(frozen=True)
class CrowdRunOptions(MotsRunOptions):
    """The same for crowds, which are made where there are none."""

    crowd: Annotated[
        Words, Option("key=value, as sequences=4, frames=60, objects=6, seed=1.", INPUT)
    ] = None


@dataclass(frozen=True)
class MotsScoreOptions(ScoreOptions):
    """How results on such a set are scored."""

    partial: PARTIAL = False
    split: SPLIT = None


@dataclass(frozen=True)
class MakeMots:
    """Loads the model on a device, with a detector; travels to other processes."""

    options: MotsRunOptions
    config: MotsConfig

    def __call__(self, device: str) -> MotsWorker:
        """A session with the model on ``device``, and what opens detectors there."""
        from vision_mem.evaluation.mots.job import MotsWorker
        from vision_mem.models import use_threads
        from vision_mem.mots import MotsSession

        segmenter = self.options.load_on(device)
        if segmenter.traits.parallel:
            use_threads(1)  # objects share the cores, not the layers of one object
        session = MotsSession(segmenter, self.config, self.options.threads)
        opener = DetectorOpener(self.options.detect.strip(), device, self.options.precision)
        return MotsWorker(session, opener)


class DetectorOpener:
    """Opens detectors of a worker; a network is loaded once, and first of all."""

    def __init__(self, word: str, device: str, precision: str) -> None:
        self._device, self._precision = device, precision
        self._shared: Detector | None = None
        if word.partition(":")[0] not in _OF_SEQUENCES:
            self._shared = self._open(word)

    def __call__(
        self, word: str, *, frame_count: int | None, size: tuple[int, int] | None, frames: FramesOf
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


class MotsFamily(Family):
    """Many objects; a set of one's own is a row in ``MOT_BENCHMARKS``."""

    line = "many objects that a detector finds"
    datasets = MOT_BENCHMARKS

    def options(self, dataset: str) -> type[MotsRunOptions]:
        """What a run may be told."""
        return CrowdRunOptions if dataset == GENERATED else MotsRunOptions

    def plan(
        self, dataset: str, options: MotsRunOptions, say: Callable[[str], None]
    ) -> EvaluationPlan:
        """What is to be run, see ``registry.Family``."""
        options.check(options.preset or "default", "mots", options.model, check_model)
        crowds = isinstance(options, CrowdRunOptions)
        root = options.root or CROWDS if crowds else place_of(options.root, dataset)
        # torch takes seconds to import; slips of the pen are told before.
        from vision_mem.evaluation.engine.run import EvaluationPlan
        from vision_mem.evaluation.mots.detections import TRUTH, detector_word
        from vision_mem.evaluation.mots.job import DetectedJob
        from vision_mem.formats.class_names import parse_classes
        from vision_mem.mots.config import MotsConfig, usual_preset

        detect, changes = options.detect.strip(), options.changes or ()
        preset = options.preset or usual_preset([detect])
        config = load_config(MotsConfig, preset, changes, folder="mots")
        classes = tuple(sorted(parse_classes(options.classes or ()).items()))
        made = _crowds(root, options, say) if isinstance(options, CrowdRunOptions) else {}
        benchmark = open_mot_benchmark(dataset, root, split=options.split)
        if detect == TRUTH:
            title = f"{benchmark.title}, its truth boxes as detections (an oracle)"
            benchmark = replace(benchmark, title=title)
        jobs = [
            DetectedJob(
                each, benchmark.rules, benchmark.title, detector_word(detect, benchmark, each),
                classes, options.strict,
            )
            for each in options.choose(benchmark.sequences)
        ]  # fmt: skip
        identity = {
            **options.model_identity, "split": options.split, "detect": detect,
            "classes": [list(pair) for pair in classes], "crowd": made, **asdict(config),
        }  # fmt: skip
        kind = detect.partition(":")[0]
        shown = kind if kind in _OF_SEQUENCES else detect
        tracker = f"{Path(preset).stem} {Path(options.model).name} {shown}"
        return EvaluationPlan(
            benchmark.key, benchmark.title, benchmark.notes, preset, changes, identity, jobs,
            MakeMots(options, config),
            partial(self.sum_up, benchmark, MotsScoreOptions(partial=True, split=options.split)),
            tracker,
            options.workplace, "detecting and reading files",
        )  # fmt: skip

    def scoring(self, dataset: str) -> type[MotsScoreOptions]:
        """How results may be scored."""
        return MotsScoreOptions

    def open(self, dataset: str, options: MotsScoreOptions) -> MotBenchmark:
        """The set, or the chosen part of it."""
        root = place_of(options.root, dataset, CROWDS if dataset == GENERATED else None)
        many = open_mot_benchmark(dataset, root, split=options.split, need_frames=False)
        return chosen_part(many, options.sequences)

    def results(self, path: Path, benchmark: Any, options: Any, name: str | None) -> Any:
        """The files of one tracker."""
        from vision_mem.evaluation.mots.results import MotResults

        return MotResults(path, benchmark, name)

    def score(
        self, benchmark: Any, results: Any, options: Any, on_sequence: Callable[[str], None]
    ) -> Any:
        """Their score."""
        from vision_mem.evaluation.mots.datasets.motchallenge import other_copies
        from vision_mem.evaluation.mots.scores import score_tracks

        if options.split == "all":  # copies that are neither in the set nor among the results
            here = [
                each for each in benchmark.sequences
                if results.holds(each) or each.truth is None or each.name in each.truth.parts
            ]  # fmt: skip
            benchmark = replace(benchmark, sequences=tuple(here))
        others = other_copies([each.name for each in benchmark.sequences], results.has_text)
        if others and not any(map(results.holds, benchmark.sequences)):
            raise InputError(
                f"{results.path} has results for {', '.join(others)} alone, and other copies are "
                f"taken; give --split {' or --split '.join(others)}"
            )
        score = score_tracks(benchmark, results, partial=options.partial, on_sequence=on_sequence)
        more = f"results for {', '.join(others)} are there too, and are scored with --split"
        return replace(score, notes=(*score.notes, more)) if others else score

    def sum_up(
        self, benchmark: Any, options: Any, folder: EvaluationFolder, tracker: str
    ) -> list[str]:
        """Score what is there, see ``Family``; or pack it for the server that keeps the truth."""
        known = tuple(each for each in benchmark.sequences if each.truth is not None)
        if not known:
            return _pack(benchmark, folder)
        scored = replace(benchmark, sequences=known)
        with self.results(folder.results, scored, options, tracker) as results:
            if not any(results.holds(each) for each in known):
                return ["nothing to score: no sequence with results has its truth here"]
        return super().sum_up(scored, options, folder, tracker)


def _crowds(root: Path, options: CrowdRunOptions, say: Callable[[str], None]) -> dict[str, Any]:
    from vision_mem.synthetic.crowd_sets import CrowdSeries, prepare_crowd

    return made_set(
        root, CrowdSeries, options.crowd, prepare_crowd, say,
        lambda some: f"{count(some.sequences, 'generated sequence')} of "
        f"{count(some.frames, 'frame')}",
    )  # fmt: skip


def _pack(benchmark: MotBenchmark, folder: EvaluationFolder) -> list[str]:
    """``NAME.txt`` of all sequences, and nothing else."""
    from vision_mem.evaluation.engine.folder import write_zip
    from vision_mem.evaluation.mots.job import DetectedJob

    jobs = [
        DetectedJob(each, benchmark.rules, benchmark.title, "truth") for each in benchmark.sequences
    ]
    if missing := folder.undone(jobs):
        return [
            f"no submission yet: {len(missing)} sequences to go, the first is {missing[0].name}"
        ]
    write_zip(folder.submission, folder.results, [job.file for job in jobs])
    notes = [f"submission: {folder.submission}"]
    notes += [f"send it in at {SERVERS[benchmark.key]}"] if benchmark.key in SERVERS else []
    if benchmark.key == "mot17":
        notes.append("the server of MOT17 expects a file for each of DPM, FRCNN and SDP")
    return notes


FAMILY = MotsFamily()
