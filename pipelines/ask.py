"""Watch a video, image folder, camera or stream, and answer questions about it."""

from __future__ import annotations

import json
import queue
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError, VisionMemError
from vision_mem.runs.folder import RunFolder, without_secret
from vision_mem.runs.loop import ContinuedSource, paced
from vision_mem.runs.progress import WatchProgress, megabytes
from vision_mem.runs.signals import StopSignals
from vision_mem.runs.tally import machine
from vision_mem.session import FrameSource
from vision_mem.videoqa.config import SCOPES, SUFFIX, VideoQaConfig

from .options import (
    ADVANCED,
    MODEL,
    OUTPUT,
    Changes,
    Decoder,
    Device,
    InputOptions,
    Overwrite,
    Precision,
    Resume,
    Threads,
    flat,
    open_folder,
    preset_option,
    remaining,
    take_options,
)

if TYPE_CHECKING:
    from vision_mem.videoqa import Conversation, VideoMemorySession
    from vision_mem.videoqa.evidence import AnswerLog, Span, ThumbnailSession
    from vision_mem.videoqa.store import MemoryFile

ANSWER_FILES = r"answers\.jsonl|answer-\d+\.png"
_HOW = "type a question and press Enter; an empty line or Ctrl-D ends"


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


@dataclass(frozen=True)
class AskedOptions:
    """When to ask, and what of the memory is read."""

    heading: ClassVar[str] = "What to ask"
    at: Annotated[
        list[float] | None,
        typer.Option(help="Ask when so many seconds were seen; once, or once a question."),
    ] = None
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Type questions while it watches.")
    ] = False
    scope: Annotated[str, typer.Option(help="What is read: auto (default), recent, all.")] = "auto"


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
    resume: Resume = False
    overwrite: Overwrite = False
    as_json: Annotated[bool, typer.Option("--json", help="Answers as JSON lines.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, answers only.")] = False


@dataclass(frozen=True)
class AskModel:
    """The model that watches and answers."""

    heading: ClassVar[str] = MODEL
    model: Annotated[
        str | None,
        typer.Option(
            help="words (default: finds moments, no download), qwen2.5-vl-3b, qwen2.5-vl-7b, ..., "
            "an id on Hugging Face, or a folder."
        ),
    ] = None
    preset: Annotated[str | None, preset_option("videoqa", "default", search="for words")] = None
    device: Device = "auto"
    precision: Precision = None
    threads: Threads = None


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
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="[QUESTION]...", help="What to answer.")
    ] = None,
    ask: AskedOptions = AskedOptions(),
    input: AskInput = AskInput(),
    output: AskOutput = AskOutput(),
    model: AskModel = AskModel(),
    advanced: AskAdvanced = AskAdvanced(),
) -> int:
    """Watch a stream and answer questions about now and long ago, in constant memory.

    The default model finds the moments that a question is about, and does not talk. Answers come
    with the moments they rest on, and a sheet of their pictures.
    """
    asked = _asked(questions or [], ask.at or [], ask.scope)
    folder = open_folder("ask", source, output, AskOptions, adds=True)
    given = flat(model, advanced, input) | {"memory": output.memory and str(output.memory)}
    before = folder.recorded("options") if output.resume else None
    options = take_options(AskOptions, given, before)
    if not asked and not ask.interactive and options.memory is None:
        raise InputError('nothing to do: give a question, as in "when is there a dog?"')
    place = _memory_file(source, options.memory, asked)
    changes = [*(advanced.set or []), *([] if input.fps is None else [f"fps={input.fps}"])]
    usual = "search" if options.model == "words" else "default"
    load_config(VideoQaConfig, model.preset or usual, changes, folder="videoqa")
    with ExitStack() as stack:
        frames = None
        if options.memory is not None or not source.endswith(SUFFIX):
            frames = remaining(source, options, input).open(stack, folder)
        # torch takes seconds to import; help and what typing alone shows should not wait for it.
        from vision_mem.models import use_threads
        from vision_mem.models.vlm.load import load_video_model
        from vision_mem.videoqa.answering import Conversation
        from vision_mem.videoqa.evidence import AnswerLog, ThumbnailSession, open_session
        from vision_mem.videoqa.store import MemoryFile

        use_threads(model.threads)
        known = None
        if place is not None and place.exists():
            known = stack.enter_context(closing(MemoryFile(place)))
        brain = load_video_model(options.model, device=model.device, precision=options.precision)
        session = open_session(brain, model.preset, changes, known)
        about = {
            "model_id": brain.traits.model_id, "config": asdict(session.config),
            "source": without_secret(source),
        }  # fmt: skip
        if known is None and place is not None:
            known = stack.enter_context(closing(MemoryFile(place, about)))
        folder.begin()
        run = stack.enter_context(_recorded(folder, options=asdict(options), **about))
        watching = ThumbnailSession(session, known)
        log = AnswerLog(folder.path, watching, append=not output.overwrite)
        stack.callback(log.close)
        desk = _Desk(watching, log, Conversation(), ask.scope, output.as_json, output.quiet)
        typed = _typed() if ask.interactive else None
        code = 0
        if frames is not None:
            if session.seen is not None:
                same = known is not None and known.about.get("source") == source
                frames = ContinuedSource(frames, session.seen, same and not frames.info.live)
            code = _watch(frames, desk, asked, typed, input.realtime)
            run["status"] = "stopped" if code else "finished"
            watching.finish()
        else:
            for when, question in asked:
                desk.answer(question, when)
        while typed is not None and not code and (line := typed.get()) is not None:
            desk.try_to_answer(line)
        if not output.quiet and not output.as_json:
            _say_usage(session, known, folder.path)
    return code


