"""Watch a video, image folder, camera or stream, and answer questions about it."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vision_mem.config import load_config
from vision_mem.errors import InputError, VisionMemError
from vision_mem.runs.folder import default_folder
from vision_mem.runs.progress import WatchProgress, megabytes
from vision_mem.runs.signals import StopSignals
from vision_mem.session import FrameSource
from vision_mem.sources.open import open_source
from vision_mem.sources.selection import is_url, without_password
from vision_mem.types import Frame, SourceInfo
from vision_mem.videoqa.config import SUFFIX
from vision_mem.videoqa.store import MemoryFile

from .options import Changes, Device, End
from .watching import Notebook, Span, Watcher, clock, spans_of

if TYPE_CHECKING:
    from vision_mem.models.vlm.protocol import VideoLanguageModel
    from vision_mem.videoqa import Conversation, VideoMemorySession

_HOW = "type a question and press Enter; an empty line or Ctrl-D ends"


def main(
    source: Annotated[
        str,
        typer.Argument(help="Video file, image folder, camera number, address, or FILE.vmem."),
    ],
    questions: Annotated[
        list[str] | None, typer.Argument(metavar="[QUESTION]...", help="What to answer.")
    ] = None,
    at: Annotated[
        list[float] | None,
        typer.Option(help="Ask when so many seconds were seen; once, or once a question."),
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Type questions while it watches.")
    ] = False,
    memory: Annotated[
        Path | None, typer.Option(help="Keep the memory in this file; a later run goes on with it.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="words (default: finds moments, no download), qwen2.5-vl-3b, qwen2.5-vl-7b, ..., "
            "an id on Hugging Face, or a folder."
        ),
    ] = "words",
    preset: Annotated[
        str | None,
        typer.Option(
            help="default, search (for words), official, uniform, fifo, recent-only, "
            "similarity-only, full, or a .yaml."
        ),
    ] = None,
    set_: Changes = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second that are looked at, as --set fps=.")
    ] = None,
    scope: Annotated[str, typer.Option(help="What is read: auto (default), recent, all.")] = "auto",
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (default), fp32, bf16, fp16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="On a CPU; all cores but one if unset.")
    ] = None,
    decoder: Annotated[
        str, typer.Option(help="Of video files: auto (default), pyav, decord, opencv.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for answers and sheets [runs/NAME].")
    ] = None,
    start: Annotated[int, typer.Option(help="First frame, from 0.")] = 0,
    end: End = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Show a file at its own speed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Answers as JSON lines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, answers only.")] = False,
) -> int:
    """Watch a stream and answer questions about now and long ago, in constant memory.

    The default model finds the moments that a question is about, and does not talk. Answers come
    with the moments they rest on, and a sheet of their pictures.
    """
    asked = _asked(questions or [], at or [])
    if not asked and not interactive and memory is None:
        raise InputError('nothing to do: give a question, as in "when is there a dog?"')
    only_file = source.endswith(SUFFIX) and memory is None
    place = Path(source) if only_file else memory
    if only_file and any(when is not None and when < 0 for when, _ in asked):
        raise InputError("--at is before the beginning; expected seconds")
    # torch takes seconds to import; help and misspelled options should not wait for it.
    from vision_mem.models import use_threads
    from vision_mem.models.vlm.load import load_video_model
    from vision_mem.videoqa import Conversation, VideoMemorySession, VideoQaConfig

    use_threads(threads)
    with ExitStack() as stack:
        frames: FrameSource | None = None
        if not only_file:
            frames = open_source(source, start=start, end=end, decoder=decoder)
            stack.callback(frames.close)
        if only_file and not Path(source).exists():
            raise InputError(f"no memory file {source}; make one with --memory {source}")
        known = None if place is None or not place.exists() else MemoryFile(place)
        if known is not None:
            stack.callback(known.close)
        brain = load_video_model(model, device=device, precision=precision)
        session, changes = None, [*(set_ or []), *([] if fps is None else [f"fps={fps}"])]
        if known is not None:
            session = _reopened(known, brain, preset, changes)
        if session is None:
            chosen = preset or ("default" if brain.traits.speaks else "search")
            config = load_config(VideoQaConfig, chosen, changes, folder="videoqa")
            session = VideoMemorySession(brain, config)
        if known is None and place is not None:
            about = {
                "model_id": brain.traits.model_id, "config": asdict(session.config),
                "source": without_password(source) if is_url(source) else source,
            }  # fmt: skip
            known = MemoryFile(place, about)
            stack.callback(known.close)
        watcher = Watcher(session, known)
        folder = out or (Path("runs") / Path(source).stem if only_file else default_folder(source))
        notebook = Notebook(folder, watcher)
        stack.callback(notebook.close)
        desk = _Desk(watcher, notebook, Conversation(), scope, as_json, quiet)
        typed = _typed() if interactive else None
        code = 0
        if frames is not None:
            if session.seen is not None:
                same = known is not None and known.about.get("source") == source
                frames = _Continued(frames, session.seen, same and not frames.info.live)
            code = _watch(frames, desk, asked, typed, realtime)
            watcher.finish()
        else:
            for when, question in asked:
                desk.answer(question, when)
        while typed is not None and not code and (line := typed.get()) is not None:
            desk.try_to_answer(line)
        if not quiet and not as_json:
            _say_usage(session, known, folder)
    return code


def _asked(questions: Sequence[str], at: Sequence[float]) -> list[tuple[float | None, str]]:
    """When to ask what, in the order of time; None is at the end."""
    if len(at) > 1 and len(at) != len(questions):
        raise InputError(
            f"{len(at)} --at for {len(questions)} questions; expected one, or one for each"
        )
    times: list[float | None] = list(at) if at else [None]
    whens = times * len(questions) if len(times) == 1 else times
    asked = list(zip(whens, questions, strict=True))
    return sorted(asked, key=lambda each: float("inf") if each[0] is None else each[0])


def _reopened(
    known: MemoryFile, brain: VideoLanguageModel, preset: str | None, changes: Sequence[str]
) -> VideoMemorySession | None:
    """The session that a memory file holds; None when nothing was saved in it yet."""
    from vision_mem.videoqa import VideoMemorySession, VideoQaConfig

    made_with = known.about.get("model_id")
    if made_with != brain.traits.model_id:
        raise InputError(
            f"{known.path} was made with model {made_with!r} and cannot be read with "
            f"{brain.traits.model_id!r}; give that --model"
        )
    state = known.load()
    if state is None:
        return None
    settings = load_config(VideoQaConfig, None, known.about.get("config", {}), folder="videoqa")
    if preset is not None or changes:
        asked = load_config(VideoQaConfig, preset or "default", changes, folder="videoqa")
        # How a memory is kept is settled; how it is read may change from question to question.
        if preset is not None and asked.memory != settings.memory:
            raise InputError(
                f"{known.path} was kept with other memory settings than preset {preset}; leave out "
                "--preset, or begin another file"
            )
        settings = replace(asked, memory=settings.memory, salience=settings.salience)
    session = VideoMemorySession(brain, settings)
    session.load_state_dict(state)
    known.adopt(session.state_dict())
    return session


class _Desk:
    """Where questions are answered and printed."""

    def __init__(
        self,
        watcher: Watcher,
        notebook: Notebook,
        conversation: Conversation,
        scope: str,
        as_json: bool,
        quiet: bool,
    ) -> None:
        self.watcher, self.quiet, self.as_json = watcher, quiet, as_json
        self._notebook, self._conversation, self._scope = notebook, conversation, scope

    def answer(self, question: str, at: float | None = None) -> None:
        """Answer on standard output; the words as they come."""
        session = self.watcher.session
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
        entry = self._notebook.add(question, answer, spans)
        if self.as_json:
            print(json.dumps(entry, default=str, ensure_ascii=False), flush=True)
            return
        if speaks:
            print(" ..." if answer.cut else "")
        self._print_moments(spans, speaks)
        if entry["sheet"]:
            print(f"  pictures: {entry['sheet']}", flush=True)

    def _print_moments(self, spans: Sequence[Span], speaks: bool) -> None:
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
        for frame in _paced(watched) if realtime else watched:
            begin = frame.time_s if begin is None else begin
            while waiting and waiting[0][0] is not None and frame.time_s - begin > waiting[0][0]:
                desk.answer(waiting.pop(0)[1])
            bar.update(desk.watcher.step(frame), desk.watcher.session.usage())
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


def _paced(frames: FrameSource) -> Iterator[Frame]:
    """Frames at their own times."""
    begin, origin = time.monotonic(), None
    for frame in frames:
        origin = frame.time_s if origin is None else origin
        time.sleep(max(0.0, frame.time_s - origin - (time.monotonic() - begin)))
        yield frame


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


class _Continued:
    """A source that goes on where a memory ended."""

    def __init__(self, frames: FrameSource, seen: tuple[int, float], same: bool) -> None:
        self._frames, self._seen, self._same = frames, seen, same

    @property
    def info(self) -> SourceInfo:
        return self._frames.info

    def __iter__(self) -> Iterator[Frame]:
        index, time_s = self._seen
        shift = None
        for frame in self._frames:
            if self._same:
                if frame.index > index:
                    yield frame
                continue
            if shift is None:
                # Wall-clock times go on by themselves.
                shift = max(0.0, time_s + 1.0 / self.info.fps - frame.time_s)
            yield replace(frame, index=frame.index + index + 1, time_s=frame.time_s + shift)

    def close(self) -> None:
        self._frames.close()


def _say_usage(session: VideoMemorySession, known: MemoryFile | None, folder: Path) -> None:
    usage = session.usage()
    tiers = ", ".join(f"{number} {tier}" for tier, number in usage.tokens.items())
    print(f"\nmemory: {tiers} tokens, {megabytes(usage.bytes)}", end="")
    print(f", kept in {known.path}" if known is not None else "")
    print(f"answers: {folder / 'answers.jsonl'}")
