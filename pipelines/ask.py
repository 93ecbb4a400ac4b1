"""Watch videos, image folders, cameras or streams, and answer questions about them."""

from __future__ import annotations

import json
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config, near_file, nearest
from vision_mem.errors import InputError, ModelError, NotFoundError, VisionMemError
from vision_mem.formats.prompts import PromptPlan, plan_prompts
from vision_mem.formats.sqlite import check_database
from vision_mem.models.vlm import check_video_model
from vision_mem.runs.folder import RunFolder, without_secret
from vision_mem.sources.selection import check_exists, is_url
from vision_mem.text import one_line, shown
from vision_mem.videoqa.config import FORMS, SCOPES, SUFFIX, VideoQaConfig

from .options import (
    ADVANCED,
    FOLLOW,
    NO_ZONES,
    OUTPUT,
    Changes,
    Decoder,
    InputOptions,
    ModelOptions,
    Overwrite,
    Resume,
    ZoneOptions,
    flat,
    open_folder,
    preset_option,
    remaining,
    take_options,
)

if TYPE_CHECKING:
    from vision_mem.session import FrameSource
    from vision_mem.videoqa import Answer, Conversation, VideoMemorySession
    from vision_mem.videoqa.cut_lists import AnsweredQuestion
    from vision_mem.videoqa.evidence import (
        AnswerLog,
        FileSequence,
        ShownFile,
        Span,
        ThumbnailSession,
    )
    from vision_mem.videoqa.ledger_questions import ThingAnswer
    from vision_mem.videoqa.store import MemoryFile

ANSWER_FILES = (
    r"answers\.jsonl|answer-\d+\.png|intervals\.(json|csv|edl)|[\w.-]+\.chapters\.txt"
    r"|clip-\d+-\d+\.(mp4|mkv)"
)
_HOW = "type a question and press Enter; an empty line or Ctrl-D ends"
_PROMPT = "question> "
_FILE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}$")
"""How names of files end; a text with spaces has to end as one of a video or a picture."""
_MEDIA = re.compile(
    r"\.(mp4|m4v|mov|mkv|avi|webm|m?ts|m2ts|mpe?g|flv|wmv|ogv|3gp|y4m|vmem"
    r"|png|jpe?g|gif|webp|tiff?|bmp)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class AskOptions:
    """What makes a run what it is; ``--resume`` takes it from the record of the run."""

    memory: str | None = None
    model: str = "words"
    precision: str = "auto"
    decoder: str = "auto"
    start: int = 0
    stride: int = 1
    strict: bool = False
    mots: Sequence[str] = ()
    track: Sequence[str] = ()
    zone: Sequence[str] = ()
    line: Sequence[str] = ()
    anchor: str = "bottom"
    settle: int = 1


@dataclass(frozen=True)
class FollowedThings:
    """What is followed while it watches."""

    heading: ClassVar[str] = FOLLOW
    mots: Annotated[
        list[str] | None,
        typer.Option(
            help='What finds things to follow: motion, "red car, person", dfine, ... (see mots '
            "--detect). Questions about them are answered from a ledger."
        ),
    ] = None
    track: Annotated[
        list[str] | None,
        typer.Option(help="NAME=x,y,w,h[@FRAME]: follow this, under this name."),
    ] = None


@dataclass(frozen=True)
class AskedOptions:
    """When to ask, and what of the memory is read."""

    heading: ClassVar[str] = "What to ask"
    at: Annotated[
        list[str] | None,
        typer.Option(
            help="When to ask: after so many seconds (90 or 1:30); once, or once a question."
        ),
    ] = None
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Type questions while it watches.")
    ] = False
    scope: Annotated[str, typer.Option(help="What is read: auto (default), recent, all.")] = "auto"
    forget: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a memory file: a span of time (0:10-0:25) or a thing that was followed; for "
            "good, before anything else."
        ),
    ] = None


@dataclass(frozen=True)
class AskInput(InputOptions):
    """With the pace at which frames are looked at."""

    fps: Annotated[
        float | None, typer.Option(help="Frames a second that are looked at, as --set fps=.")
    ] = None
    realtime: Annotated[bool, typer.Option("--realtime", help="Show a file at its own speed.")] = (
        False
    )


