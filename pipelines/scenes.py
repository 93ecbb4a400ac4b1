"""What an evaluation of depth, camera paths or points is to run, and how results are scored."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_mem.config import load_config
from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.datasets.open import (
    ROOMS,
    is_scene_key,
    open_scene_set,
    split_key,
)
from vision_mem.evaluation.reconstruction.datasets.rooms import RoomSeries, prepare_rooms
from vision_mem.evaluation.reconstruction.records import DEPTH, POINTS, POSE, TASKS, Cut, SceneSet
from vision_mem.evaluation.reconstruction.sequence_scores import SceneRules
from vision_mem.evaluation.selection import choose_sequences
from vision_mem.evaluation.sot.scoring import Rules
from vision_mem.runs.progress import megabytes
from vision_mem.runs.tally import count

from .benchmarks import EvaluationPlan, Request, shard_of

if TYPE_CHECKING:
    from vision_mem.evaluation.engine.folder import EvaluationFolder
    from vision_mem.evaluation.reconstruction.results import SceneResults
    from vision_mem.evaluation.reconstruction.scene_models import SceneModel, SceneWorker
    from vision_mem.evaluation.reconstruction.scores import SceneScore

__all__ = ["TASKS", "SceneFamily", "is_scene_key", "plan_scenes"]

GENERATED = Path("runs/rooms")
"""Where generated rooms lie when --root is not given."""
_DEFAULT_MODEL, _GEOMETRIC = "embedded", "geometric"
_RANDOM = "random:"
_WEIGHTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class SceneOptions:
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

    def __post_init__(self) -> None:
        for name, known in (("poses", ("found", "given")), ("feed", ("auto", "views", "all"))):
            if getattr(self, name) not in known:
                raise InputError(
                    f"--scene {name}={getattr(self, name)}: expected one of {', '.join(known)}"
                )
        if not 0 < self.unit < 1e6:
            raise InputError(f"--scene unit={self.unit}: expected metres above 0")

    def rules(self, *, strict: bool, partial: bool) -> SceneRules:
        """How results are compared."""
        align = tuple(word.strip() for word in self.align.split("+"))
        return SceneRules(align, self.compat, strict, partial, self.cloud)


@dataclass(frozen=True)
class MakeScene:
    """Opens the model on a device; travels to other processes."""

    request: Request
    config: Any
    word: str

    def __call__(self, device: str) -> SceneWorker:
        """A worker with the model on ``device``."""
        from vision_mem.evaluation.reconstruction.scene_models import SceneWorker
        from vision_mem.models import use_threads

        use_threads(self.request.threads)
        return SceneWorker(open_model(self.word, self.config, device))


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


def plan_scenes(request: Request) -> EvaluationPlan:
    """Depth, camera paths or points."""
    from vision_mem.evaluation.reconstruction.job import SceneJob
    from vision_mem.reconstruction import ReconstructionConfig

    request.refuse(
        "scenes in depth",
        {
            "--detect": request.detect, "--classes": request.classes, "--split": request.split,
            "--crowd": request.crowd, "--init": request.init != "auto",
            "--compile": request.compile, "--model-config": request.model_config,
            **request.of_questions,
        },
    )  # fmt: skip
    options = _options(request.scene)
    word = _GEOMETRIC if request.model == _DEFAULT_MODEL else request.model
    _check_word(word)
    if word != _GEOMETRIC:
        request.refuse(
            "a network for a model", {"--preset": request.preset, "--set": request.changes}
        )
    preset = request.preset or "default"
    config = load_config(ReconstructionConfig, preset, request.changes, folder="reconstruction")
    key = request.dataset
    if request.room and ":" not in key:
        key = f"{key}:{ROOMS}"
    task, of = split_key(key, request.root)
    root, made = _prepare(request, of)
    feed = options.feed if options.feed != "auto" else ("all" if word == _GEOMETRIC else "views")
    cut = Cut(options.frames, options.stride, 1 if task == POINTS and feed == "all" else 0)
    found = open_scene_set(f"{task}:{of}", root, cut)
    _check(found, word, options)
    chosen = choose_sequences(
        found.sequences, names=request.sequences, limit=request.limit, shard=shard_of(request)
    )
    given = options.poses == "given"
    jobs = [SceneJob(sequence, task, given) for sequence in chosen]
    identity = {
        # Rules of scoring are no part of the results; the model has a word of its own here.
        "strict": False, "model_name": Path(word).name, "task": task, "poses": options.poses,
        "feed": feed if task == POINTS else None, "frames": options.frames,
        "stride": options.stride, "rooms": made, **asdict(config),
    }  # fmt: skip
    title, notes = found.title, list(found.notes)
    if word == _GEOMETRIC:
        notes.append(_about(found, given))
    rules = options.rules(strict=request.strict, partial=True)

    def sum_up(folder: EvaluationFolder, model: str) -> list[str]:
        return _sum_up(folder, model, SceneFamily(options), f"{task}:{of}", root, rules)

    tracker = f"{Path(preset).stem} {word}"
    if word != _GEOMETRIC:  # a network has no preset; folders and tables have its name
        preset = tracker = Path(word.replace(":", "-")).stem
    return EvaluationPlan(
        f"{task}-{of}", title, notes, preset, identity, jobs, MakeScene(request, config, word),
        sum_up, tracker, "reading files",
    )  # fmt: skip


def _check(found: SceneSet, word: str, options: SceneOptions) -> None:
    """Refuse what would measure nothing."""
    if found.task == DEPTH and word == _GEOMETRIC and found.oracle:
        raise InputError(
            f"the geometric mode is shown depth and finds none, and the only depth of {found.word} "
            "is the truth; score results of a program that finds depth, or run video-depth:rooms"
        )
    if found.task == POSE and options.poses == "given":
        raise InputError("poses=given and finding poses exclude each other; leave it out")


def _about(found: SceneSet, given: bool) -> str:
    """What the numbers of the geometric mode are numbers of."""
    if found.task == DEPTH:
        return "geometric: its depth is that of the sensor; what it finds itself is what moves"
    path = "the poses are given" if given else "its path"
    if found.oracle:
        return f"geometric sees the true depth (an oracle): what is compared is {path}"
    return f"geometric sees the depth of the sensor: what is compared is that and {path}"


def _options(words: Sequence[str]) -> SceneOptions:
    pairs = [pair.strip() for word in words for pair in word.split(",") if pair.strip()]
    return load_config(SceneOptions, None, pairs, folder="scenes")


def _prepare(request: Request, of: str) -> tuple[Path, dict[str, object]]:
    """The set's folder; generated rooms are written where there are none."""
    if of != ROOMS:
        request.refuse("its own sequences", {"--room": request.room})
        return request.place_of(), {}
    pairs = [pair.strip() for word in request.room for pair in word.split(",") if pair.strip()]
    series = load_config(RoomSeries, None, pairs, folder="rooms")
    root = request.root or GENERATED
    if not request.quiet and not root.is_dir():
        print(
            f"writing {count(series.rooms, 'generated room')} of {count(series.frames, 'frame')} "
            f"to {root}", file=sys.stderr,
        )  # fmt: skip
    return root, prepare_rooms(root, series if request.room else None)


