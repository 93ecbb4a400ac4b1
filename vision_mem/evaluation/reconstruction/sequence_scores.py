"""One sequence against its truth: depth, path or points.

The default rules are those of the code behind the published tables (MonST3R, CUT3R), ``strict``
corrects them; each difference is listed in docs/scoring.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.datasets import CROP
from vision_mem.evaluation.reconstruction.datasets.rooms import still_distance
from vision_mem.evaluation.reconstruction.grids import (
    cropped,
    mask_at,
    nearest_grid,
    resized_depth,
    to_first_camera,
    true_grid,
)
from vision_mem.evaluation.reconstruction.metrics.depth import (
    ALIGNMENTS,
    SOLVERS,
    DepthErrors,
    comparable,
    fit_depth,
    pixel_errors,
    ratio_curve,
)
from vision_mem.evaluation.reconstruction.metrics.dynamic import MaskCounts, ghost_share, seen_again
from vision_mem.evaluation.reconstruction.metrics.points import (
    CloudErrors,
    cloud_errors,
    fit_points,
    settle,
)
from vision_mem.evaluation.reconstruction.records import SceneSequence, SceneSet, SceneView
from vision_mem.evaluation.reconstruction.results import SceneResults, true_moving
from vision_mem.geometry.poses import transform
from vision_mem.geometry.trajectory_errors import PathErrors, errors_over_distance, path_errors


@dataclass(frozen=True)
class SceneRules:
    """How results are compared.

    Attributes:
        align: of depth, the first is the main one; of ``ALIGNMENTS``.
        compat: how scale and shift are found, of ``SOLVERS``.
        strict: without the quirks of the peers' code.
        partial: frames without a result are left out of the comparison.
        cloud: axes of clouds without pixels: of the first ``camera``, or of the set's ``world``.
        over: metres of true path over which relative errors are taken too; 0: not.
    """

    align: tuple[str, ...] = ("scale",)
    compat: str = "irls"
    strict: bool = False
    partial: bool = False
    cloud: str = "camera"
    over: float = 0.0

    def __post_init__(self) -> None:
        wrong = [each for each in self.align if each not in ALIGNMENTS]
        if wrong or not self.align:
            raise InputError(
                f"align is {'+'.join(self.align)!r}; expected one of {', '.join(ALIGNMENTS)}, or "
                "several with + between"
            )
        if self.compat not in SOLVERS:
            raise InputError(f"compat is {self.compat!r}; expected one of {', '.join(SOLVERS)}")
        if not 0 <= self.over < 1e6:
            raise InputError(f"--over is {self.over:g}; expected metres of path, above 0")
        if self.cloud not in ("camera", "world"):
            raise InputError(f"cloud is {self.cloud!r}; expected camera or world")


Array = NDArray[np.float64]
Line = tuple[Array, Array]

_NAN = float("nan")


@dataclass(frozen=True)
class DepthPart:
    """Depth of a sequence.

    Attributes:
        errors: by alignment.
        split: absolute relative error of ``static`` and ``moving`` pixels, with their numbers;
            none where the set does not say what moves.
        masks: what is said to move; None where the model or the set does not say.
        known: share of the true pixels that have a depth.
        line: share of pixels that are right up to a factor.
    """

    errors: Mapping[str, DepthErrors]
    split: Mapping[str, tuple[float, int]]
    masks: MaskCounts | None
    known: float
    line: Line


@dataclass(frozen=True)
class PathPart:
    """Path of a sequence.

    Attributes:
        errors: None where fewer than three frames can be compared.
        known: share of the frames with a true pose that have one.
        line: share of the frames whose position is off by less than so many metres.
        over: relative errors over ``SceneRules.over``, metres and degrees.
    """

    errors: PathErrors | None
    known: float
    line: Line | None
    over: tuple[float, float] = (_NAN, _NAN)


@dataclass(frozen=True)
class PointsPart:
    """Points of a sequence.

    Attributes:
        errors: of the clouds.
        off: metres by which pixels are off before the clouds are settled onto each other:
            ``static``, ``moving`` and ``revisit`` with their numbers.
        ghosts: share of the map's points that lie on nothing; NaN where that is not known.
    """

    errors: CloudErrors
    off: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    ghosts: float = _NAN


def score_depth(
    found: SceneSet, sequence: SceneSequence, results: SceneResults, rules: SceneRules,
    notes: list[str],
) -> DepthPart:  # fmt: skip
    """Compare the depth of a sequence; ``notes`` takes a line for what is odd.

    Raises:
        InputError: when frames have no result (without ``partial``), or nothing can be compared.
        SourceError: when a file cannot be read.
    """
    files = results.depth_files(sequence)
    views = _present(sequence, files, results, rules, notes)
    ours, truth, moves = [], [], []
    masks: MaskCounts | None = None
    pixels = 0
    for view in views:
        assert view.depth is not None, "readers see to it"
        true = sequence.depth(view.depth)
        depth = resized_depth(results.depth(files[view.name]), true.shape, strict=rules.strict)
        known = comparable(depth, true, sequence.farthest)
        pixels += int((true > 0).sum())
        ours.append(depth[known])
        truth.append(true[known])
        moving = true_moving(view)
        if moving is None or moving.shape != true.shape:
            continue
        moves.append(moving[known])
        said = results.moving(files[view.name])
        if said is not None:
            counts = MaskCounts.of(mask_at(said, true.shape), moving, true > 0)
            masks = (masks or MaskCounts()) + counts
    p, g = np.concatenate(ours), np.concatenate(truth)
    clip = found.kind is not None and found.kind.clip and not rules.strict
    cut = sequence.farthest if clip else None
    errors = {}
    for align in rules.align:
        scale, shift = fit_depth(p, g, align, solver=rules.compat, strict=rules.strict)
        errors[align] = pixel_errors(p, g, scale, shift, cut)
    main = errors[rules.align[0]]
    split: dict[str, tuple[float, int]] = {}
    if len(moves) == len(views):
        which = np.concatenate(moves)
        for word, some in (("static", ~which), ("moving", which)):
            if some.any():
                part = pixel_errors(p[some], g[some], main.scale, main.shift, cut)
                split[word] = (part.abs_rel, part.pixels)
    line = ratio_curve(p, g, main.scale, main.shift, cut)
    return DepthPart(errors, split, masks, len(p) / max(pixels, 1), line)


def _present(
    sequence: SceneSequence, files: Mapping[str, object], results: SceneResults, rules: SceneRules,
    notes: list[str],
) -> list[SceneView]:  # fmt: skip
    views = [view for view in sequence.scored if view.name in files]
    missing = [view.name for view in sequence.scored if view.name not in files]
    if missing and (not rules.partial or not views):
        raise InputError(
            f"{results.path} has no depth of {len(missing)} of {len(sequence.scored)} frames of "
            f"{sequence.name}, the first is {missing[0]}; --partial scores those that are there"
        )
    if missing:
        notes.append(f"{sequence.name}: {len(views)} of {len(sequence.scored)} frames")
    return views


def score_path(
    found: SceneSet, sequence: SceneSequence, results: SceneResults, rules: SceneRules,
    notes: list[str],
) -> PathPart:  # fmt: skip
    """Compare the path of a sequence; arguments and errors as ``score_depth``."""
    del found
    ours, truth = results.poses(sequence, notes)
    pairs = [(a, b) for a, b in zip(ours, truth, strict=True) if b is not None]
    if not pairs:
        raise InputError(f"{sequence.name} has no true pose in this copy; nothing to compare")
    there = [a is not None for a, _ in pairs]
    known = sum(there) / len(pairs)
    if rules.strict and any(there):
        pairs = _filled(pairs)
    both = [(a, b) for a, b in pairs if a is not None]
    if known < 1:
        how = "take the pose before" if rules.strict else "are left out"
        lost = len(there) - sum(there)
        notes.append(f"{sequence.name}: {lost} of {len(there)} frames have no pose, and {how}")
    if len(both) < 3:
        notes.append(f"{sequence.name}: {len(both)} poses; too few to compare, in no mean")
        return PathPart(None, known, None)
    path, true = (np.stack(each) for each in zip(*both, strict=True))
    errors = path_errors(path, true)
    within = np.linspace(0.0, 0.5, 101)
    near = np.searchsorted(np.sort(errors.distances), within) / len(both)
    over = (_NAN, _NAN)
    if rules.over:
        over = errors_over_distance(path, true, rules.over, scale=errors.scale)
        if over[0] != over[0]:
            notes.append(f"{sequence.name}: the true path is shorter than {rules.over:g} m")
    return PathPart(errors, known, (within, near), over)


def _filled(pairs: list[tuple[Array | None, Array]]) -> list[tuple[Array | None, Array]]:
    """Each frame without a pose takes the one before; the first ones take the first there is."""
    last = next(a for a, _ in pairs if a is not None)
    filled: list[tuple[Array | None, Array]] = []
    for a, b in pairs:
        last = last if a is None else a
        filled.append((last, b))
    return filled


def score_points(
    found: SceneSet, sequence: SceneSequence, results: SceneResults, rules: SceneRules,
    notes: list[str],
) -> PointsPart:  # fmt: skip
    """Compare the points of a sequence; arguments and errors as ``score_depth``."""
    views = [view for view in sequence.scored if view.pose is not None]
    if not views:
        raise InputError(f"{sequence.name} has no true pose in this copy; nothing to compare")
    first = sequence.scored[0]
    there, back = to_first_camera(first), first.pose
    assert back is not None, "to_first_camera sees to it"
    got = results.points(sequence)
    size = _grid(found, sequence, None if got.maps is None else got.maps.shape[1:3])
    strict = rules.strict
    grids = [true_grid(sequence, view, there, size, strict=strict) for view in sequence.scored]
    truth, known = np.stack([g for g, _ in grids]), np.stack([k for _, k in grids])
    if not known.any():
        raise InputError(f"{sequence.name} has no true depth in the frames that are compared")
    crop = np.ones_like(known) if rules.strict else cropped(CROP, known)
    if got.maps is None:
        assert got.cloud is not None, "points are one or the other"
        notes.append(
            "clouds without pixels are compared in their own scale, and with all true points"
        )
        cloud = got.cloud.astype(np.float64)
        cloud = transform(back, cloud) if rules.cloud == "camera" else cloud
        return PointsPart(_compared(cloud, transform(back, truth[known]), rules))
    maps = np.stack(
        [nearest_grid(each, size, strict=strict).astype(np.float64) for each in got.maps]
    )
    there_too = known & np.isfinite(maps).all(axis=-1)
    if there_too.sum() < 3:
        raise InputError(f"{sequence.name}: no pixel has both a point and a truth")
    fit = fit_points(maps[there_too], truth[there_too], strict=rules.strict)
    moved = fit(maps[there_too & crop])
    errors = _compared(transform(back, moved), transform(back, truth[known & crop]), rules)
    off = _off(sequence, there_too, fit(maps[there_too]), truth, known)
    kept = results.map_points(sequence)
    ghosts = _NAN
    if kept is not None and sequence.seed is not None:
        # Its own scale and place, whatever the rules: a ghost is a matter of the scene.
        own = fit_points(maps[there_too], truth[there_too], strict=True)
        ghosts = ghost_share(
            still_distance(found.root, sequence, transform(back, own(kept.astype(np.float64))))
        )
    return PointsPart(errors, off, ghosts)


def _compared(cloud: Array, true: Array, rules: SceneRules) -> CloudErrors:
    if not rules.strict:
        cloud = transform(settle(cloud, true), cloud)
    return cloud_errors(cloud, true)


def _grid(found: SceneSet, sequence: SceneSequence, own: tuple[int, ...] | None) -> tuple[int, int]:
    """``(height, width)`` at which points are compared: a model's own, and at most the set's."""
    most: tuple[int, int]
    if found.kind is not None and found.kind.grid is not None:
        most = found.kind.grid[::-1]
    else:
        path = sequence.scored[0].depth
        assert path is not None, "readers see to it"
        shape = sequence.depth(path).shape
        most = (shape[0], shape[1])
    if own is None or own[0] * own[1] >= most[0] * most[1]:
        return most
    return own[0], own[1]


def _off(
    sequence: SceneSequence,
    compared: NDArray[np.bool_],
    moved: Array,
    truth: Array,
    known: NDArray[np.bool_],
) -> dict[str, tuple[float, int]]:
    """Mean distance of pixels from where they should be; none where nothing says what moves."""
    labels = [true_moving(view) for view in sequence.scored]
    if any(label is None for label in labels):
        return {}
    moving = np.stack([mask_at(label, known.shape[1:]) for label in labels if label is not None])
    distance = np.full(known.shape, np.nan)
    distance[compared] = np.linalg.norm(moved - truth[compared], axis=1)
    again = _again(sequence, known & ~moving)
    parts = {"static": compared & ~moving, "moving": compared & moving, "revisit": compared & again}
    return {
        word: (float(distance[some].mean()), int(some.sum()))
        for word, some in parts.items()
        if some.any()
    }


def _again(sequence: SceneSequence, still: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pixels of the scored views show a place that was not seen for a long time."""
    places: list[Array] = []
    numbers: list[int] = []
    shapes: dict[str, tuple[int, NDArray[np.bool_]]] = {}
    for view in sequence.views:
        if view.depth is None or view.pose is None:
            continue
        depth = sequence.depth(view.depth)
        camera = sequence.camera(view, (depth.shape[0], depth.shape[1]))
        moving = true_moving(view)
        known = depth > 0 if moving is None else (depth > 0) & ~moving
        points = transform(view.pose, camera.unproject(depth))
        shapes[view.name] = (len(places), known)
        places.append(points[known])
        numbers.append(view.number)
    again = seen_again(places, numbers)
    found = np.zeros_like(still)
    for row, view in enumerate(sequence.scored):
        if view.name in shapes:
            place, known = shapes[view.name]
            whole = np.zeros(known.shape, bool)
            whole[known] = again[place]
            found[row] = mask_at(whole, found.shape[1:])
    return found & still