def _memory_file(
    source: str, memory: str | None, asked: Sequence[tuple[float | None, str]]
) -> Path | None:
    """The file of the memory; the source itself when it is one, and no other is named."""
    if memory is not None or not source.endswith(SUFFIX):
        return None if memory is None else Path(memory)
    if any(when is not None and when < 0 for when, _ in asked):
        raise InputError("--at is before the beginning; expected seconds")
    if not Path(source).exists():
        raise InputError(f"no memory file {source}; make one with --memory {source}")
    return Path(source)


@contextmanager
def _recorded(folder: RunFolder, **about: Any) -> Iterator[dict[str, Any]]:
    """A record beside the answers, unless the folder has that of another command."""
    run = {"status": "finished"}
    if folder.recorded("status") is not None and folder.recorded("command") != "ask":
        yield run
        return
    folder.record(command="ask", status="running", **about, **machine())
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
    questions: Sequence[str], at: Sequence[float], scope: str
) -> list[tuple[float | None, str]]:
    """When to ask what, in the order of time; None is at the end."""
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; expected one of {', '.join(SCOPES)}")
    if len(at) > 1 and len(at) != len(questions):
        raise InputError(
            f"{len(at)} --at for {len(questions)} questions; expected one, or one for each"
        )
    times: list[float | None] = list(at) if at else [None]
    whens = times * len(questions) if len(times) == 1 else times
    asked = list(zip(whens, questions, strict=True))
    return sorted(asked, key=lambda each: float("inf") if each[0] is None else each[0])


class _Desk:
    """Where questions are answered and printed."""

    def __init__(
        self,
        watching: ThumbnailSession,
        log: AnswerLog,
        conversation: Conversation,
        scope: str,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self.watching, self.quiet, self.as_json = watching, quiet, as_json
        self._log, self._conversation, self._scope = log, conversation, scope

    def answer(self, question: str, at: float | None = None) -> None:
        """Answer on standard output; the words as they come."""
        from vision_mem.videoqa.evidence import clock, spans_of

        session = self.watching.session
        pieces = session.ask_stream(
            question, at=at, scope=self._scope, conversation=self._conversation
        )
        speaks = session.model.traits.speaks
        if not self.as_json:
            print(f"\nat {clock(pieces.answer.at_s)}: {question}", flush=True)
        for piece in pieces:
            if not self.as_json:
                print(piece.text, end="", flush=True)
        answer = pieces.answer
        spans = spans_of(answer.evidence, 1.5 / (session.config.fps or 1e9))
        entry = self._log.add(question, answer, spans)
        if self.as_json:
            print(json.dumps(entry, default=str, ensure_ascii=False), flush=True)
            return
        if speaks:
            print(" ..." if answer.cut else "")
        self._print_moments(spans, speaks)
        if entry["sheet"]:
            print(f"  pictures: {entry['sheet']}", flush=True)

    def _print_moments(self, spans: Sequence[Span], speaks: bool) -> None:
        from vision_mem.videoqa.evidence import clock

        print("  answered from:" if speaks else "  the moments that match best:")
        for number, span in enumerate(spans, start=1):
            until = "" if span.end_s - span.start_s < 0.05 else f" to {clock(span.end_s)}"
            print(f"  {number}. {clock(span.start_s)}{until}, score {span.score:.2f}")

    def try_to_answer(self, question: str) -> None:
        """Answer; what is wrong with a typed question is said and nothing more."""
        try:
            self.answer(question)
        except VisionMemError as error:
            print(f"  {' '.join(str(error).split())}", flush=True)


def _watch(
    frames: FrameSource,
    desk: _Desk,
    asked: Sequence[tuple[float | None, str]],
    typed: queue.Queue[str | None] | None,
    realtime: bool,
) -> int:
    """Show the stream to the memory, and answer questions when it is time."""
    waiting = list(asked)
    begin = 0.0 if not frames.info.live else None
    with StopSignals() as signals, WatchProgress(frames.info, show=not desk.quiet) as bar:
        watched = signals.watch(frames)
        for frame in paced(watched) if realtime else watched:
            begin = frame.time_s if begin is None else begin
            while waiting and waiting[0][0] is not None and frame.time_s - begin > waiting[0][0]:
                desk.answer(waiting.pop(0)[1])
            bar.update(desk.watching.step(frame), desk.watching.session.usage())
            while typed is not None and not typed.empty():
                question = typed.get()
                if question is None:
                    typed.put(None)  # who waits for more after the stream is told too
                    return 0
                desk.try_to_answer(question)
    if signals.received is None:
        for _, question in waiting:
            desk.answer(question)
    return signals.exit_code


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
    # Daemon: somebody who types nothing must not keep the program from ending.
    threading.Thread(target=read, name="vision-mem-questions", daemon=True).start()
    return lines


def _say_usage(session: VideoMemorySession, known: MemoryFile | None, folder: Path) -> None:
    usage = session.usage()
    tiers = ", ".join(f"{number} {tier}" for tier, number in usage.tokens.items())
    print(f"\nmemory: {tiers} tokens, {megabytes(usage.bytes)}", end="")
    print(f", kept in {known.path}" if known is not None else "")
    print(f"answers: {folder / 'answers.jsonl'}")