@dataclass(frozen=True)
class AskOutput:
    """Where answers go."""

    heading: ClassVar[str] = OUTPUT
    out: Annotated[
        Path | None, typer.Option(help="Folder for answers and sheets [runs/ask/NAME].")
    ] = None
    memory: Annotated[
        Path | None, typer.Option(help="Keep the memory in this file; a later run goes on with it.")
    ] = None
    save: Annotated[
        str | None,
        typer.Option(help="Write intervals too: json, csv, edl, chapters, with commas between."),
    ] = None
    clips: Annotated[
        bool, typer.Option("--clips", help="Cut intervals out of their videos, not encoded anew.")
    ] = False
    resume: Resume = False
    overwrite: Overwrite = False
    as_json: Annotated[bool, typer.Option("--json", help="Answers as JSON lines.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, answers only.")] = False


@dataclass(frozen=True)
class AskModel(ModelOptions):
    """The model that watches and answers."""

    preset: Annotated[str | None, preset_option("videoqa", "default", search="for words")] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="words (default: finds moments, no download), qwen2.5-vl-3b, qwen2.5-vl-7b, ..., "
            "an id on Hugging Face, or a folder."
        ),
    ] = None


@dataclass(frozen=True)
class AskAdvanced:
    """What few need."""

    heading: ClassVar[str] = ADVANCED
    set: Changes = None
    decoder: Decoder = None


def main(
    source: Annotated[
        str,
        typer.Argument(help="Video file, image folder, camera number, address, or FILE.vmem."),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE | QUESTION",
            help="More files, shown one after the other, and what to answer. What is there, or is "
            "named like a file, is a file.",
        ),
    ] = None,
    ask: AskedOptions = AskedOptions(),
    follow: FollowedThings = FollowedThings(),
    where: ZoneOptions = NO_ZONES,
    input: AskInput = AskInput(),
    output: AskOutput = AskOutput(),
    model: AskModel = AskModel(),
    advanced: AskAdvanced = AskAdvanced(),
) -> int:
    """Watch a stream and answer questions about now and long ago, in constant memory.

    The default model finds the moments that a question is about, and does not talk. Answers come
    with the moments they rest on, and a sheet of their pictures. Exit code 3: nothing that was
    asked for was seen.
    """
    sources, questions = _told_apart(source, words or [])
    names, forms = [without_secret(each) for each in sources], _forms(output.save)
    asked = _asked(questions, ask.at or [], ask.scope)
    folder = open_folder("ask", source, output, AskOptions, adds=True)
    given = flat(model, advanced, input, follow, where)
    given |= {"memory": output.memory and str(output.memory)}
    before = folder.recorded("options") if output.resume else None
    options = take_options(AskOptions, given, before)
    plan, place = _checked(sources, options, bool(asked or ask.interactive or ask.forget))
    changes = [*(advanced.set or []), *([] if input.fps is None else [f"fps={input.fps}"])]
    usual = "search" if options.model == "words" else "default"
    load_config(VideoQaConfig, model.preset or usual, changes, folder="videoqa")
    with ExitStack() as stack:
        opened = _opener(sources, options, input, folder, stack)
        watches = options.memory is not None or not source.endswith(SUFFIX)
        first = opened(0, False) if watches else None
        if first is not None:
            _check_times(asked, sources, first, options)
            for number in range(1, len(sources)):
                opened(number, False).close()  # what cannot be read is told before the first is
        # torch takes seconds to import; help and what typing alone shows should not wait for it.
        from vision_mem.models import use_threads
        from vision_mem.models.vlm.load import load_video_model
        from vision_mem.videoqa.answering import Conversation
        from vision_mem.videoqa.evidence import AnswerLog, FileSequence, ThumbnailSession
        from vision_mem.videoqa.store import MemoryFile

        use_threads(model.threads)
        known = _known(place, stack)
        if ask.forget and _forget(known, ask.forget, bool(asked or ask.interactive or first)):
            return 0
        brain = load_video_model(options.model, device=model.device, precision=options.precision)
        session = _remembered(known, brain, model.preset, changes)
        _end_if_unknown(session.model, asked, ask, options, output.as_json)
        about = {"model_id": brain.traits.model_id, "config": asdict(session.config),
                 "source": names[0]}  # fmt: skip
        if known is None and place is not None:
            known = stack.enter_context(closing(MemoryFile(place, about)))
        folder.begin()
        run = stack.enter_context(_recorded(folder, names, options=asdict(options), **about))
        followers = _followers(sources, options, plan, first, model.device, stack)
        watching = ThumbnailSession(session, known, followers)
        log = AnswerLog(folder.path, watching, append=not output.overwrite)
        stack.callback(log.close)
        desk = _Desk(watching, log, Conversation(), ask.scope, output.as_json, output.quiet)
        typed, code = _typed() if ask.interactive else None, 0
        if first is not None:
            seen, config = session.seen, session.config
            frames = FileSequence(names, first, opened, watching.files, seen, config)
            code = _watch(frames, desk, asked, typed, input.realtime)
            run["status"] = "stopped" if code else "finished"
        else:
            desk.answer_all(asked)
        _save(folder.path, forms, output.clips, desk, first)
        while typed is not None and not code and (line := typed.get()) is not None:
            desk.try_to_answer(line)
        if not output.quiet and not output.as_json:
            _say_usage(session, known, folder.path)
    return code if code or ask.interactive else desk.exit_code


