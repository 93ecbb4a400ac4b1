"""All settings of a video memory that answers questions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vision_mem.errors import InputError

SUFFIX = ".vmem"
"""Of files that keep a memory, see ``store``."""

RULES = ("tiers", "recent", "fifo", "uniform", "full")
BUDGETS = ("all", "history")
GATES = ("best", "stream", "carried", "off")
QUERIES = ("question", "prompt")
MATCHES = ("video", "words")
POSITIONS = ("absolute", "rebase", "compact")
CLOCKS = ("time", "index")
LOOKS = ("raster", "spread")
SCOPES = ("auto", "recent", "all")
"""What of a memory an answer may read."""
FORMS = ("json", "csv", "edl", "chapters")
"""What ``ask --save`` writes."""
TEXT_RULES = ("reference", "transformers")
QUESTIONS = (
    "Which things can be seen here?",
    "How many people or things are there?",
    "What is somebody doing, or what is going on?",
    "What is different from a moment ago?",
    "Say where the things are in relation to each other.",
)


def _refuse(where: str, settings: object, name: str, expected: str) -> None:
    raise InputError(f"{where}{name} is {getattr(settings, name)!r}; expected {expected}")


def _one_of(where: str, settings: object, **known: tuple[str, ...]) -> None:
    for name, values in known.items():
        if getattr(settings, name) not in values:
            _refuse(where, settings, name, f"one of {', '.join(values)}")


def _at_least(where: str, settings: object, least: int, *names: str) -> None:
    for name in names:
        if not least <= getattr(settings, name) < math.inf:
            _refuse(where, settings, name, f"{least} or more")


def _within(where: str, settings: object, low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= getattr(settings, name) <= high:
            _refuse(where, settings, name, f"a number from {low:g} to {high:g}")


@dataclass(frozen=True)
class MemoryConfig:
    """What is kept of a stream.

    Attributes:
        rules: ``tiers``, the three-tier memory; or, to judge it by, whole grids: ``recent`` the
            latest ``short_frames``, ``fifo`` the latest that fit the budget, ``uniform`` some
            that fit the budget, spread evenly over all that was seen, ``full`` everything, which
            no budget bounds.
        budget: tokens, at most.
        budget_over: ``all``: nothing ever exceeds the budget. ``history``: as the released code,
            the budget is looked at after a grid enters the long tier, does not count the short
            tier and takes from the long tier only, so more than the budget can be held.
        short_frames: frames kept whole, at least one grid.
        mid_frames: frames of the middle tier, 0 or more.
        short_share: of the budget, what the short tier may hold; its older grids leave early
            where grids are large. The newest always stays. Only for a budget over ``all``.
        mid_share: of what the short tier leaves, what the middle tier may hold while there is
            need. The rest belongs to the long tier. Only for a budget over ``all``.
        drop_similarity: cosine with the next grid above which a token goes (theta).
        salience_uplift: what salience 1 adds to that (lambda).
        scene_factor: a grid begins a scene when its mean distance is this many times the usual
            one (kappa).
        fixed_distance: cosine distance that counts as change, instead of Otsu's threshold.
        select_ratio, select_gain, select_least, select_from: a grid that enters the long tier
            keeps ``ratio + gain * mean salience`` of its tokens, at least ``least``; grids of
            less than ``select_from`` tokens are merged instead.
        stale_directions: as the released code, merged tokens are found by the direction that they
            had before they were merged.

    Source:
        specs/savemem.md 1.1, 1.5 to 1.7 (class defaults); the shares are ours.
    """

    rules: str = "tiers"
    budget: int = 2048
    budget_over: str = "all"
    short_frames: int = 8
    mid_frames: int = 256
    short_share: float = 0.5
    mid_share: float = 0.5
    drop_similarity: float = 0.8
    salience_uplift: float = 0.15
    scene_factor: float = 1.5
    fixed_distance: float | None = None
    select_ratio: float = 0.15
    select_gain: float = 0.25
    select_least: int = 4
    select_from: int = 20
    stale_directions: bool = False

    def __post_init__(self) -> None:
        _one_of("memory.", self, rules=RULES, budget_over=BUDGETS)
        _at_least("memory.", self, 1, "budget", "short_frames", "select_least", "select_from")
        _at_least("memory.", self, 0, "mid_frames", "scene_factor", "select_gain")
        _within("memory.", self, 0.0, 1.0, "short_share", "mid_share", "select_ratio")
        _within("memory.", self, -1.0, 2.0, "drop_similarity", "salience_uplift")
        if self.fixed_distance is not None:
            _within("memory.", self, 0.0, 2.0, "fixed_distance")


@dataclass(frozen=True)
class SalienceConfig:
    """The pseudo-question bank.

    Attributes:
        enabled: whether there is one. Without it nothing is protected by its meaning, grids are
            merged on their way into the long tier, and the budget goes by the tokens' norms.
        questions: its texts; at least one.

    Source:
        specs/savemem.md 1.4: what is there, how many, what happens, what changed, where things
        are. The wording is ours.
    """

    enabled: bool = True
    questions: tuple[str, ...] = QUESTIONS

    def __post_init__(self) -> None:
        if not self.questions or not all(text.strip() for text in self.questions):
            raise InputError(
                f"salience.questions are {list(self.questions)}; expected one text or more, none "
                "empty (salience.enabled=false goes without)"
            )


@dataclass(frozen=True)
class RetrievalConfig:
    """What is read of a memory to answer a question.

    Attributes:
        enabled: False reads everything, always.
        query: which tokens of the prompt are looked for: those of the ``question`` and its
            options, or of the whole ``prompt`` with its system words and markers (released code).
        match: how a grid is scored: ``video``, how well its tokens are described by the words, on
            average; or ``words``, how well the words are shown by its tokens, which finds small
            things.
        gate: when the recent grids alone answer. ``best``: when they match the question at least
            as well as every older grid does. ``stream``: when they match it at least as well as
            a moving average over the older grids, oldest first. ``carried``: the released code's
            average over all questions asked so far, which makes answers depend on what was asked
            before. ``off``: never.
        gate_ratio: what the recent grids are compared with is multiplied by it (rho).
        gate_momentum: weight of the newest value in the averages (alpha).
        top_k: older grids read when their scores differ much (K0).
        least_share: older grids read in any case, as a share of all that there are.
        low_spread, high_spread: coefficient of variation of their scores at and below which all
            are read, at and above which ``top_k`` are.

    Source:
        specs/savemem.md 2; ``best``, ``stream`` and ``words`` are ours.
    """

    enabled: bool = True
    query: str = "question"
    match: str = "video"
    gate: str = "best"
    gate_ratio: float = 1.0
    gate_momentum: float = 0.2
    top_k: int = 10
    least_share: float = 0.9
    low_spread: float = 0.05
    high_spread: float = 0.3

    def __post_init__(self) -> None:
        _one_of("retrieval.", self, gate=GATES, query=QUERIES, match=MATCHES)
        _at_least("retrieval.", self, 1, "top_k")
        _at_least("retrieval.", self, 0, "gate_ratio", "low_spread")
        _within("retrieval.", self, 0.0, 1.0, "gate_momentum", "least_share")
        if not self.low_spread < self.high_spread:
            raise InputError(
                f"retrieval.low_spread is {self.low_spread} and high_spread {self.high_spread}; "
                "expected the low one below the high one"
            )


@dataclass(frozen=True)
class SeenConfig:
    """What counts as seen, for models that find moments (``words``).

    Attributes:
        refuse: share of unrelated texts, scored on the same memory, that what was asked for has
            to surpass.
        least: score below which nothing counts as seen, however little the memory shows.
        most: score from which on everything does, however much it shows.
        gap_s: seconds without it that do not end an interval.
    """

    refuse: float = 0.9
    least: float = 0.2
    most: float = 0.5
    gap_s: float = 1.0

    def __post_init__(self) -> None:
        _within("seen.", self, 0.0, 1.0, "refuse", "least", "most")
        _at_least("seen.", self, 0, "gap_s")
        if self.least > self.most:
            _refuse("seen.", self, "least", f"no more than seen.most ({self.most})")


@dataclass(frozen=True)
class PositionConfig:
    """Where kept tokens stand in the prompt.

    Attributes:
        mode: ``absolute``: where they stood in the whole video, gaps left open. ``rebase``: the
            same, shifted so that the oldest kept grid comes first; distances stay. ``compact``:
            kept grids follow each other without gaps.
        clock: temporal ids by the ``time`` of a grid, or by its ``index`` and the mean time
            between grids. The same for regular streams.
        text: where text after the video starts: ``reference``, after the largest id of the whole
            video; or ``transformers``, as release 5.23 does, after its largest row or column.

    Source:
        specs/savemem.md 1.8 and 6.1.
    """

    mode: str = "rebase"
    clock: str = "time"
    text: str = "reference"

    def __post_init__(self) -> None:
        _one_of("positions.", self, mode=POSITIONS, clock=CLOCKS, text=TEXT_RULES)


@dataclass(frozen=True)
class VideoQaConfig:
    """Settings of a video memory session.

    Attributes:
        fps: frames a second that are looked at, by their times; None looks at every frame.
        frames: which they are: ``raster``, as their times come; ``spread``, of a file that says
            its length, as the Qwen family's model cards do: an even number of them, 4 to 768,
            spread evenly from the first to the last.
        memory, salience, retrieval, positions, seen: see there.
        max_answer_tokens: of one answer.
        evidence: moments named with an answer, at most.
        history_turns: earlier turns of a conversation that are given to the model, at most.

    Source:
        SAVEMem (arXiv 2605.07897) and its released code; specs/savemem.md 1.2 for ``fps``.
    """

    fps: float | None = 1.0
    frames: str = "raster"
    memory: MemoryConfig = MemoryConfig()
    salience: SalienceConfig = SalienceConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    positions: PositionConfig = PositionConfig()
    seen: SeenConfig = SeenConfig()
    max_answer_tokens: int = 128
    evidence: int = 8
    history_turns: int = 8

    def __post_init__(self) -> None:
        if self.fps is not None and not (math.isfinite(self.fps) and self.fps > 0):
            raise InputError(
                f"fps is {self.fps}; expected a number above 0, or none for all frames"
            )
        _one_of("", self, frames=LOOKS)
        if self.frames == "spread" and self.fps is None:
            raise InputError("frames is spread and fps none; expected fps, as 2")
        _at_least("", self, 1, "max_answer_tokens", "evidence")
        _at_least("", self, 0, "history_turns")
