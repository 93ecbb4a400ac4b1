"""Benchmarks of depth, camera paths and points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.evaluation.options import (
    ADVANCED,
    CHANGES,
    INPUT,
    MODEL,
    PARTIAL,
    STRICT,
    Option,
    RunOptions,
    ScoreOptions,
    Words,
    made_set,
    pairs_of,
    place_of,
    preset_option,
)
from vision_mem.evaluation.reconstruction.datasets import (
    DEPTH,
    POINTS,
    POSE,
    ROOMS,
    SCENE_SETS,
    TASKS,
    open_scene_set,
    split_key,
)
from vision_mem.evaluation.registry import Dataset, Family, chosen_part
from vision_mem.runs.tally import count
from vision_mem.text import read_json

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.engine.run import EvaluationPlan
    from vision_mem.evaluation.reconstruction.records import SceneSet
    from vision_mem.evaluation.reconstruction.scene_models import SceneModel, SceneWorker
    from vision_mem.evaluation.reconstruction.sequence_scores import SceneRules

GENERATED = Path("runs/rooms")
"""Where generated rooms lie when --root is not given."""
_GEOMETRIC, _RANDOM = "geometric", "random:"
_WEIGHTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class SceneRunOptions(RunOptions):
    """What a run on such a set may be told."""

    scene: Annotated[
        Words, Option("key=value, as align=scale+metric, poses=given, feed=all, frames=500.", INPUT)
    ] = None
    model: Annotated[str, Option("geometric, a file of weights, or random:nano-48.", MODEL)] = (
        _GEOMETRIC
    )
    preset: Annotated[str | None, preset_option("reconstruction", "default")] = None
    changes: CHANGES = None
    strict: Annotated[bool, Option("Scored without the field's quirks.", ADVANCED)] = False


@dataclass(frozen=True)
class RoomRunOptions(SceneRunOptions):
    """The same for generated rooms, which are made where there are none."""

    room: Annotated[
        Words, Option("key=value, as rooms=4, frames=96, width=96, seed=2000100.", INPUT)
    ] = None


@dataclass(frozen=True)
class SceneScoreOptions(ScoreOptions):
    """How results on such a set are scored."""

    strict: STRICT = False
    partial: PARTIAL = False
    scene: Annotated[
        Words,
        Option(
            "key=value, as align=scale+metric, compat=adam, unit=0.0002, cloud=world, "
            "frames=500, stride=1.",
            INPUT,
        ),
    ] = None


@dataclass(frozen=True)
class PathScoreOptions(SceneScoreOptions):
    """The same for camera paths, which may also be two plain files."""

    truth: Annotated[
        Path | None,
        Option(
            "Instead of --root: a file with the true path, TUM or KITTI; so are results.", INPUT
        ),
    ] = None
    over: Annotated[
        float | None,
        Option("RPE over so many metres of the true path too [1 with --truth].", ADVANCED),
    ] = None


@dataclass(frozen=True)
class SceneSettings:
    """What ``--scene key=value`` sets.

    Attributes:
        align: of depth: scale, scale&shift, median, metric; several with + between.
        compat: scale&shift by irls (the least sum of errors), or by adam, as published.
        poses: of points: found, or given to the model.
        feed: of points: views (only the frames that are compared), all, or auto: all for models
            that follow the camera from frame to frame.
        frames: at most so many a sequence; 0: as published.
        stride: every how many; 0: as published.
        unit: metres of one unit of depth maps of whole numbers, in results.
        cloud: axes of clouds without pixels, in results: of the first camera, or of the world.
        quaternion: of paths, in results: xyzw as TUM defines it, or wxyz as CUT3R writes it.
        apart: of paths: seconds by which times in results may differ from those of the truth.
        offset: of paths: seconds that are added to times in results.
    """

    align: str = "scale"
    compat: str = "irls"
    poses: str = "found"
    feed: str = "auto"
    frames: int = 0
    stride: int = 0
    unit: float = 0.001
    cloud: str = "camera"
    quaternion: str = "xyzw"
    apart: float = 0.02
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, known in (("poses", ("found", "given")), ("feed", ("auto", "views", "all"))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"--scene {name}={getattr(self, name)}: expected one of {', '.join(known)}"
                )
        if not (0 <= self.apart < 1e6 and abs(self.offset) < 1e12):
            raise InputError("--scene apart, offset: expected seconds, apart 0 or above")
        if not 0 < self.unit < 1e6:
            raise InputError(f"--scene unit={self.unit}: expected metres above 0")

    def rules(self, *, strict: bool, partial: bool) -> SceneRules:
        """How results are compared."""
        from vision_mem.evaluation.reconstruction.sequence_scores import SceneRules

        align = tuple(word.strip() for word in self.align.split("+"))
        return SceneRules(align, self.compat, strict, partial, self.cloud)


@dataclass(frozen=True)
class MakeScene:
    """Opens the model on a device; travels to other processes."""

    options: SceneRunOptions
    config: Any

    def __call__(self, device: str) -> SceneWorker:
        """A worker with the model on ``device``."""
        from vision_mem.evaluation.reconstruction.scene_models import SceneWorker
        from vision_mem.models import use_threads

        use_threads(self.options.threads)
        return SceneWorker(open_model(self.options.model, self.config, device))


def open_model(word: str, config: Any, device: str) -> SceneModel:
    """A model by its word on the command line: ``geometric``, or a file of weights.

    Raises:
        InputError: when there is none.
        ModelError: for a file that is damaged, or of another network.
    """
    if word == _GEOMETRIC:
        from vision_mem.evaluation.reconstruction.scene_models import GeometricModel

        return GeometricModel(config)
    _check_word(word)
    from vision_mem.evaluation.reconstruction.scene_models import LearnedModel
    from vision_mem.models.mem4d.load import load_network

    return LearnedModel(load_network(word, device=device))


def _check_word(word: str) -> None:
    if word != _GEOMETRIC and not word.startswith(_RANDOM) and Path(word).suffix not in _WEIGHTS:
        raise InputError(
            f"no model {word!r} for depth, poses and points; there is {_GEOMETRIC}, weights of "
            f"ours, of DUSt3R or of CUT3R ({', '.join(_WEIGHTS)}), and {_RANDOM}nano-48. Files of "
            "any other program are scored with vision-mem score"
        )


class SceneFamily(Family):
    """Depth, camera paths and points; a set of one's own is a row in ``SCENE_SETS``."""

    line = "depth, camera paths and points"

    @property
    def datasets(self) -> dict[str, Dataset]:
        """Each set once for each thing that is scored on it."""
        return {
            f"{task}:{word}": Dataset(kind.title, "", kind.read)
            for task in TASKS
            for word, kind in SCENE_SETS.items()
            if task in kind.tasks
        }

    def knows(self, word: str) -> bool:
        """``pose:sintel``, or ``pose`` alone for whatever lies in the root."""
        return word.partition(":")[0] in TASKS

    def options(self, dataset: str) -> type[SceneRunOptions]:
        """What a run may be told."""
        of = dataset.partition(":")[2]
        return SceneRunOptions if of and of != ROOMS else RoomRunOptions

    def plan(
        self, dataset: str, options: SceneRunOptions, say: Callable[[str], None]
    ) -> EvaluationPlan:
        """What is to be run, see ``registry.Family``."""
        settings, word = _settings(options.scene), options.model
        _check_word(word)
        if word != _GEOMETRIC and (options.preset or options.changes):
            raise InputError(f"{word} is a network and has no preset; leave out --preset, --set")
        preset = options.preset or "default"
        options.check(preset, "reconstruction", word)
        room = options.room if isinstance(options, RoomRunOptions) else None
        of_rooms = bool(room) and ":" not in dataset
        task, of = split_key(f"{dataset}:{ROOMS}" if of_rooms else dataset, options.root)
        root = options.root or GENERATED if of == ROOMS else place_of(options.root, dataset)
        # torch takes seconds to import; slips of the pen are told before.
        from vision_mem.evaluation.engine.run import EvaluationPlan
        from vision_mem.evaluation.reconstruction.job import SceneJob
        from vision_mem.evaluation.reconstruction.records import Cut
        from vision_mem.reconstruction import ReconstructionConfig

        changes = options.changes or ()
        config = load_config(ReconstructionConfig, preset, changes, folder="reconstruction")
        made = _rooms(root, room, say) if of == ROOMS else {}
        feed = settings.feed
        if feed == "auto":
            feed = "all" if word == _GEOMETRIC else "views"
        cut = Cut(settings.frames, settings.stride, 1 if task == POINTS and feed == "all" else 0)
        found = open_scene_set(f"{task}:{of}", root, cut)
        _check(found, word, settings)
        given = settings.poses == "given"
        jobs = [SceneJob(sequence, task, given) for sequence in options.choose(found.sequences)]
        identity = {  # rules of scoring are no part of the results
            "model_name": Path(word).name, "task": task, "poses": settings.poses,
            "feed": feed if task == POINTS else None, "frames": settings.frames,
            "stride": settings.stride, "rooms": made, **asdict(config),
        }  # fmt: skip
        notes = [*found.notes, *([_about(found, given)] if word == _GEOMETRIC else [])]
        scored = SceneScoreOptions(root, None, options.strict, True, options.scene)
        tracker = f"{Path(preset).stem} {word}"
        if word != _GEOMETRIC:  # a network has no preset; folders and tables have its name
            preset = tracker = Path(word.replace(":", "-")).stem
        return EvaluationPlan(
            f"{task}-{of}", found.title, notes, preset, changes, identity, jobs,
            MakeScene(options, config), partial(self._sum_up, f"{task}:{of}", scored), tracker,
            options.workplace,
        )  # fmt: skip

    def _sum_up(
        self, key: str, options: SceneScoreOptions, folder: EvaluationFolder, model: str
    ) -> list[str]:
        """Score all that is there, and say what was held."""
        from vision_mem.runs.progress import megabytes

        lines = self.sum_up(self.open(key, options), options, folder, model)
        held = [_held(path) for path in sorted((folder.path / "logs").glob("*.json"))]
        if most := max(held, default=0):
            lines.append(f"memory held between frames: at most {megabytes(most)}")
        return lines

    def scoring(self, dataset: str) -> type[SceneScoreOptions]:
        """How results may be scored."""
        return PathScoreOptions if dataset.partition(":")[0] == POSE else SceneScoreOptions

    def open(self, dataset: str, options: SceneScoreOptions) -> SceneSet:
        """The set, or the chosen part of it."""
        settings = _settings(options.scene)
        if isinstance(options, PathScoreOptions) and options.truth is not None:
            from vision_mem.evaluation.reconstruction.results import path_set

            if options.root is not None:
                raise InputError("--truth and --root are two kinds of truth: give one of them")
            return chosen_part(path_set(dataset, options.truth.expanduser()), options.sequences)
        from vision_mem.evaluation.reconstruction.records import Cut

        usual = GENERATED if dataset.partition(":")[2] in ("", ROOMS) else None
        root = place_of(options.root, dataset, usual)
        task, of = split_key(dataset, root)
        # Only rooms have what says whether a place was seen before: their other frames.
        feed = 1 if task == POINTS and of == ROOMS else 0
        cut = Cut(settings.frames, settings.stride, feed)
        found = open_scene_set(f"{task}:{of}", root, cut, need_frames=False)
        return chosen_part(found, options.sequences)

    def results(self, path: Path, benchmark: Any, options: Any, name: str | None) -> Any:
        """The files of one model."""
        from vision_mem.evaluation.reconstruction.results import SceneResults

        settings = _settings(options.scene)
        return SceneResults(
            path, benchmark, name, unit=settings.unit, quaternion=settings.quaternion,
            apart=settings.apart, offset=settings.offset,
        )  # fmt: skip

    def score(
        self, benchmark: Any, results: Any, options: Any, on_sequence: Callable[[str], None]
    ) -> Any:
        """Their score."""
        from vision_mem.evaluation.reconstruction.scores import score_scenes

        rules = _settings(options.scene).rules(strict=options.strict, partial=options.partial)
        if isinstance(options, PathScoreOptions):
            usual = 0.0 if options.truth is None else 1.0
            rules = replace(rules, over=usual if options.over is None else options.over)
        return score_scenes(benchmark, results, rules, on_sequence=on_sequence)