def _sum_up(
    folder: EvaluationFolder,
    model: str,
    family: SceneFamily,
    key: str,
    root: Path,
    rules: SceneRules,
) -> list[str]:
    """Score all that is there, and say what was held."""
    from vision_mem.evaluation.engine.run import write_scores
    from vision_mem.evaluation.reconstruction.scores import score_scenes

    shown = Rules(strict=rules.strict, partial=True)
    found = family.open(key, root, None, shown)
    with family.results(folder.results, found, model) as results:
        score = score_scenes(found, results, rules)
    lines = write_scores(folder, score, shown, found.notes)
    held = [_held(path) for path in sorted((folder.path / "logs").glob("*.json"))]
    if most := max(held, default=0):
        lines.append(f"memory held between frames: at most {megabytes(most)}")
    return lines


def _held(log: Path) -> int:
    try:
        return int(json.loads(log.read_text(encoding="utf-8"))["held_bytes"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0


class SceneFamily:
    """Sets for depth, camera paths and points, as ``score`` wants a family.

    Args:
        options: how to compare.
    """

    def __init__(self, options: SceneOptions | None = None) -> None:
        self._options = options or SceneOptions()

    @classmethod
    def from_words(cls, words: Sequence[str]) -> SceneFamily:
        """From ``key=value`` words of the command line."""
        return cls(_options(words))

    def open(self, key: str, root: Path | None, chosen: str | None, rules: Rules) -> SceneSet:
        """The set, or the chosen part of it."""
        if replace(rules, strict=False, partial=False) != Rules():
            raise InputError(f"{key} has no boxes; leave out --absent and --repair")
        if root is None:
            raise InputError(f"missing option --root: the folder of {key}")
        task, of = split_key(key, root)
        # Only rooms have what says whether a place was seen before: their other frames.
        feed = 1 if task == POINTS and of == ROOMS else 0
        cut = Cut(self._options.frames, self._options.stride, feed)
        found = open_scene_set(f"{task}:{of}", root, cut, need_frames=False)
        return replace(found, sequences=tuple(choose_sequences(found.sequences, names=chosen)))

    def count(self, benchmark: SceneSet) -> int:
        """Sequences."""
        return len(benchmark.sequences)

    def results(self, path: Path, benchmark: SceneSet, name: str | None) -> SceneResults:
        """The files of one model."""
        from vision_mem.evaluation.reconstruction.results import SceneResults

        options = self._options
        return SceneResults(path, benchmark, name, unit=options.unit, quaternion=options.quaternion)

    def score(
        self,
        benchmark: SceneSet,
        results: SceneResults,
        rules: Rules,
        on_sequence: Callable[[str], None],
    ) -> SceneScore:
        """Their score."""
        from vision_mem.evaluation.reconstruction.scores import score_scenes

        chosen = self._options.rules(strict=rules.strict, partial=rules.partial)
        return score_scenes(benchmark, results, chosen, on_sequence=on_sequence)
