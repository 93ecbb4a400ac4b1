"""What a benchmark is made of: its sequences with their truth, and a tracker's results on them.

The one currency between readers (``sot.datasets``), the runner and the scorer. Numbers stand
as the benchmark's own files have them; ``Sequence.origin`` says how its pixels are counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SotSequence:
    """One sequence of a benchmark; images and truth are files of the benchmark.

    Attributes:
        name: as in the benchmark's lists; also the stem of result files.
        frames: image files in order; empty when only the truth is there (scoring needs no more).
        boxes: ``(T, 4)`` float64 x, y, width, height as written in the truth file. NaN rows and
            rows without area mean absent. T is 1 where the truth is kept secret, 0 for sets of
            masks, and may differ from the number of frames in damaged copies.
        origin: what the benchmark calls the first pixel: 1 for sets made with MATLAB, else 0.
        visible: ``(T,)`` bool where the set flags frames; None where it does not.
        polygons: ``(T, 2 n)`` float64 corners x1, y1, x2, y2, ... of VOT-style truth, else None;
            ``boxes`` then holds the boxes around them.
        masks: indexed PNG truth of DAVIS-style sets, one a frame in the order of ``frames``
            (None where a frame has none); empty for box sets.
        merge_objects: the set counts everything marked as one object (DAVIS 2016).
        size: ``(height, width)`` of the images where the set says it; None: look at one.
        attributes: names of what makes the sequence hard, as the set calls it.
        aliases: other stems that toolkits give the sequence's result files (``Jogging_1``,
            ``uav_bike1``).
        omitted: frames left out in front, as the official protocol has it (OTB's Tiger1); result
            files with so many rows more have them still.
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    origin: int = 0
    visible: NDArray[np.bool_] | None = None
    polygons: NDArray[np.float64] | None = None
    masks: tuple[Path | None, ...] = ()
    merge_objects: bool = False
    size: tuple[int, int] | None = None
    attributes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    omitted: int = 0


@dataclass(frozen=True)
class Benchmark:
    """A set of sequences and how the field scores it.

    Attributes:
        key: the word on the command line: ``lasot``, ``got10k-val``, ``davis2017``, ...
        title: as papers write it.
        protocol: which metrics: ``"success"`` (success and precision curves, Wu et al. 2013),
            ``"got10k"`` (AO, SR), ``"davis"`` (J, F), ``"vot"`` (overlaps of polygons), or
            ``"server"`` (the truth is secret; results are sent in).
        tag: the name official scorers give the set where their rules differ by name
            (``lasot``, ``lasot_extension_subset``, ``nfs``, ``uav``, ``otb``).
        sequences: in the order of the set's list.
        notes: what was found odd in this copy, one line each, for the user to read.
    """

    key: str
    title: str
    protocol: str
    tag: str
    sequences: tuple[SotSequence, ...]
    notes: tuple[str, ...] = field(default=())
