"""Words of detectors to the classes of a file format: "person" is KITTI's pedestrian."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from vision_mem.config import nearest
from vision_mem.errors import InputError

log = logging.getLogger(__name__)

_SAME: Mapping[str, tuple[str, ...]] = {
    "pedestrian": ("person", "people", "human", "man", "woman", "child", "walker"),
    "car": ("van", "automobile", "vehicle"),
}
"""What detectors call the classes of benchmarks; COCO's ``person`` above all."""


class ClassNumbers:
    """Gives each class of a detector its number in a file format, and counts what has none.

    Args:
        classes: of the format, number to word.
        given: more words of the detector, or other meanings, to classes. Of classes that the
            format does not have nothing is written.
        title: of the format, for messages.

    Raises:
        InputError: when ``given`` names a class that no format has.
    """

    def __init__(
        self, classes: Mapping[int, str], given: Mapping[str, str] | None = None, title: str = ""
    ) -> None:
        self.title = title
        self.left_out: Counter[str] = Counter()
        """Objects without a class of the format so far, by word."""
        numbers = {word.casefold(): number for number, word in classes.items()}
        self._numbers = dict(numbers)
        for word, others in _SAME.items():
            if word in numbers:
                self._numbers |= {other: numbers[word] for other in others}
        self._elsewhere = set()
        for other, word in (given or {}).items():
            known = {**numbers, **dict.fromkeys(_SAME)}
            if word.casefold() not in known:
                raise InputError(
                    f"there is no class {word!r}; expected one of {', '.join(known)}"
                    f"{nearest(word, list(known))}"
                )
            self._numbers.pop(other.casefold(), None)
            if word.casefold() in numbers:
                self._numbers[other.casefold()] = numbers[word.casefold()]
            else:
                self._elsewhere.add(other.casefold())

    def number(self, word: str) -> int | None:
        """The number of a class; None, counted and said once, when the format has none for it."""
        folded = word.strip().casefold()
        found = self._numbers.get(folded)
        if found is None:
            if word not in self.left_out and folded not in self._elsewhere:
                log.warning(
                    "class %r has no place in %s and is left out; say which it is meant to be with "
                    "--classes %s=...", word, self.title or "this format", word,
                )  # fmt: skip
            self.left_out[word] += 1
        return found


def parse_classes(pairs: Iterable[str]) -> dict[str, str]:
    """Read ``detector=format`` pairs as they stand on a command line, several to a word.

    Args:
        pairs: such as ``["truck=car,moving=pedestrian"]``.

    Raises:
        InputError: for what is no such pair, and for a word that is given twice.
    """
    found: dict[str, str] = {}
    for part in (part for text in pairs for part in text.split(",") if part.strip()):
        word, equals, meant = (piece.strip() for piece in part.partition("="))
        if not (word and equals and meant):
            raise InputError(
                f"--classes {part!r}: expected DETECTOR'S WORD=CLASS, as person=pedestrian"
            )
        if found.setdefault(word.casefold(), meant) != meant:
            raise InputError(
                f"--classes gives {word!r} two meanings: {found[word.casefold()]}, {meant}"
            )
    return found
