"""Constants of the embedded segmenter, all in one value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from vision_mem.errors import InputError
from vision_mem.models.segmenters.embedded.token_cut import TokenCutConfig
from vision_mem.models.segmenters.embedded.windows import PropagationConfig

_ASKING_ALONE = ("crowd", "crowd_memories")
"""Constants that change how memories are asked, not what is in them: snapshots stay readable."""


@dataclass(frozen=True)
class EmbeddedConfig(PropagationConfig):
    """All constants: those of the propagation, and what is made of its votes.

    They were chosen on generated clips (docs/embedded.md). Sides are in pixels.

    Attributes:
        memories: entries remembered besides prompted ones.
        grid_side: longest side of the grid on which masks live; larger videos are worked on at
            this size.
        flow_side: longest side of the grey pictures between which optical flow is computed.
        scene_side: longest side of the picture searched for a lost object.
        outline_radius: of the neighbourhood in which votes follow the picture's colours, in pixels
            of half the window; see ``outline.follow_edges``.
        outline_smoothness: colour variance below which there is no edge.
        outline_share: how much the votes that follow edges count, beside the plain ones.
        decoder_share: how much the mask decoder's word counts in outlines; 0 leaves out all that
            was learned, in comparing tokens as well.
        weights: estimated IoU = sigmoid of these times (1, mean vote in the mask, IoU with the
            moved previous mask, agreement of areas, mean vote of prompted entries alone).
        no_prior_agreement: IoU with the moved previous mask where there is none.
        part_overlap: share of a part that the moved previous mask must cover to make it the
            object's.
        alone: taken from the estimate of the single best part, so that it wins only when clearly
            better.
        trust: weights of ``candidates.signs_of`` in the score that people see
            (``scripts/bench/calibration.py``).
        texture: standard deviation of a window's colours below which there is nothing in it.
        present: estimated IoU above which the object counts as seen.
        presence_gain: steepness of the object logit around ``present``.
        search_below: estimated IoU below which the whole picture is searched.
        search_always: frames for which a lost object is searched for on each one, then on every
            second: a search costs as much as a look.
        search_spread: standard deviation of how far an object gets by its next frame, as a multiple
            of its mean size.
        search_growth: added to it for each frame that the object is missing, as a share of the
            picture's diagonal.
        found: estimated IoU at which what the search found is believed.
        doubtful: highest estimate of what is not believed.
        grow, shrink: how fast the size model follows, quickly up and slowly down, because an
            object that goes behind something looks smaller without being smaller.
        area_rate: how fast the area model follows.
        widen: growth of the window a frame while the object is missing.
        widen_frames: frames for which it grows.
        crowd: objects followed at a time, from which on each asks fewer memories.
        crowd_memories: the newest ones that are asked then, besides prompted ones.
        cut: how boxes and clicks become masks.
    """

    memories: int = 4
    grid_side: int = 640
    flow_side: int = 320
    scene_side: int = 448
    outline_radius: int = 4
    outline_smoothness: float = 3e-5
    outline_share: float = 0.5
    decoder_share: float = 0.4
    weights: tuple[float, float, float, float, float] = (-9.8, 9.6, 0.8, 0.5, 2.7)
    no_prior_agreement: float = 0.5
    part_overlap: float = 0.3
    alone: float = 0.1
    trust: tuple[float, ...] = (
        -17.56, 0.28, 1.55, 0.66, 1.87, -0.97, 5.69, -3.52, 1.98, -0.51, 10.61,
    )  # fmt: skip
    texture: float = 1.5
    present: float = 0.2
    presence_gain: float = 4.0
    search_below: float = 0.45
    search_always: int = 3
    search_spread: float = 0.5
    search_growth: float = 0.006
    found: float = 0.5
    doubtful: float = 0.2
    grow: float = 0.3
    shrink: float = 0.08
    area_rate: float = 0.1
    widen: float = 0.15
    widen_frames: int = 6
    crowd: int = 5
    crowd_memories: int = 2
    cut: TokenCutConfig = TokenCutConfig()

    def __post_init__(self) -> None:
        if self.window < 32 or self.window % 16:
            raise InputError(f"window is {self.window}; expected a multiple of 16, 32 or more")
        if not 0 < self.present < 1:
            raise InputError(f"present is {self.present}; expected a number between 0 and 1")
        if len(self.weights) != 5:
            raise InputError(f"weights are {self.weights}; expected five numbers")

    @property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change when any constant does."""
        known = asdict(self)
        for name in _ASKING_ALONE:
            del known[name]
        text = json.dumps(known, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
