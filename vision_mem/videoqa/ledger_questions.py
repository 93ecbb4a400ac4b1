"""Questions about things that were followed: a stated grammar, answered from the ledger.

Understood are: when, how often, how long, how many, first, last, before, after, together with,
where, what or who at a time, on a thing or in a zone, and yes or no of the same. A question of
another form is not one for the ledger (None): it is looked for in the pictures. What is asked of
something that nobody followed is said so, with the names that are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vision_mem.models.vlm.window_search import COLOURS
from vision_mem.videoqa.ledger import GAP_S, Entity, EntityLedger, Place, Stay

_AUX = r"(?:was|were|is|are|did|does|do|has|have|had)"
_VERBS = {
    "come": r"(?:come|came|comes|arrive[ds]?|appear(?:ed|s)?|enter(?:ed|s)?|return(?:ed|s)?"
    r"|(?:show|turn)(?:ed|s)? up)(?: in| back)?",
    "leave": r"(?:leaves?|left|go(?:es|ne)?|went|disappear(?:ed|s)?|vanish(?:ed|es)?|exit(?:ed|s)?"
    r"|(?:drive|drove|driven)s?)(?: away| out| off)?",
    "move": r"(?:moved?|moves|shifted|displaced|carried)(?: away| around)?",
    "seen": r"(?:seen|see|there|visible|in view|in the picture|in sight|present|around|here"
    r"|stay(?:ed)?|stand|stood)",
    "cross": r"(?:cross(?:ed|es)?)",
}
_ANY = "(?:" + "|".join(_VERBS.values()) + ")"
_DOES = "|".join(_VERBS[verb] for verb in ("move", "come", "leave", "cross"))
_WHO = r"(?P<w>who|what|which(?: .+?)?)"
_INTO = r"(?:into|inside|in|through|at|over)"
_TIME = r"(\d+(?::\d\d){1,2}(?:\.\d+)?|\d+(?:\.\d+)?)"
_UNIT = r"(?: ?(s|sec|secs|seconds?|min|minutes?)\b)?"
_SPANS = (
    rf" ?\b(?P<word>between|from) {_TIME}{_UNIT} (?:and|to|until|till) {_TIME}{_UNIT}",
    rf" ?\b(?P<word>at|around|after|before|since|until|till) {_TIME}{_UNIT}",
)
_FORMS: tuple[tuple[str, str], ...] = (
    ("together", rf"(?P<how>when|how long|how often|how many times) {_AUX} (?P<x>.+?) and "
     r"(?P<y>.+?)(?: seen| there| visible| in view)? together"),
    ("together", rf"(?P<how>when|how long|how often|how many times) {_AUX} (?P<x>.+?)"
     r"(?: seen| there)?(?: together)? with (?P<y>.+)"),
    ("often", rf"how (?:often|many times) {_AUX} (?P<x>.+?) (?:been |get |be )?(?P<v>{_ANY})"),
    ("long", rf"(?:for )?how long {_AUX} (?P<x>.+?) (?:been |be )?(?P<v>{_VERBS['seen']})"),
    ("many", rf"how many (?P<x>.+?) (?:{_AUX} )?(?:been )?(?P<v>{_ANY})"),
    ("when", rf"when {_AUX} (?:i|we|you) (?:(?P<mod>first|last) )?see (?P<x>.+?)"
     r"(?: for the)?(?: (?P<mod2>first|last))?(?: time)?(?P<v>)"),
    ("when", rf"when {_AUX} there (?P<x>.+)(?P<v>)"),
    ("when", rf"when {_AUX} (?P<x>.+?) (?:(?P<mod>first|last) )?(?:been |get )?(?P<v>{_ANY})"
     r"(?: for the)?(?: (?P<mod2>first|last))?(?: time)?"),
    ("order", rf"{_WHO} (?:{_AUX} )?(?P<v>{_ANY}) (?P<near>right |just |directly |immediately )?"
     rf"(?P<rel>before|after) (?P<y>.+?)(?: (?P<v2>{_ANY}|did|was))?"),
    ("rank", rf"{_WHO} (?:{_AUX} )?(?:the )?(?P<mod>first|last)(?: one)? (?:to )?(?:be )?"
     rf"(?P<v>{_ANY})"),
    ("rank", rf"{_WHO} (?:{_AUX} )?(?:the )?(?P<v>{_ANY}) (?P<mod>first|last)"),
    ("with", rf"{_WHO} {_AUX} (?:seen |there )?(?:together )?with (?P<y>.+)"),
    ("where", rf"where {_AUX} (?:i|we|you) (?:(?P<mod>first|last) )?see (?P<x>.+?)"
     r"(?: (?P<mod2>first|last))?"),
    ("where", rf"where {_AUX} (?P<x>.+?)(?: (?P<mod>first|last))?(?: seen| now)?"
     r"(?: (?P<mod2>first|last))?"),
    ("there", rf"{_WHO} {_AUX} (?:there )?(?P<v>{_VERBS['seen']})"),
    ("there", rf"{_WHO} (?P<v>{_DOES})"),
    ("there", rf"{_WHO} {_AUX} (?P<v>{_VERBS['move']})"),
    ("at", rf"{_WHO} {_AUX} (?:there )?(?P<rel>on top of|on|inside|in|near|next to|beside) "
     r"(?P<y>.+)"),
    ("yes order", rf"{_AUX} (?P<x>.+?) (?P<v>{_ANY}) (?P<rel>before|after) "
     rf"(?P<y>.+?)(?: (?P<v2>{_ANY}|did|was))?"),
    ("yes together", rf"{_AUX} (?P<x>.+?) and (?P<y>.+?)(?: ever)?(?: seen| there)? together"),
    ("yes together", rf"{_AUX} (?P<x>.+?)(?: ever)?(?: seen| there)? together with (?P<y>.+)"),
    ("yes", rf"{_AUX} there (?P<x>.+)(?P<v>)"),
    ("yes", rf"{_AUX} (?P<x>.+?)(?: ever| still)? (?:been )?(?P<v>{_ANY})"),
)  # fmt: skip
_FORM = tuple((kind, re.compile(form)) for kind, form in _FORMS)
_ARTICLES = {"the", "a", "an", "my", "our", "your", "his", "her", "any", "some", "this", "that",
             "these", "those", "all", "every", "of", "one", "ones", "other"}  # fmt: skip
_THINGS = {"thing", "things", "object", "objects", "something", "anything", "everything", "it all"}
_ALIKE = (
    {"person", "people", "persons", "pedestrian", "pedestrians", "somebody", "someone", "anybody",
     "anyone", "human", "humans"},
    {"cup", "mug", "cups", "mugs"}, {"sofa", "couch"}, {"tv", "television", "monitor", "screen"},
    {"phone", "cell phone", "mobile phone"}, {"bike", "bicycle", "bikes", "bicycles"},
    {"plane", "airplane", "aeroplane"}, {"table", "dining table", "desk"},
    {"motorbike", "motorcycle", "motorbikes", "motorcycles"},
)  # fmt: skip
_VEHICLES = {"car", "truck", "bus", "van", "motorcycle", "bicycle", "vehicle", "train"}
_PEOPLE = _ALIKE[0]
_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child",
              "mice": "mouse", "knives": "knife", "geese": "goose", "buses": "bus"}  # fmt: skip
_DID = {
    "move": ("was moved", "was never moved"), "come": ("came", "never came"),
    "leave": ("left", "never left"), "cross": ("crossed", "never crossed"),
}  # fmt: skip
_COLOUR_SHARE = 0.25
_MOST_NAMED = 12


@dataclass(frozen=True)
class ThingSpan:
    """A moment or a while of an answer about a thing.

    Attributes:
        number, name: of the thing.
        start_s, end_s: seconds of the memory's clock.
        frame: the memory's number of its first frame.
        box: where in the picture, or None.
    """

    number: int
    name: str
    start_s: float
    end_s: float
    frame: int
    box: Place | None = None


@dataclass(frozen=True)
class ThingAnswer:
    """What the ledger answers.

    Attributes:
        kind: of question: ``when``, ``often``, ``long``, ``many``, ``rank``, ``order``, ``with``,
            ``together``, ``where``, ``there``, ``at``, ``yes``.
        text: the answer, a line.
        found: whether there is something of the kind; None where the thing is not known.
        value: the answer for programs: a count, seconds, yes or no, times, or names.
        spans: what it rests on, in time order.
    """

    kind: str
    text: str
    found: bool | None
    value: Any
    spans: tuple[ThingSpan, ...] = ()


@dataclass(frozen=True)
class _Asked:
    """A question, read."""

    kind: str
    parts: dict[str, str]
    verb: str
    verb2: str
    window: tuple[float, float]
    instant: bool
    zone: str = ""

    def get(self, name: str) -> str:
        return (self.parts.get(name) or "").strip()

    @property
    def mod(self) -> str:
        return self.get("mod") or self.get("mod2")


@dataclass(frozen=True)
class _Incident:
    """One thing did something: what questions about when, first and before are about."""

    entity: Entity
    start_s: float
    end_s: float
    frame: int
    sure: bool = True


class _UnknownThing(Exception):
    """A name that no thing has."""


def answer_thing(
    question: str,
    ledger: EntityLedger,
    now_s: float,
    clock: Callable[[float, int], str],
    origin_s: float = 0.0,
    until_s: float | None = None,
) -> ThingAnswer | None:
    """Answer a question about things that were followed.

    Args:
        question: in English.
        ledger: of the stream.
        now_s: the latest time that was seen, seconds of the memory's clock.
        clock: words for a time and a frame of the memory.
        origin_s: what times in the question count from.
        until_s: answer as if asked then; None for now.

    Returns:
        The answer; None where it is not a question of the grammar, or nothing was followed.
    """
    entities = ledger.entities()
    if until_s is not None:
        now_s, entities = until_s, _until(entities, until_s)
    if not entities:
        return None
    zones = {each.zone for one in entities for each in one.happenings if each.zone}
    asked = _read(question, zones, origin_s)
    desk = _Ledger(ledger, entities, now_s, clock, asked, ledger.begins())
    try:
        if asked is None:
            phrase = _plain(question)
            who = desk.resolve(phrase) if phrase and len(phrase.split()) <= 4 else []
            bare = _Asked("when", {"x": phrase}, "seen", "", (-1e18, 1e18), False)
            return desk.with_question(bare).when(who) if who else None
        return desk.answer()
    except _UnknownThing as error:
        if asked is None:
            return None
        return ThingAnswer(asked.kind, str(error), None, None)


def _until(entities: Sequence[Entity], time_s: float) -> list[Entity]:
    """Things as they were known at a time."""
    found = []
    for one in entities:
        stays = tuple(
            replace(stay, end_s=time_s, open=True) if stay.end_s > time_s else stay
            for stay in one.stays
            if stay.start_s <= time_s
        )
        did = tuple(each for each in one.happenings if each.start_s <= time_s)
        if stays:
            found.append(replace(one, stays=stays, happenings=did))
    return found


def _plain(question: str) -> str:
    text = re.sub(r"\s+", " ", question.lower().replace("\u2019", "'")).strip(" ?!.,")
    text = re.sub(r"^(?:please |tell me |say )+", "", text)
    return re.sub(r"\b(?:ever|actually|exactly|currently) ", "", text)


def _read(question: str, zones: Iterable[str], origin_s: float) -> _Asked | None:
    text = _plain(question)
    window, instant = (-1e18, 1e18), False
    for form in _SPANS:
        if found := re.search(form, text):
            times = [
                _seconds(found[number], found[number + 1]) + origin_s
                for number in range(2, (found.re.groups or 0) + 1, 2)
                if found[number]
            ]
            word = found["word"]
            if len(times) == 2:
                window = (min(times), max(times))
            elif word in ("at", "around"):
                window, instant = (times[0], times[0]), True
            else:
                after = word in ("after", "since")
                window = (times[0], 1e18) if after else (-1e18, times[0])
            text = re.sub(r"\s+", " ", text[: found.start()] + text[found.end() :]).strip()
            break
    text, zone = _without_zone(text, zones)
    for kind, sentence in _FORM:
        if found := sentence.fullmatch(text):
            parts = {name: value for name, value in found.groupdict().items() if value}
            verb = _verb(parts.get("v", "")) or "seen"
            if zone and verb == "seen" and kind not in ("long", "at", "where"):
                verb = "inside"
            return _Asked(
                kind, parts, verb, _verb(parts.get("v2", "")) or verb, window, instant, zone
            )
    return None


def _without_zone(text: str, zones: Iterable[str]) -> tuple[str, str]:
    """A question without the zone or line that it ends with, and which that is."""
    for zone in sorted(zones, key=len, reverse=True):
        name = re.escape(zone.lower())
        form = rf"^(.*\b(?:{_ANY}|was|were|is|are))(?: {_INTO})?(?: the)? {name}$"
        if found := re.match(form, text):
            begin = found[1]
            return (
                f"{begin} there" if begin.endswith((" was", " were", " is", " are")) else begin
            ), zone
    return text, ""


def _seconds(text: str, unit: str | None) -> float:
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total * (60.0 if unit and unit.startswith("min") else 1.0)


def _verb(word: str) -> str:
    return next((v for v, form in _VERBS.items() if re.fullmatch(form, word)), "")


def _forms(word: str) -> set[str]:
    """A noun and what means the same: its other number, and words for the same thing."""
    made = {word, _IRREGULAR.get(word, word)}
    for ending, other in (("ies", "y"), ("ses", "s"), ("xes", "x"), ("ches", "ch"), ("s", "")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            made.add(word[: -len(ending)] + other)
    for same in _ALIKE:
        if made & same:
            made |= same
    if made & {"vehicle", "vehicles"}:
        made |= _VEHICLES
    return made


@dataclass
class _Ledger:
    """One question to one ledger."""

    ledger: EntityLedger
    entities: Sequence[Entity]
    now_s: float
    clock: Callable[[float, int], str]
    asked: _Asked | None
    begins: Sequence[float]
    spans: list[ThingSpan] = field(default_factory=list)

    def with_question(self, asked: _Asked) -> _Ledger:
        self.asked = asked
        return self

    # Who ---------------------------------------------------------------------------------------

    def resolve(self, phrase: str) -> list[Entity]:
        """The things that a phrase means.

        Raises:
            _UnknownThing: saying which names there are.
        """
        words = [w for w in re.findall(r"[\w'-]+", phrase.lower()) if w not in _ARTICLES]
        bare = " ".join(words)
        named = [e for e in self.entities if _name(e.name) == _name(bare)]
        if named:
            return named
        colours = {"grey" if w == "gray" else w for w in words} & set(COLOURS)
        rest = [w for w in words if w not in colours and w != "gray"]
        noun = " ".join(w for w in rest if w not in _THINGS)
        if not words:
            raise self._unknown(phrase)
        found = [e for e in self.entities if not noun or _is_called(e, noun)]
        if not found:
            raise self._unknown(bare)
        if colours:
            seen = [e for e in found if all(_has(e, colour) for colour in colours)]
            if not seen:
                names = _names(found)
                raise _UnknownThing(
                    f"none of what was followed is {' and '.join(sorted(colours))}: {names}"
                    if not noun
                    else f"no {bare} was followed; {noun} is the word for {names}"
                )
            found = seen
        return found

    def _unknown(self, phrase: str) -> _UnknownThing:
        return _UnknownThing(f'nothing that was followed is called "{phrase}"; followed: '
                             f"{_names(self.entities)}")  # fmt: skip

    def group(self, word: str) -> list[Entity]:
        """Of whom ``who``, ``what`` or ``which car`` asks."""
        if word.startswith("which") and word != "which":
            noun = word.removeprefix("which ").strip()
            return list(self.entities) if noun in ("one", "ones") else self.resolve(noun)
        people = [e for e in self.entities if e.class_name in _PEOPLE]
        return people if word == "who" and people else list(self.entities)

    @property
    def nobody(self) -> str:
        """The word for none of whom was asked."""
        who = self.asked is not None and self.asked.get("w") == "who"
        return "nobody" if who else "nothing that was followed"

    # What happened -----------------------------------------------------------------------------

    def incidents(self, who: Sequence[Entity], verb: str) -> list[_Incident]:
        """All that things did of a kind, within the time asked for, in time order."""
        assert self.asked is not None
        low, high = self.asked.window
        found: list[_Incident] = []
        for one in who:
            found += self._did(one, verb)
        slack = 0.5 if self.asked.instant and verb in ("come", "leave", "move") else 0.0
        inside = [i for i in found if i.end_s >= low - slack and i.start_s <= high + slack]
        return sorted(inside, key=lambda each: (each.start_s, each.entity.number))

    def _did(self, one: Entity, verb: str) -> Iterable[_Incident]:
        assert self.asked is not None
        zone = self.asked.zone
        if zone:
            if verb == "inside":
                yield from self._visits(one, zone)
                return
            kinds = {"come": ("entered",), "leave": ("left",)}.get(verb, ("in", "out", "entered"))
            for each in one.happenings:
                if each.zone == zone and each.kind in kinds:
                    yield _Incident(one, each.start_s, each.end_s, each.frame)
        elif verb == "move":
            for each in one.happenings:
                if each.kind == "moved":
                    yield _Incident(one, each.start_s, each.end_s, each.frame)
        elif verb == "cross":
            for each in one.happenings:
                if each.kind in ("in", "out"):
                    yield _Incident(one, each.start_s, each.end_s, each.frame)
        else:
            for stay in one.stays:
                if verb == "come":
                    yield _Incident(one, stay.start_s, stay.start_s, stay.first,
                                    not self.from_begin(stay))  # fmt: skip
                elif verb == "leave":
                    if not self.stayed(stay):
                        yield _Incident(one, stay.end_s, stay.end_s, stay.last, stay.at_edge)
                else:
                    yield _Incident(one, stay.start_s, stay.end_s, stay.first)

    def _visits(self, one: Entity, zone: str) -> Iterable[_Incident]:
        """When a thing was in a zone, from its events."""
        came = None
        for each in one.happenings:
            if each.zone == zone and each.kind == "entered":
                came = each
            elif each.zone == zone and each.kind == "left" and came is not None:
                yield _Incident(one, came.start_s, each.end_s, came.frame)
                came = None
        if came is not None:
            yield _Incident(one, came.start_s, max(came.end_s, one.stays[-1].end_s), came.frame)

    def from_begin(self, stay: Stay) -> bool:
        """Whether a thing was there when a stream began."""
        return any(abs(stay.start_s - begin) < 1e-6 for begin in self.begins)

    def stayed(self, stay: Stay) -> bool:
        """Whether a thing was there to the end, or is out of sight for too short a while to say."""
        return stay.open or self.now_s - stay.end_s <= GAP_S + 1e-6

    # Answers -----------------------------------------------------------------------------------

    def answer(self) -> ThingAnswer | None:
        assert self.asked is not None
        asked = self.asked
        kind = asked.kind.removeprefix("yes ")
        if asked.kind == "yes together" or kind == "together":
            return self.together(self.resolve(asked.get("x")), self.resolve(asked.get("y")))
        if asked.kind == "yes order":
            return self.compared()
        if kind in ("rank", "order", "there", "with", "at"):
            who = self.group(asked.get("w"))
            made = {"rank": self.rank, "order": self.order, "there": self.there,
                    "with": self.company, "at": self.on}[kind]  # fmt: skip
            return made(who)
        phrase = asked.get("x")
        if kind == "many" and set(phrase.split()) <= _THINGS | {"different"}:
            who = list(self.entities)
        else:
            who = [e for part in phrase.split(" and ") for e in self.resolve(part)]
        who = list(dict.fromkeys(who))
        return {"when": self.when, "often": self.often, "long": self.long, "many": self.many,
                "where": self.where, "yes": self.yes}[kind](who)  # fmt: skip

    def when(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        asked, texts, times = self.asked, [], []
        for one in who:
            did = self.incidents([one], asked.verb)
            if asked.mod and did:
                did = [did[0] if asked.mod == "first" else did[-1]]
            for each in did:
                self._span(each)
            times += [(each.start_s, each.end_s) for each in did]
            texts.append(self._story(one, did))
        found = bool(times)
        return ThingAnswer("when", self._many(who, texts), found, sorted(times), self._spans())

    def _story(self, one: Entity, did: Sequence[_Incident]) -> str:
        assert self.asked is not None
        verb, name = self.asked.verb, one.name
        at = [self.clock(each.start_s, each.frame) for each in did]
        if verb == "come":
            begun = [a for a, each in zip(at, did, strict=True) if not each.sure]
            came = [a for a, each in zip(at, did, strict=True) if each.sure]
            said = [f"was there from the beginning ({begun[0]})"] if begun else []
            said += [f"came {_at(came)}"] if came else []
            return f"{name} {' and '.join(said)}" if said else f"{name} did not come then"
        if verb == "leave":
            if not did:
                return f"{name} has not left: it was there to the end"
            unsure = "" if did[-1].sure else " (in the middle of the picture: it may be hidden)"
            return f"{name} {'left' if did[-1].sure else 'went out of sight'} {_at(at)}{unsure}"
        if verb == "move":
            spans = [self._while(each) for each in did]
            return f"{name} was moved {_at(spans, '')}" if did else f"{name} was not moved"
        if verb == "cross":
            return f"{name} crossed {_at(at)}" if did else f"{name} crossed nothing"
        word = f"in {self.asked.zone}" if verb == "inside" else "seen"
        if not did:
            return f"{name} was not {word} then"
        total = sum(each.end_s - each.start_s for each in did)
        more = f", {total:.1f} s in all" if len(did) > 1 else ""
        return f"{name} was {word} {_at([self._while(each) for each in did], '')}{more}"

    def often(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        word, never = _DID.get(self.asked.verb, ("was seen", "was never seen"))
        texts, total = [], 0
        for one in who:
            did = self.incidents([one], self.asked.verb)
            if self.asked.verb == "come" and not self.asked.zone:
                did = [each for each in did if each.sure]
            for each in did:
                self._span(each)
            total += len(did)
            at = [self.clock(each.start_s, each.frame) for each in did]
            count = f"{word} {_times(len(did))}, {_at(at)}" if did else never
            texts.append(f"{one.name} {count}")
        return ThingAnswer("often", self._many(who, texts), total > 0, total, self._spans())

    def long(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        low, high = self.asked.window
        texts, seconds = [], {}
        for one in who:
            did = self.incidents([one], "inside" if self.asked.zone else "seen")
            for each in did:
                self._span(each)
            total = sum(min(each.end_s, high) - max(each.start_s, low) for each in did)
            seconds[one.name] = round(total, 3)
            where = f"in {self.asked.zone}" if self.asked.zone else "to be seen"
            texts.append(f"{one.name} was {where} for {total:.1f} s ({_times(len(did))})")
        value = sum(seconds.values()) if len(who) == 1 else seconds
        return ThingAnswer("long", self._many(who, texts), bool(self.spans), value, self._spans())

    def many(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        did = self.incidents(who, self.asked.verb)
        if self.asked.verb == "come" and not self.asked.zone:
            did = [each for each in did if each.sure]
        names = list(dict.fromkeys(each.entity.name for each in did))
        for each in did:
            self._span(each)
        text = f"{len(names)}: {', '.join(names[:_MOST_NAMED])}" if names else "none"
        return ThingAnswer("many", text, bool(names), len(names), self._spans())

    def rank(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        verb, first = self.asked.verb, self.asked.mod == "first"
        did = self.incidents(who, verb)
        word = _DID.get(verb, ("was seen", ""))[0]
        if not did:
            return ThingAnswer("rank", f"{self.nobody}: {word}", False, [])

        def key(each: _Incident) -> float:
            return each.start_s if first or verb != "seen" else each.end_s

        best = min(map(key, did)) if first else max(map(key, did))
        top = [each for each in did if abs(key(each) - best) < 1e-6]
        names = list(dict.fromkeys(each.entity.name for each in top))
        for each in top:
            self._span(each)
        when = self.clock(best, top[0].frame)
        if verb == "come" and not top[0].sure and first:
            text = f"{_list(names)} {'was' if len(names) == 1 else 'were'} there from the beginning"
            later = [each for each in did if each.sure]
            if later:
                at = self.clock(later[0].start_s, later[0].frame)
                text += f"; the first to come after that is {later[0].entity.name}, at {at}"
        else:
            text = f"{_list(names)}: {word} {self.asked.mod}, at {when}"
        return ThingAnswer("rank", text, True, names, self._spans())

    def _firsts(self, who: Sequence[Entity], verb: str) -> dict[Entity, _Incident]:
        found: dict[Entity, _Incident] = {}
        for each in self.incidents(who, verb):
            if verb == "leave":
                found[each.entity] = each  # the last time that it left
            else:
                found.setdefault(each.entity, each)
        return found

    def order(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        asked, others = self.asked, self.resolve(self.asked.get("y"))
        theirs = self._firsts(others, asked.verb2)
        if not theirs:
            return ThingAnswer("order", f"{_names(others)}: not so far", False, [])
        mark = min(each.start_s for each in theirs.values())
        before = asked.get("rel") == "before"
        did = [
            each
            for one, each in self._firsts(who, asked.verb).items()
            if one not in others
            and (each.start_s < mark - 1e-6 if before else each.start_s > mark + 1e-6)
        ]
        did.sort(key=lambda each: each.start_s)
        if asked.get("near") and did:
            edge = did[-1].start_s if before else did[0].start_s
            did = [each for each in did if abs(each.start_s - edge) < 1e-6]
        for each in did:
            self._span(each)
        names = [each.entity.name for each in did]
        said = [f"{i.entity.name} ({self.clock(i.start_s, i.frame)})" for i in did[:_MOST_NAMED]]
        first = next(iter(theirs.values()))
        at = self.clock(mark, first.frame)
        text = f"{_list(said) or self.nobody} {asked.get('rel')} {_names(others)} ({at})"
        return ThingAnswer("order", text, bool(did), names, self._spans())

    def compared(self) -> ThingAnswer:
        assert self.asked is not None
        asked = self.asked
        sides = []
        for phrase, verb in ((asked.get("x"), asked.verb), (asked.get("y"), asked.verb2)):
            who = self.resolve(phrase)
            did = self._firsts(who, verb)
            if not did:
                return ThingAnswer("yes", f"{_names(who)}: not so far", False, None)
            sides.append(min(did.values(), key=lambda each: each.start_s))
            self._span(sides[-1])
        one, other = sides
        gap = one.start_s - other.start_s
        right = gap < -1e-6 if asked.get("rel") == "before" else gap > 1e-6
        both = [f"{i.entity.name} at {self.clock(i.start_s, i.frame)}" for i in sides]
        text = f"{'yes' if right else 'no'}: {both[0]}, {both[1]}"
        return ThingAnswer("yes", text, True, right, self._spans())

    def _common(self, one: Entity, other: Entity) -> list[_Incident]:
        found = []
        for a in self.incidents([one], "seen"):
            for b in self.incidents([other], "seen"):
                start, end = max(a.start_s, b.start_s), min(a.end_s, b.end_s)
                if end - start > 1e-6:
                    frame = a.frame if a.start_s >= b.start_s else b.frame
                    found.append(_Incident(one, start, end, frame))
        return found

    def together(self, ones: Sequence[Entity], others: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        found: list[_Incident] = []
        pairs = {(a.number, b.number): (a, b) for a in ones for b in others if a != b}
        for a, b in pairs.values():
            found += self._common(a, b)
        merged = _merged(found)
        for each in merged:
            self._span(each)
        who = f"{_names(ones)} and {_names(others)}"
        total = sum(each.end_s - each.start_s for each in merged)
        how = self.asked.get("how")
        value: Any = bool(merged)
        if how == "when":
            value = [(each.start_s, each.end_s) for each in merged]
        elif how:
            value = round(total, 3) if how == "how long" else len(merged)
        if not merged:
            return ThingAnswer("together", f"{who} were never to be seen together", False, value)
        spans = _at([self._while(each) for each in merged], "")
        text = f"{who} were to be seen together {spans}, {total:.1f} s in all"
        return ThingAnswer("together", text, True, value, self._spans())

    def company(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        others = self.resolve(self.asked.get("y"))
        names, said = [], []
        for one in who:
            if one in others:
                continue
            common = _merged([i for other in others for i in self._common(one, other)])
            for each in common:
                self._span(each)
            if common:
                names.append(one.name)
                total = sum(each.end_s - each.start_s for each in common)
                said.append(f"{one.name} ({total:.1f} s)")
        text = f"with {_names(others)}: {_list(said[:_MOST_NAMED]) or self.nobody}"
        return ThingAnswer("with", text, bool(names), names, self._spans())

    def where(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        asked, texts, value = self.asked, [], {}
        for one in who:
            did = self.incidents([one], "seen")
            if not did:
                texts.append(f"{one.name} was not to be seen then")
                continue
            stay = did[0] if asked.mod == "first" else did[-1]
            time_s = stay.start_s if asked.mod == "first" else stay.end_s
            time_s = asked.window[0] if asked.instant else time_s
            box = self.ledger.place(one.number, time_s)
            if box is None:
                continue
            value[one.name] = box
            frame = stay.frame
            self.spans.append(ThingSpan(one.number, one.name, time_s, time_s, frame, box))
            on = [
                e.name
                for e in self.entities
                if e is not one
                and any(s.start_s <= time_s <= s.end_s + GAP_S for s in e.stays)
                and (under := self.ledger.place(e.number, time_s)) is not None
                and _lies_on(box, under)
            ]
            gone = (
                "" if asked.instant or asked.mod == "first" or self._there(one) else ", last seen"
            )
            more = f", on {_list(on)}" if on else ""
            at = self.clock(time_s, frame)
            texts.append(f"{one.name}: {_region(box)}{more}{gone or ', seen'} at {at}")
        text = self._many(who, texts)
        return ThingAnswer("where", text, bool(value), value, self._spans())

    def _there(self, one: Entity) -> bool:
        return self.stayed(one.stays[-1])

    def there(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        did = self.incidents(who, self.asked.verb)
        if self.asked.verb == "come" and not self.asked.zone:
            did = [each for each in did if each.sure]
        names = list(dict.fromkeys(each.entity.name for each in did))
        for each in did:
            self._span(each)
        said = [f"{each.entity.name} ({self._while(each)})" for each in did[:_MOST_NAMED]]
        more = f" and {len(did) - _MOST_NAMED} more" if len(did) > _MOST_NAMED else ""
        text = (", ".join(said) + more) or self.nobody
        return ThingAnswer("there", text, bool(names), names, self._spans())

    def on(self, who: Sequence[Entity]) -> ThingAnswer:
        """What was on, in or near a thing."""
        assert self.asked is not None
        rel, below = self.asked.get("rel"), self.resolve(self.asked.get("y"))
        test = _lies_on if rel in ("on", "on top of") else _lies_in
        test = _is_near if rel in ("near", "next to", "beside") else test
        names, said = [], []
        for one in who:
            if one in below:
                continue
            found = _merged([i for under in below for i in self._relation(one, under, test)])
            for each in found:
                self._span(each)
            if found:
                names.append(one.name)
                said.append(f"{one.name} ({', '.join(self._while(each) for each in found[:4])})")
        text = f"{rel} {_names(below)}: {_list(said[:_MOST_NAMED]) or self.nobody}"
        return ThingAnswer("at", text, bool(names), names, self._spans())

    def _relation(
        self, one: Entity, other: Entity, test: Callable[[Place, Place], bool]
    ) -> list[_Incident]:
        paths = [self.ledger.path(each.number) for each in (one, other)]
        found = []
        for common in self._common(one, other):
            low, high = self.asked.window if self.asked is not None else (0.0, 0.0)
            start, end = max(common.start_s, low), min(common.end_s, high)
            cuts = sorted({start} | {t for path in paths for t, _ in path if start < t < end})
            for cut, after in zip(cuts, [*cuts[1:], max(end, start)], strict=True):
                boxes = [_place_at(path, cut) for path in paths]
                if boxes[0] is not None and boxes[1] is not None and test(boxes[0], boxes[1]):
                    found.append(_Incident(one, cut, after, common.frame))
        return _merged(found)

    def yes(self, who: Sequence[Entity]) -> ThingAnswer:
        assert self.asked is not None
        did = self.incidents(who, self.asked.verb)
        for each in did:
            self._span(each)
        said = [f"{each.entity.name} ({self._while(each)})" for each in did[:_MOST_NAMED]]
        text = f"yes: {', '.join(said)}" if did else f"no: {_names(who)} not"
        return ThingAnswer("yes", text, bool(did), bool(did), self._spans())

    # Words -------------------------------------------------------------------------------------

    def _while(self, each: _Incident) -> str:
        begin = self.clock(each.start_s, each.frame)
        if each.end_s - each.start_s < 0.05:
            return begin
        return f"{begin} to {self.clock(each.end_s, each.frame)}"

    def _span(self, each: _Incident) -> None:
        one = each.entity
        box = self.ledger.place(one.number, each.start_s)
        self.spans.append(
            ThingSpan(one.number, one.name, each.start_s, each.end_s, each.frame, box)
        )

    def _spans(self) -> tuple[ThingSpan, ...]:
        return tuple(sorted(self.spans, key=lambda each: (each.start_s, each.number)))

    def _many(self, who: Sequence[Entity], texts: Sequence[str]) -> str:
        said = "; ".join(texts[:_MOST_NAMED])
        more = f"; and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
        return f"{len(who)} are meant: {said}{more}" if len(who) > 1 else said


def _name(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text.lower()).strip()


def _is_called(one: Entity, noun: str) -> bool:
    forms = _forms(noun)
    words = _name(one.name).split()
    named = " ".join(words[-len(noun.split()) :]) if one.given else ""
    return bool(forms & ({one.class_name.lower()} | _forms(named)) - {""})


def _has(one: Entity, colour: str) -> bool:
    if one.given and colour in _name(one.name).split():
        return True
    if not one.colours:
        return False
    share = one.colours[COLOURS.index(colour)]
    return share >= _COLOUR_SHARE


def _names(who: Sequence[Entity]) -> str:
    names = [each.name for each in who[:_MOST_NAMED]]
    more = f" and {len(who) - _MOST_NAMED} more" if len(who) > _MOST_NAMED else ""
    return ", ".join(names) + more


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _at(times: Sequence[str], word: str = "at ") -> str:
    shown = [f"{word}{time}" for time in times[:_MOST_NAMED]]
    more = [f"{len(times) - _MOST_NAMED} times more"] * (len(times) > _MOST_NAMED)
    return _list([*shown, *more])


def _times(number: int) -> str:
    return {0: "never", 1: "once"}.get(number, f"{number} times")


def _merged(found: Sequence[_Incident]) -> list[_Incident]:
    """Times of one thing that touch, as one."""
    merged: list[_Incident] = []
    for each in sorted(found, key=lambda i: i.start_s):
        last = merged[-1] if merged else None
        if last is not None and each.start_s <= last.end_s + 1e-6:
            end = max(last.end_s, each.end_s)
            merged[-1] = _Incident(last.entity, last.start_s, end, last.frame)
        else:
            merged.append(each)
    return merged


def _place_at(path: Sequence[tuple[float, Place]], time_s: float) -> Place | None:
    return next((box for since, box in reversed(path) if since <= time_s + 1e-6), None)


def _lies_on(above: Place, below: Place) -> bool:
    """Whether the foot of one is over the other: as far as one picture tells what is on what."""
    middle, foot = (above[0] + above[2]) / 2, above[3]
    height = below[3] - below[1]
    smaller = (above[2] - above[0]) <= 1.1 * (below[2] - below[0])
    return smaller and below[0] <= middle <= below[2] and (
        below[1] - 0.1 * height <= foot <= below[3] - 0.02 * height
    )  # fmt: skip


def _lies_in(one: Place, other: Place) -> bool:
    x, y = (one[0] + one[2]) / 2, (one[1] + one[3]) / 2
    return other[0] <= x <= other[2] and other[1] <= y <= other[3]


def _is_near(one: Place, other: Place) -> bool:
    """Whether less lies between them than the larger of them is wide."""
    apart = max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
    return apart <= 0.5 * max(one[2] - one[0], other[2] - other[0])


def _region(box: Place) -> str:
    """Where in the picture, in words."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    return f"{row} {column}".strip() or "middle"
