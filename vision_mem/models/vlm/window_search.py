"""The model that ``vision-mem ask`` starts with: finds things by words, and does not talk.

A frame is seen through windows of three sizes. EfficientNet-Lite0's features are averaged over each
window, as the classifier was taught on averages, and classified; a token is a window with the
square roots of its shares of ImageNet's thousand classes, so that it has length 1 and its cosine
with another says how alike two windows are. A question becomes a weight for each class, by how
near its words are to the names of classes and of groups of them (all-MiniLM-L6-v2), and a window
shows what is asked for by the sum of the weights times its shares.

What ImageNet has no class for, and no group near it, cannot be found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vision_mem.errors import InputError
from vision_mem.models.embedder import SentenceVectors
from vision_mem.models.vlm.class_groups import class_groups
from vision_mem.models.vlm.protocol import (
    EncodedGrid,
    PromptTokens,
    Question,
    VideoLanguageModel,
    VideoModelTraits,
)
from vision_mem.models.vlm.word_search import PatchClassifier, WordSearch, class_names, phrases_of
from vision_mem.types import Frame

CLASSES = 1000
COLOURS = (
    "black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink",
)  # fmt: skip
_NEAR = 0.04
"""How fast a name's weight falls with its cosine; of .03 to .07 on the tuning pictures."""
_A_NAME = 0.6
"""A word for a detector is at least so near to a name: of 0.5 to 0.75 on thirty words."""
_LEAST_NEAR = 0.3
"""Below this cosine with every name a question names nothing that is known."""
_ENOUGH_COLOUR = 0.15
"""Share of a window that has to have the colour asked for."""
_OTHER_COLOUR = 0.25
"""What a window of another colour is worth."""
_COLOUR_ALONE = 0.3
"""Share of a window that shows a colour when nothing but the colour is asked for."""
_SCALES = (0.6, 0.35)
_STEPS = 0.47, 0.7  # of a window, at most, along the short and the long side

UNRELATED = (
    "a bird on a branch", "an old bridge", "somebody baking bread", "a crowded beach",
    "a wooden boat", "the moon", "a red bus", "a chicken", "a chess game", "a kitchen knife",
    "a rubber duck", "an escalator", "a fire engine", "a frog", "a gorilla", "a glass of wine",
    "a harp", "an igloo", "a jellyfish", "a kangaroo", "a ladder", "a lighthouse", "a lobster",
    "a mailbox", "a microscope", "a motor boat", "a nest with eggs", "an octopus",
    "an old telephone", "a palm tree", "a peacock", "a pumpkin", "a rainbow", "a rhinoceros",
    "a roller coaster", "a rose", "a saxophone", "a school class", "a sewing needle",
    "a shopping trolley", "a skyscraper", "a snail", "a suitcase", "a sunflower", "a toaster",
    "a traffic light", "a treadmill", "a trumpet", "a tunnel", "a turtle", "a typewriter",
    "a vase", "a vacuum cleaner", "a windmill", "a wolf", "a yacht", "ice hockey",
    "people dancing", "a glass of milk", "a pair of shoes", "a swimming race",
    "a doctor with a patient", "a pile of money", "a camera on a tripod", "a bunch of keys",
    "a bowl of soup", "a frying pan", "a garden hose", "a hair dryer", "a horse race",
    "a judge in court", "a lawn mower", "a map of the world", "a mountain bike", "a newspaper",
    "an open window", "a paint brush", "a police officer", "a priest in a church",
    "a roof with tiles", "a sandcastle", "a rocking chair", "a slice of cake",
    "a soldier with a rifle", "a stack of plates", "a staircase", "a storm at sea",
    "a street market", "a tree in autumn", "a wrist watch", "an alarm clock", "an apple",
    "an aquarium", "an armchair", "an axe", "a ballet dancer", "a basket of fruit", "a bear",
    "a bee on a flower", "a bottle of beer", "a bowling alley", "a candle", "a carrot", "a cave",
    "a cow in a meadow", "a crane on a building site", "a crown", "a deer", "a desert", "a drum",
    "a fence", "a field of wheat", "a flag", "a forest", "a fountain", "a giraffe", "a hammer",
    "a hospital bed", "a parachute", "a gas station", "a pair of glasses", "a pillow",
    "a mushroom", "a necklace",
)  # fmt: skip
"""Texts that are mostly not about what a video shows: what is asked for has to stand out."""