def _checked(
    sources: Sequence[str], options: AskOptions, asked: bool
) -> tuple[PromptPlan, Path | None]:
    """What is followed, and the memory file, after all mistakes that typing alone shows.

    Raises:
        InputError: for each of them.
    """
    _check_sources(sources)
    check_video_model(options.model)
    plan = _to_follow(options)
    if not asked and options.memory is None:
        raise InputError('nothing to do: give a question, as in "when is there a dog?"')
    return plan, _memory_file(sources[0], options)


def _to_follow(options: AskOptions) -> PromptPlan:
    """What was pointed at, read before anything is loaded.

    Raises:
        InputError: for what cannot be read, things without names, and zones without things.
    """
    for text in options.track:
        if "=" not in text or text.startswith("xyxy:"):
            raise InputError(
                f"--track {shown(text, 40)}: expected NAME=x,y,w,h, as in cup=120,80,60,90"
            )
    if (options.zone or options.line) and not (options.mots or options.track):
        raise InputError("--zone and --line see what is followed: give --mots or --track too")
    return plan_prompts(boxes=options.track)


def _followers(
    sources: Sequence[str], options: AskOptions, plan: PromptPlan, first: FrameSource | None,
    device: str, stack: ExitStack,
) -> Callable[[ShownFile, int], list[Any]] | None:  # fmt: skip
    """What opens the sessions that follow things, for each file anew; None where none is wanted."""
    if first is None or not (options.mots or plan):
        return None
    from vision_mem.models import detectors, load_segmenter
    from vision_mem.mots.config import MotsConfig, usual_preset
    from vision_mem.mots.session import DetectorSession, MotsSession
    from vision_mem.sources.open import open_source
    from vision_mem.tracking.config import TrackingConfig
    from vision_mem.tracking.prompts import check_plan
    from vision_mem.tracking.session import PromptedSession, TrackingSession
    from vision_mem.tracking.zones import ZoneCounter, ZonedSession, parse_zones

    live, info = first.info.live, first.info
    zones = parse_zones(options.zone, options.line)
    ZoneCounter(zones, anchor=options.anchor, settle=options.settle).check_size(
        info.width, info.height
    )
    check_plan(plan, info, options.start, options.stride)
    segmenter = load_segmenter("embedded", device=device)

    def excerpt(source: str, begin: int, end: int) -> Iterator[Any]:
        with open_source(source, start=begin, end=end, stride=options.stride) as frames:
            yield from frames

    def opened(file: ShownFile, index: int) -> list[Any]:
        made: list[Any] = []
        if options.mots:
            preset = usual_preset(options.mots)
            config = load_config(MotsConfig, preset, [], folder="mots")
            detector = detectors.make_detector(
                options.mots, device=device, live=live, size=(info.height, info.width)
            )
            stack.callback(detector.close)
            if not live:
                source = next((s for s in sources if without_secret(s) == file.source), sources[0])
                begin = index - file.first
                detectors.learn_background(detector, partial(excerpt, source), begin, [])
            made.append(DetectorSession(MotsSession(segmenter, config), detector))
        if plan and file.source == without_secret(sources[0]):
            early = plan.frames[0] if plan.frames and not plan.by_frame.get(-1) else options.start
            if index - file.first > early:
                raise InputError(
                    f"--track: the memory has seen {file.source} up to frame "
                    f"{index - file.first - 1}; say where the thing is on a later frame, as "
                    f"{options.track[0].split('@')[0]}@{index - file.first}"
                )
            shifted = PromptPlan(
                {n if n < 0 else n + file.first: some for n, some in plan.by_frame.items()}
            )
            config_of_one = load_config(TrackingConfig, "samurai", [], folder="tracking")
            made.append(PromptedSession(TrackingSession(segmenter, config_of_one), shifted, None))
        if not zones:
            return made
        return [
            ZonedSession(each, ZoneCounter(zones, anchor=options.anchor, settle=options.settle))
            for each in made
        ]

    return opened