def _settings(words: Words) -> SceneSettings:
    return load_config(SceneSettings, None, pairs_of(words), folder="scenes")


def _rooms(root: Path, room: Words, say: Callable[[str], None]) -> dict[str, Any]:
    from vision_mem.evaluation.reconstruction.datasets.rooms import RoomSeries, prepare_rooms

    return made_set(
        root, RoomSeries, room, prepare_rooms, say,
        lambda some: f"{count(some.rooms, 'generated room')} of {count(some.frames, 'frame')}",
    )  # fmt: skip


def _check(found: SceneSet, word: str, settings: SceneSettings) -> None:
    """Refuse what would measure nothing."""
    if found.task == DEPTH and word == _GEOMETRIC and found.kind and found.kind.oracle:
        raise InputError(
            f"the geometric mode is shown depth and finds none, and the only depth of {found.word} "
            "is the truth; score results of a program that finds depth, or run video-depth:rooms"
        )
    if found.task == POSE and settings.poses == "given":
        raise InputError("poses=given and finding poses exclude each other; leave it out")


def _about(found: SceneSet, given: bool) -> str:
    """What the numbers of the geometric mode are numbers of."""
    if found.task == DEPTH:
        return "geometric: its depth is that of the sensor; what it finds itself is what moves"
    path = "the poses are given" if given else "its path"
    if found.kind is not None and found.kind.oracle:
        return f"geometric sees the true depth (an oracle): what is compared is {path}"
    return f"geometric sees the depth of the sensor: what is compared is that and {path}"


def _held(log: Path) -> int:
    try:
        return int(read_json(log, nan=True)["held_bytes"])
    except (ValueError, LookupError, TypeError):
        return 0


FAMILY = SceneFamily()