_RELATION = re.compile(
    r"\b(?:on|in|at|with|behind|under|near|beside|before|after|from|by|next to|along|across"
    r"|through|over|into|wearing)\b"
)
_PLACED = re.compile(
    r"\b(?:(?:to|on|at|from|in) the )?(?:left|right)(?:[- ]hand)?(?: side)? of\b"
    r"|\b(?:to|on|at) the (?:left|right)(?:[- ]hand)?(?: side)?\b"
    r"|\b(?:in front of|on top of|next to|behind|beside|above|below|beneath|underneath|between)\b"
    r"|\b(?:closer|nearer|closest|nearest) to\b"
    r"|\b(?:bigger|larger|smaller|taller|shorter|longer|faster|slower|older) than\b"
    r"|\b(?:before|after) (?=the |an? )",
    re.IGNORECASE,
)
"""How a question says where or when one thing is beside another."""
# Small words of other languages that are no English words.
_FOREIGN = {
    "German": "der das und ein eine einen einem wo wann nicht auf im dem wer mit von zum sind",
    "French": "le les une et est où ou quand avec dans du qui sur il y-a y a-t-il sont",
    "Spanish": "el los las una y donde dónde cuando cuándo hay del quién con un está",
    "Italian": "il lo gli una è dove quando della nel chi sono con un c'è",
    "Portuguese": "os uma onde quando há na quem são com um está",
    "Dutch": "het een waar wanneer niet wie zijn met er van",
    "Polish": "jest gdzie kiedy nie się czy na",
    "Turkish": "bir ve nerede ne zaman var",
}


@dataclass(frozen=True, eq=False)
class ClassQuery:
    """What is looked for, m texts at once.

    Attributes:
        weights: float32 ``(m, 1000)`` of the classes, in [0, 1].
        colours: ``(m, 11)`` bool: the colours that are asked for; none where no row has one.
        plain: bool ``(m,)``: whether a text asks for a colour and nothing else.
        unknown: why nothing can be found, in one line; empty when something can.
        remark: what of the question is passed over, in one line.
    """

    weights: Tensor
    colours: Tensor
    plain: Tensor
    unknown: str = ""
    remark: str = ""

    def scores(self, tokens: Tensor, extras: Mapping[str, Tensor]) -> Tensor:
        """How much each token shows of each text: float32 ``(n, m)`` in [0, 1].

        Args:
            tokens: ``(n, 1000)`` of the memory.
            extras: with ``colours``, ``(n, 11)`` shares of each window.
        """
        shares = tokens.float().square() @ self.weights.T
        if not bool(self.colours.any()):
            return shares
        coloured = extras["colours"].float() @ self.colours.float().T  # (n, m)
        dimmed = _OTHER_COLOUR + (1 - _OTHER_COLOUR) * (coloured / _ENOUGH_COLOUR).clamp(max=1.0)
        shares = torch.where(self.colours.any(dim=1), shares * dimmed, shares)
        alone = (coloured / _COLOUR_ALONE).clamp(max=1.0)
        return torch.where(self.plain, alone, shares)