def _end_if_unknown(
    brain: Any,
    asked: Sequence[tuple[float | None, str]],
    ask: AskedOptions,
    options: AskOptions,
    as_json: bool,
) -> None:
    """Say why, where no question can be answered: nothing is looked at then, nothing written.

    Raises:
        Exit: with the code of nothing found.
    """
    from vision_mem.models.vlm.protocol import MomentModel, Question

    kept = options.memory is not None or options.mots or options.track
    watches = ask.interactive or kept  # it is here for more than answers
    if watches or not asked or not isinstance(brain, MomentModel):
        return
    reasons = {question: brain.search(Question(question)).unknown for _, question in asked}
    if not all(reasons.values()):
        return
    for question, reason in reasons.items():
        if as_json:
            entry = {"question": question, "answer": None, "found": False, "unknown": reason}
            print(json.dumps(entry, ensure_ascii=False))
        else:
            print(f"{one_line(question)}\n  not known: {one_line(reason)}")
    raise typer.Exit(NotFoundError.exit_code)


def _forms(text: str | None) -> list[str]:
    """Forms of ``json,csv``, each once.

    Raises:
        InputError: naming the one that there is not.
    """
    if text is None:
        return []
    forms = [part.strip().lower() for part in text.split(",") if part.strip()] or [text]
    for form in forms:
        if form not in FORMS:
            raise InputError(
                f"--save {shown(form, 40)}: expected {', '.join(FORMS)}, with commas between"
                f"{nearest(form, FORMS)}"
            )
    return list(dict.fromkeys(forms))


def _save(
    folder: Path, forms: Sequence[str], clips: bool, desk: _Desk, first: FrameSource | None
) -> None:
    from vision_mem.videoqa.cut_lists import cut_clips, write_cut_lists

    answered = desk.answered
    begin = desk.log.count - len(answered) + 1
    for number, each in enumerate(answered if clips else (), start=begin):
        cut_clips(folder, number, each)
    if forms:
        write_cut_lists(folder, forms, answered, None if first is None else first.info.fps)


def _memory_file(source: str, options: AskOptions) -> Path | None:
    """The memory file of a run; None without one.

    Raises:
        InputError: when it is something else.
    """
    memory = source if options.memory is None and source.endswith(SUFFIX) else options.memory
    if memory is None:
        return None
    check_database(Path(memory), f"memory file {memory}")
    return Path(memory)


def _opener(
    sources: Sequence[str], options: AskOptions, input: AskInput, folder: RunFolder,
    stack: ExitStack,
) -> Callable[[int, bool], FrameSource]:  # fmt: skip
    """What opens the source of a number; with True, from its first frame on."""

    def opened(number: int, whole: bool) -> FrameSource:
        wanted = replace(options, start=0) if whole else options
        found = remaining(sources[number], wanted, input).open(stack, folder)
        assert found is not None  # only of runs with snapshots there may be nothing left
        return found

    return opened