class WindowSearch:
    """Windows and words in one space; see the module.

    Args:
        short_side: pixels that frames are brought to.
        device: torch device.

    Raises:
        MissingExtra: when extra ``[offline]`` is not installed.
    """

    def __init__(self, short_side: int = 384, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self._sentences = SentenceVectors(self.device)
        self._classifier = PatchClassifier(short_side, self.device)
        self._short_side = short_side
        self.traits = VideoModelTraits(
            model_id=f"words#{self._classifier.fingerprint}-{short_side}w",
            width=CLASSES,
            frames_per_grid=1,
            tokens_per_second=None,
            speaks=False,
        )
        self._looked_for = lru_cache(maxsize=1024)(self._look_for)

    def earlier(self, model_id: str) -> VideoLanguageModel | None:
        """The model that made a memory before windows were tokens; None for any other one."""
        if model_id != f"words#{self._classifier.fingerprint}-{self._short_side}":
            return None
        return self._patches

    @cached_property
    def _patches(self) -> WordSearch:
        return WordSearch(self._short_side, self.device)

    # -- frames --------------------------------------------------------------------------------

    def encode_grid(self, frames: Sequence[Frame]) -> EncodedGrid:
        """Windows of one frame, large ones first; see ``VideoLanguageModel``.

        Windows of one size lie in rows and columns of their own, a row apart from those of the
        next size. Extras are ``box``, shares ``(left, top, right, bottom)`` of the picture, and
        ``colours``.
        """
        image = frames[-1].image
        features = self._classifier.features(image)  # (1280, h, w)
        layout = window_layout(*features.shape[1:])
        means = torch.stack(
            [features[:, t:b, x:r].mean(dim=(1, 2)) for _, _, (x, t, r, b) in layout]
        )
        shares = self._classifier.classes(means).softmax(dim=1)
        size = torch.tensor([features.shape[2], features.shape[1]] * 2)
        boxes = torch.tensor([box for _, _, box in layout]) / size
        rows, cols = (torch.tensor([place[n] for place in layout]) for n in (0, 1))
        return EncodedGrid(
            shares.sqrt().half(),
            rows.to(self.device),
            cols.to(self.device),
            {
                "box": boxes.half().to(self.device),
                "colours": colour_shares(image, boxes.numpy()).half().to(self.device),
            },
        )

    # -- words ---------------------------------------------------------------------------------

    def embed_text(self, text: str) -> Tensor:
        """``(1, 1000)``: square roots of the weights, of length 1; none when no word tells."""
        if not phrases_of(text):
            return torch.empty((0, CLASSES), device=self.device)
        return F.normalize(self._looked_for((text,)).weights.sqrt(), dim=1)

    def embed_question(self, question: Question) -> PromptTokens:
        """The words of the question and its options; see ``VideoLanguageModel``.

        Raises:
            InputError: when no word says what to look for.
        """
        vectors = self.embed_text(_asked(question))
        return PromptTokens(vectors, torch.ones(len(vectors), dtype=torch.bool))

    def search(self, question: Question) -> ClassQuery:
        """What a question looks for; see ``TokenSearch``.

        Raises:
            InputError: when no word says what to look for.
        """
        text = _asked(question)
        thing, remark = without_relation(text)
        found = self._looked_for((thing,))
        return found if not remark or found.unknown else replace(found, remark=remark)

    # -- parts ---------------------------------------------------------------------------------

    def features(self, image: NDArray[np.uint8]) -> Tensor:
        """``(1280, h, w)`` of a picture ``(H, W, 3)`` uint8 RGB; means of parts are classified."""
        return self._classifier.features(image)

    @torch.inference_mode()
    def shares(self, means: Tensor) -> Tensor:
        """Shares of the classes ``(n, 1000)``, for means of features ``(n, 1280)``."""
        return self._classifier.classes(means).softmax(dim=1)

    def known(self, word: str) -> Tensor | None:
        """Weights of the classes ``(1, 1000)`` for the name of a thing; None for no such name.

        A name is that of a class or a group, or as near to one as another word for it.
        """
        if not phrases_of(word):
            return None
        names, mean, _ = self._names
        vector = F.normalize(self._sentences([word.lower()]) - mean, dim=1)
        if float((vector @ names.T).max()) < _A_NAME:
            return None
        return self._looked_for((word,)).weights

    def nearest(self, word: str, count: int = 4) -> list[str]:
        """Names of classes and groups that are nearest to a word in meaning."""
        names, mean, _ = self._names
        vector = F.normalize(self._sentences([word.lower()]) - mean, dim=1)
        every = [*class_names(), *(name for name, _ in class_groups())]
        order = (vector @ names.T)[0].argsort(descending=True)
        return list(dict.fromkeys(every[int(n)] for n in order[: 3 * count]))[:count]

    def unrelated(self) -> ClassQuery:
        """Texts that have nothing to do with each other; see ``MomentModel``."""
        return self._looked_for(UNRELATED)

    def answer(self, *given: Any, **more: Any) -> None:
        """None: it finds moments and gives no words."""

    @cached_property
    def _names(self) -> tuple[Tensor, Tensor, Tensor]:
        """Directions of all names, what all have in common, and ``(names, 1000)`` their classes."""
        groups = class_groups()
        classes = self._sentences(class_names())
        mean = classes.mean(dim=0)  # what all names have in common tells nothing
        vectors = torch.cat([classes, self._sentences([name for name, _ in groups])])
        members = torch.zeros(len(vectors), CLASSES, device=self.device)
        members[:CLASSES] = torch.eye(CLASSES, device=self.device)
        for number, (_, own) in enumerate(groups, start=CLASSES):
            members[number, list(own)] = 1.0
        return F.normalize(vectors - mean, dim=1), mean, members

    @torch.inference_mode()
    def _look_for(self, texts: tuple[str, ...]) -> ClassQuery:
        names, mean, members = self._names
        read = [_read(text) for text in texts]
        parts = [part for each in read for part in each.parts]
        vectors = F.normalize(self._sentences(parts) - mean, dim=1)
        mixed = F.normalize(vectors.reshape(len(texts), -1, vectors.shape[1]).sum(dim=1), dim=1)
        near = mixed @ names.T
        weights = ((near / _NEAR).softmax(dim=1) @ members).clamp(max=1.0)
        colours = torch.tensor([[c in each.colours for c in COLOURS] for each in read])
        plain = torch.tensor([each.plain for each in read])
        unknown = ""
        if len(texts) == 1 and not read[0].plain:
            unknown = foreign(texts[0])
            if not unknown and float(near.max()) < _LEAST_NEAR:
                thing = read[0].parts[-1]
                unknown = f"{thing!r} is nothing this model knows; name a thing in other words"
        return ClassQuery(weights, colours.to(self.device), plain.to(self.device), unknown)


@dataclass(frozen=True)
class _Reading:
    """Parts of a text that are looked for (three), and colours in it."""

    parts: tuple[str, str, str]
    colours: frozenset[str]
    plain: bool


def _read(text: str) -> _Reading:
    telling = _telling(text)
    words = ["grey" if word == "gray" else word for word in telling.split()]
    colours = frozenset(words) & frozenset(COLOURS)
    things = [word for word in words if word not in colours]
    plain = bool(colours) and all(word in _ANYTHING for word in things)
    # "Orange" may be a fruit, and "black and white" no colour of anything.
    if plain and colours == {"orange"} and not things:
        colours, plain = frozenset(), False
    thing = " ".join(things) or telling
    first = next(
        (_telling(part) for part in _RELATION.split(text.lower()) if _telling(part)), thing
    )
    head = " ".join(word for word in first.split() if word not in colours) or thing
    return _Reading((text, thing, head), colours, plain)


_ANYTHING = frozenset(
    re.findall(r"\w+", "something anything thing things object objects colour color one")
)


def _telling(text: str) -> str:
    return next(iter(phrases_of(text)), "")


def _asked(question: Question) -> str:
    text = " ".join([question.text, *question.options])
    if not phrases_of(text):
        raise InputError(
            f"{question.text!r} does not say what to look for; name a thing, as in "
            "'when is there a dog?'"
        )
    return text


def without_relation(text: str) -> tuple[str, str]:
    """A question without what it says of one thing beside another, which this model cannot judge.

    Returns:
        What is looked for instead, and one line that says so; the text, and an empty line, where
        it speaks of no relation.
    """
    found = _PLACED.search(text)
    if found is None:
        return text, ""
    sides = [side for side in (text[: found.start()], text[found.end() :]) if _telling(side)]
    if not sides:
        return text, ""
    thing = sides[0].strip(" ,.?!")
    return thing, (
        f"where or when things are beside each other ({' '.join(found[0].split())!r}) is not known "
        f"to this model; looked for {_telling(thing)!r} alone"
    )


def foreign(text: str) -> str:
    """Why a text is not read: what language it may be in, in one line; empty for English."""
    letters = [letter for letter in text if letter.isalpha()]
    if any(ord(letter) > 0x24F for letter in letters):
        return "this is not written in English letters, and this model knows English words alone"
    words = re.findall(r"[^\W\d_][\w'-]*", text.lower())
    found = {name: sum(w in small.split() for w in words) for name, small in _FOREIGN.items()}
    name = max(found, key=lambda each: found[each])
    if found[name] >= 2 or (found[name] == 1 and len(words) <= 4):
        return f"this looks like {name}, and this model knows English words alone"
    return ""


def window_layout(height: int, width: int) -> list[tuple[int, int, tuple[int, int, int, int]]]:
    """Windows on a map: row and column of each, and ``(left, top, right, bottom)`` in cells.

    The whole picture, and squares of .6 and .35 of the short side that lie closer along it.
    """
    found = [(0, 0, (0, 0, width, height))]
    short, row = min(height, width), 2
    for scale in _SCALES:
        side = max(1, round(scale * short))
        counts = [_count(length, scale * short, length == short) for length in (height, width)]
        least = _count(short, scale * short, True)
        down, across = (max(count, least) if side < short else 1 for count in counts)
        for i in range(down):
            top = round((height - side) * i / max(1, down - 1))
            for k in range(across):
                left = round((width - side) * k / max(1, across - 1))
                found.append((row + i, k, (left, top, left + side, top + side)))
        row += down + 1
    return found


def _count(length: int, side: float, close: bool) -> int:
    step = _STEPS[0] if close else _STEPS[1]
    return 1 + int(np.ceil(max(0.0, length - side) / (step * side) - 1e-9))


_COLOUR_SIDE = 96


def colour_shares(image: NDArray[np.uint8], boxes: NDArray[np.float32]) -> Tensor:
    """Shares of ``COLOURS`` in parts of a picture: float32 ``(n, 11)``.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        boxes: ``(n, 4)`` left, top, right, bottom, as shares of its sides.
    """
    small = cv2.resize(image, (_COLOUR_SIDE, _COLOUR_SIDE), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_RGB2HSV).astype(np.int32)
    hue, full, light = hsv[..., 0] * 2, hsv[..., 1], hsv[..., 2]
    named = np.select(
        [
            light < 45,
            (full < 40) & (light > 190),
            full < 40,
            (hue < 45) & (hue >= 18) & (light < 150),
            (hue >= 315) & (hue < 345) | ((hue >= 345) | (hue < 18)) & (full < 110) & (light > 160),
            (hue < 18) | (hue >= 345),
            hue < 42,
            hue < 70,
            hue < 165,
            hue < 260,
        ],
        [COLOURS.index(c) for c in (
            "black", "white", "grey", "brown", "pink", "red", "orange", "yellow", "green", "blue",
        )],
        COLOURS.index("purple"),
    )  # fmt: skip
    maps = np.eye(len(COLOURS), dtype=np.float32)[named]
    ends = np.rint(boxes * _COLOUR_SIDE).astype(int)
    parts = [
        maps[top : max(bottom, top + 1), left : max(right, left + 1)].mean(axis=(0, 1))
        for left, top, right, bottom in ends
    ]
    return torch.from_numpy(np.stack(parts))