def _told_apart(source: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sources and questions: what is there is a source, and what is named like one has to be."""
    if not all(word.strip() for word in words):
        raise InputError('a question is an empty text; ask, as in "when is there a dog?"')
    more = [word for word in words if _is_source(word)]
    return [source, *more], [word for word in words if word not in more]


def _is_source(word: str) -> bool:
    """Whether a word after the first is a source; a slip in a file name is one too."""
    if is_url(word) or word.isdecimal() or _exists(word):
        return True
    if word.endswith("?") or not word.strip():
        return False
    if any(letter.isspace() for letter in word):
        return _MEDIA.search(word) is not None
    led = word.startswith(("/", "./", "../", "~")) or (
        "/" in word and _exists(str(Path(word).parent))
    )
    if led or _FILE.search(word) is not None:
        return True
    return _FILE.search(near_file(word, cutoff=0.8)) is not None


def _exists(word: str) -> bool:
    with suppress(OSError, ValueError, RuntimeError):  # too long for a name, and the like
        return Path(word).expanduser().exists()
    return False


def _check_sources(sources: Sequence[str]) -> None:
    """Refuse files that are not there, and sources that cannot stand together.

    Raises:
        InputError: naming the file that may have been meant.
    """
    for number, source in enumerate(sources):
        if len(sources) > 1 and (source.isdecimal() or is_url(source) or source.endswith(SUFFIX)):
            raise InputError(
                f"{source} has to stand alone; expected files or folders where there are several "
                "(a memory goes on with --memory FILE.vmem)"
            )
        if source.isdecimal() or ":" in source or _exists(source):
            continue  # of module:function and addresses the one who opens them knows more
        if near := near_file(source):
            raise InputError(f"{source!r}: no such file; did you mean {near!r}?")
        if source.endswith(SUFFIX):
            raise InputError(f"no memory file {source}; make one with --memory {source}")
        try:
            check_exists(source)
        except VisionMemError as error:
            hint = "; end it with a question mark if it is a question" if number else ""
            raise InputError(f"{error}{hint}") from None


def _known(place: Path | None, stack: ExitStack) -> MemoryFile | None:
    """The memory file that a run goes on with, opened before the model; None for a new one."""
    from vision_mem.videoqa.evidence import shown_files
    from vision_mem.videoqa.store import MemoryFile

    if place is None or not place.exists():
        return None
    try:
        known = stack.enter_context(closing(MemoryFile(place)))
        shown_files(known.about)
        return known
    except ModelError as error:
        raise InputError(str(error)) from error


def _forget(known: MemoryFile | None, forget: Sequence[str], more: bool) -> bool:
    """Forget what was asked for, and say so; whether that is all there is to do.

    Raises:
        InputError: without a memory file, and for what is neither a span nor a thing.
    """
    from vision_mem.videoqa import ledger
    from vision_mem.videoqa.evidence import clock, shown_files

    if known is None:
        raise InputError("--forget is for memory files: give FILE.vmem, or --memory FILE.vmem")
    begin = shown_files(known.about)[0]
    for text in forget:
        what: str | tuple[float, float] = text
        if found := re.fullmatch(r"\s*([\d:.]+)\s*(?:-|to)\s*([\d:.]+)\s*", text):
            first, last = (_seconds(each, "--forget") + begin.begin_s for each in found.groups())
            what = first, last
        done = ledger.forget(known, what)
        spans = ", ".join(
            f"{clock(begin.seconds(a))} to {clock(begin.seconds(b))}" for a, b in done.spans[:8]
        )
        names = f"; nothing is left of {', '.join(done.names[:8])}" if done.names else ""
        print(f"forgotten: {spans or 'no time'}, {done.looks} looks{names}")
    print("results of earlier runs (answers, sheets, clips) and videos are files of their own")
    return not more


def _remembered(
    known: MemoryFile | None, brain: Any, preset: str | None, changes: Sequence[str]
) -> VideoMemorySession:
    """The session as a memory file has it; a new one where there is none yet."""
    from vision_mem.videoqa.evidence import open_session

    try:
        return open_session(brain, preset, changes, known)
    except ModelError as error:
        raise InputError(str(error)) from error


@contextmanager
def _recorded(folder: RunFolder, names: Sequence[str], **about: Any) -> Iterator[dict[str, Any]]:
    """A record beside the answers, unless the folder has that of another command."""
    from vision_mem.runs.tally import machine

    run = {"status": "finished"}
    if folder.recorded("status") is not None and folder.recorded("command") != "ask":
        yield run
        return
    more = {"sources": list(names)} if len(names) > 1 else {}
    folder.record(command="ask", status="running", **about, **more, **machine())
    try:
        yield run
    except BaseException:
        run["status"] = "failed"
        raise
    finally:
        answers = [name for name in folder.files() if re.fullmatch(ANSWER_FILES, name)]
        with suppress(VisionMemError):  # the first error is the one to tell
            folder.record(**run, frames=len(answers), files=answers)


def _asked(
    questions: Sequence[str], at: Sequence[str], scope: str
) -> list[tuple[float | None, str]]:
    """When to ask what, in the order of time; None is at the end."""
    if scope not in SCOPES:
        expected = f"expected one of {', '.join(SCOPES)}{nearest(scope, SCOPES)}"
        raise InputError(f"scope is {scope!r}; {expected}")
    if len(at) > 1 and len(at) != len(questions):
        raise InputError(
            f"{len(at)} --at for {len(questions)} questions; expected one, or one for each"
        )
    times: list[float | None] = [_seconds(each) for each in at] or [None]
    whens = times * len(questions) if len(times) == 1 else times
    asked = list(zip(whens, questions, strict=True))
    return sorted(asked, key=lambda each: float("inf") if each[0] is None else each[0])


def _seconds(text: str, option: str = "--at") -> float:
    """Seconds of ``90``, ``1:30`` or ``1:02:03.5``."""
    if re.fullmatch(r"\s*(\d{1,9}:){0,2}(\d{1,12}(\.\d*)?|\.\d+)\s*", text) is None:
        raise InputError(
            f"--at {shown(text, 40)}: expected seconds from the beginning, as 90 or 1:30"
        )
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total


def _check_times(
    asked: Sequence[tuple[float | None, str]], sources: Sequence[str], first: FrameSource,
    options: AskOptions,
) -> None:  # fmt: skip
    """Refuse times beyond the end of a file that says how long it is."""
    count, latest = first.info.frame_count, max((when or 0.0 for when, _ in asked), default=0.0)
    if len(sources) == 1 and count is not None and not first.info.live:
        length = (options.start + count * options.stride) / first.info.fps
        if latest > 1.02 * length + 1.0:  # rates are rounded; at the end it is looked at again
            raise InputError(_beyond(latest, sources[0], length))


def _beyond(when: float, name: str, length: float) -> str:
    return f"--at {when:g} is beyond the end: {name} is {length:.1f} s long"


@dataclass
class _Desk:
    """Where questions are answered and printed.

    ``origin`` is what times of questions count from; None: the first that the memory was shown.
    """

    watching: ThumbnailSession
    log: AnswerLog
    conversation: Conversation
    scope: str
    as_json: bool
    quiet: bool
    origin: ShownFile | None = None
    answered: list[AnsweredQuestion] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of nothing found where all that was asked for was looked for and not seen."""
        lost = self.answered and all(each.found is False for each in self.answered)
        return NotFoundError.exit_code if lost else 0

    def answer(self, question: str, at: float | None = None) -> None:
        """Answer on standard output, the words as they come; ``at`` is a time of the memory."""
        from vision_mem.videoqa.cut_lists import AnsweredQuestion
        from vision_mem.videoqa.evidence import answer_spans, clock

        session, files = self.watching.session, self.watching.files
        origin = self.origin or files[0]
        thing = self._thing(question, at, origin)
        if thing is not None and thing.found is not None:
            now_s = session.seen[1] if session.seen is not None else 0.0
            self._answer_thing(question, thing, origin.seconds(now_s if at is None else at))
            return
        pieces = session.ask_stream(
            question, at=at, scope=self.scope, conversation=self.conversation
        )
        speaks = session.model.traits.speaks
        asked_s = origin.seconds(pieces.answer.at_s)
        if not self.as_json:
            print(f"\nat {clock(asked_s)}: {one_line(question)}", flush=True)
        for piece in pieces:
            if not self.as_json:
                print(piece.text, end="", flush=True)
        answer = replace(pieces.answer, at_s=asked_s)
        if thing is not None:
            remark = f"{thing.text}; looked for in the pictures"
            answer = replace(answer, notes={"remark": remark} | dict(answer.notes))
        spans = answer_spans(answer, 1.5 / (session.config.fps or 1e9), files)
        seen = () if answer.found is False else tuple(spans)
        self.answered.append(AnsweredQuestion(question, answer.found, seen))
        entry = self.log.add(question, answer, spans)
        if self.as_json:
            print(json.dumps(entry, default=str, ensure_ascii=False), flush=True)
            return
        if speaks:
            print(" ..." if answer.cut else "")
        self._print_moments(spans, answer, speaks)
        if entry["sheet"]:
            print(f"  pictures: {entry['sheet']}", flush=True)

    def _thing(self, question: str, at: float | None, origin: ShownFile) -> ThingAnswer | None:
        """The answer of the ledger; None where the question is not about things in it."""
        from vision_mem.videoqa.ledger_questions import answer_thing

        seen = self.watching.session.seen
        if seen is None:
            return None
        return answer_thing(
            question, self.watching.ledger, seen[1], self.watching.tell, origin.begin_s, at
        )

    def _answer_thing(self, question: str, thing: ThingAnswer, asked_s: float) -> None:
        from vision_mem.videoqa.cut_lists import AnsweredQuestion
        from vision_mem.videoqa.evidence import clock
        from vision_mem.videoqa.records import Answer

        spans = self.watching.thing_spans(thing)
        answer = Answer(
            text=thing.text, evidence=(), at_s=asked_s, scope="all", tokens_read=0, grids_read=0,
            found=thing.found, notes={"ledger": thing.kind, "value": thing.value},
        )  # fmt: skip
        self.answered.append(AnsweredQuestion(question, thing.found, tuple(spans)))
        entry = self.log.add(question, answer, spans)
        if self.as_json:
            print(json.dumps(entry, default=str, ensure_ascii=False), flush=True)
            return
        print(f"\nat {clock(asked_s)}: {one_line(question)}\n  {one_line(thing.text)}", flush=True)
        if entry["sheet"]:
            print(f"  pictures: {entry['sheet']}", flush=True)

    def _print_moments(self, spans: Sequence[Span], answer: Answer, speaks: bool) -> None:
        from vision_mem.videoqa.evidence import clock

        if answer.unknown:
            print(f"  not known: {one_line(answer.unknown)}")
            return
        if remark := answer.notes.get("remark"):
            print(f"  note: {one_line(str(remark))}")
        if answer.found:
            times = "once" if len(spans) == 1 else f"{len(spans)} times"
            total = sum(span.end_s - span.start_s for span in spans)
            print(f"  seen {times}, {total:.1f} s in all, best first:")
        elif answer.found is False:
            print(f"  not seen ({answer.threshold:.2f} is needed); the likeliest, doubtful moment:")
        else:
            print("  answered from:" if speaks else "  the moments that match best:")
        sources = {each.source for each in self.watching.files}
        same = len({Path(each).name for each in sources}) < len(sources)
        for number, span in enumerate(spans, start=1):
            until = "" if span.end_s - span.start_s < 0.05 else f" to {clock(span.end_s)}"
            name = span.file if same or is_url(span.file) else Path(span.file).name
            where = f"{one_line(name)} {clock(span.start_s)}".lstrip()
            peak = f", best at {clock(span.peak_s)}" if answer.found else ""
            print(f"  {number}. {where}{until}{peak}, score {span.score:.2f}")

    def answer_all(self, asked: Sequence[tuple[float | None, str]]) -> None:
        """Answer from memory alone.

        Raises:
            InputError: for a time beyond the end.
        """
        begin, seen = self.watching.files[0], self.watching.session.seen
        for when, question in asked:
            if when is not None and seen is not None and when + begin.begin_s > seen[1] + 1.0:
                assert self.watching.file is not None
                name = str(self.watching.file.path)
                raise InputError(_beyond(when, name, seen[1] - begin.begin_s))
            self.answer(question, None if when is None else when + begin.begin_s)

    def answer_typed(self, typed: queue.Queue[str | None]) -> bool:
        """Answer what was typed since the last time; False when no more is wanted."""
        while not typed.empty():
            question = typed.get()
            if question is None:
                typed.put(None)  # who waits for more after the stream is told too
                return False
            self.try_to_answer(question)
        return True

    def try_to_answer(self, question: str) -> None:
        """Answer; what is wrong with a typed question is said and nothing more."""
        try:
            self.answer(question)
        except VisionMemError as error:
            print(f"  {' '.join(str(error).split())}", flush=True)
        _prompt()


def _watch(
    frames: FileSequence,
    desk: _Desk,
    asked: Sequence[tuple[float | None, str]],
    typed: queue.Queue[str | None] | None,
    realtime: bool,
) -> int:
    """Show the stream to the memory, and answer questions when it is time.

    Raises:
        InputError: for a time after the end, when all else is done.
    """
    from vision_mem.runs.loop import paced
    from vision_mem.runs.progress import WatchProgress
    from vision_mem.runs.signals import StopSignals

    waiting, seen = list(asked), desk.watching.session.seen

    def answer(when: float | None, question: str) -> None:
        # What is asked of a time before this run is answered as it was then.
        at = None if when is None else when + frames.begin_s
        past = at is not None and seen is not None and at < seen[1]
        desk.origin = frames.origin
        desk.answer(question, at if past else None)

    # A living line would run over what is being typed.
    show = not desk.quiet and not (typed is not None and sys.stderr.isatty())
    with StopSignals() as signals, WatchProgress(frames.info, show=show) as bar:
        watched = signals.watch(frames)
        for frame in paced(watched) if realtime else watched:
            now = frame.time_s - frames.begin_s
            while waiting and waiting[0][0] is not None and now > waiting[0][0]:
                answer(*waiting.pop(0))
            bar.update(desk.watching.step(frame), desk.watching.session.usage())
            desk.origin = frames.origin
            if typed is not None and not desk.answer_typed(typed):
                waiting.clear()
                break
    late = None
    if signals.received is not None:
        waiting.clear()
    for when, question in waiting:
        if when is not None and when > (length := frames.seconds) + 0.5 / frames.info.fps:
            late = _beyond(when, frames.name, length)
        else:
            answer(when, question)
    desk.watching.finish()
    if late is not None:
        raise InputError(late)
    if typed is not None and typed.empty() and sys.stderr.isatty():
        print(
            f"\n{frames.name} has ended; ask on, or end with an empty line",
            file=sys.stderr,
        )
        _prompt()
    return signals.exit_code


def _prompt() -> None:
    if sys.stderr.isatty():
        print(_PROMPT, end="", file=sys.stderr, flush=True)


def _typed() -> queue.Queue[str | None]:
    """Questions as they are typed; None at the end."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            if not line.strip():
                break
            lines.put(line.strip())
        lines.put(None)

    print(_HOW, file=sys.stderr, flush=True)
    _prompt()
    # Daemon: somebody who types nothing must not keep the program from ending.
    threading.Thread(target=read, name="vision-mem-questions", daemon=True).start()
    return lines


def _say_usage(session: VideoMemorySession, known: MemoryFile | None, folder: Path) -> None:
    from vision_mem.runs.progress import megabytes

    usage = session.usage()
    tiers = ", ".join(f"{number} {tier}" for tier, number in usage.tokens.items())
    print(f"\nmemory: {tiers} tokens, {megabytes(usage.bytes)}", end="")
    print(f", kept in {known.path}" if known is not None else "")
    print(f"answers: {folder / 'answers.jsonl'}")
