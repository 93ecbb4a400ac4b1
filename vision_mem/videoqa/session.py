"""Watch a stream and answer questions at any moment: ``step`` a frame, ``ask`` a question.

Frames are looked at one by one: each pair (or as many as the model's grid takes) goes through the
vision tower once and into the memory. A question reads the memory as it is then, and changes
nothing: questions in any order give the same answers. A frame that still waits for its partner is
read as a grid of its own for the question alone.

All that changes is one value that is replaced at the very end of a step, so a step that raises
loses nothing, and a question may be answered while the stream goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from vision_mem.config import load_config
from vision_mem.errors import InputError, ModelError
from vision_mem.formats.snapshot import load_session, load_snapshot, save_snapshot
from vision_mem.models.vlm.protocol import (
    GridSpan,
    MomentModel,
    Question,
    VideoLanguageModel,
    VisualContext,
    model_of,
)
from vision_mem.sources.pixels import as_frame
from vision_mem.text import short
from vision_mem.types import Frame
from vision_mem.videoqa.answering import AnswerStream, Conversation, GateHistory
from vision_mem.videoqa.compression import unit
from vision_mem.videoqa.config import SCOPES, MemoryConfig, VideoQaConfig
from vision_mem.videoqa.intervals import find_intervals, score_looks
from vision_mem.videoqa.memory import TokenMemory
from vision_mem.videoqa.mrope import Watched, place
from vision_mem.videoqa.records import (
    SHORT,
    Answer,
    GridEntry,
    Interval,
    Moment,
    VideoUsage,
    WatchResult,
    numbers,
    real,
    whole,
)
from vision_mem.videoqa.retrieval import Retrieved, retrieve

# Clocks of cameras are set back now and then; more than this is another stream.
_BACKWARD_S = 1.0
_ROUNDING_S = 1e-6
_NO_STATE = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RuntimeError,
)


def steady_time(frame: Frame, latest_s: float | None) -> float:
    """The time of a frame, never before ``latest_s``, that of the one before (None at first).

    Raises:
        InputError: when the time is no number, or lies more than a second back.
    """
    if not math.isfinite(frame.time_s):
        raise InputError(f"frame {frame.index} has time {frame.time_s}; expected seconds")
    if latest_s is None:
        return frame.time_s
    if frame.time_s < latest_s - _BACKWARD_S:
        raise InputError(
            f"frame {frame.index} at {frame.time_s:g} s comes after {latest_s:g} s; time cannot "
            "run back: call reset() before another stream"
        )
    return max(frame.time_s, latest_s)


def next_due(time_s: float, origin_s: float, fps: float | None) -> float | None:
    """When the next frame is to be looked at, after one was at ``time_s``; None for at once.

    Looks lie on a raster that begins with the stream, at ``origin_s``, so that they do not drift
    with the source's own rate.
    """
    if fps is None:
        return None
    looks = math.floor((time_s - origin_s) * fps + _ROUNDING_S) + 1
    return origin_s + looks / fps - _ROUNDING_S


@dataclass(frozen=True, eq=False)
class StreamState:
    """Everything about one stream that changes. Never changed, only replaced.

    Attributes:
        memory: what is remembered.
        watched: how much was seen.
        pending: frames that wait for their grid to be full.
        segment: counts changes of the frame size.
        size: ``(height, width)`` of the newest frame looked at.
        frame_index, time_s: of the newest frame.
        origin_s: time of the first frame.
        due_s: when the next frame is looked at; None for at once.
    """

    memory: TokenMemory
    watched: Watched = Watched()
    pending: tuple[Frame, ...] = ()
    segment: int = 0
    size: tuple[int, int] | None = None
    frame_index: int | None = None
    time_s: float | None = None
    origin_s: float | None = None
    due_s: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors and plain values."""
        pending = [
            {"index": f.index, "time_s": f.time_s, "image": torch.tensor(f.image)}
            for f in self.pending
        ]
        return {
            "memory": self.memory.state_dict(), "watched": asdict(self.watched),
            "pending": pending, "segment": self.segment,
            "size": None if self.size is None else list(self.size),
            "frame_index": self.frame_index, "time_s": self.time_s, "origin_s": self.origin_s,
            "due_s": self.due_s,
        }  # fmt: skip

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        config: MemoryConfig,
        frames_per_grid: int,
        device: torch.device | str,
    ) -> StreamState:
        """Rebuild from ``state_dict``, on a device.

        Raises:
            KeyError, TypeError, ValueError: when the state is not whole.
        """
        size, index = state["size"], state["frame_index"]
        times = {name: state[name] for name in ("time_s", "origin_s", "due_s")}
        return cls(
            memory=TokenMemory.from_state(state["memory"], config, frames_per_grid, device),
            watched=Watched(**numbers(state["watched"], "first_s", "last_s")),
            pending=tuple(
                Frame(whole(f["index"]), real(f["time_s"]), f["image"].cpu().numpy())
                for f in state["pending"]
            ),
            segment=whole(state["segment"]),
            size=None if size is None else (whole(size[0]), whole(size[1])),
            frame_index=None if index is None else whole(index),
            **{name: None if value is None else real(value) for name, value in times.items()},
        )


class VideoMemorySession:
    """Remembers one stream and answers questions about it.

    Args:
        model: shared, never changed.
        config: settings; the defaults are the preset ``default``.
        gate_history: for the ``carried`` gate alone: shared between sessions where the released
            code shares it; left out, the session has its own.
    """

    def __init__(
        self,
        model: VideoLanguageModel,
        config: VideoQaConfig | None = None,
        gate_history: GateHistory | None = None,
    ) -> None:
        self.model = model
        self.config = config or VideoQaConfig()
        self._shared_gate = gate_history
        self.reset()

    # -- the stream ----------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget everything; equal to a new session. A gate history that was given stays."""
        memory = TokenMemory(self.config.memory, self.model.traits.frames_per_grid)
        self._state = StreamState(memory)
        self._gate = self._shared_gate or GateHistory()

    @property
    def memory(self) -> TokenMemory:
        """What is remembered now: a value that later steps do not change."""
        return self._state.memory

    @property
    def seen(self) -> tuple[int, float] | None:
        """Index and time of the newest frame, looked at or not; None before the first."""
        index, time_s = self._state.frame_index, self._state.time_s
        return None if index is None or time_s is None else (index, time_s)

    @property
    def waiting(self) -> tuple[Frame, ...]:
        """Frames that were looked at and wait for their grid to be full."""
        return self._state.pending

    @torch.inference_mode()
    def step(self, frame: Frame | NDArray[Any]) -> WatchResult:
        """Look at the next frame.

        Args:
            frame: the frame; or an image ``(H, W, 3)`` uint8 RGB (OpenCV's BGR as
                ``image[..., ::-1]``), 1/30 s after the one before. Its size may differ from the
                one before: a new segment begins.

        Returns:
            Whether it was looked at, and what entered memory.

        Raises:
            InputError: for a frame that comes twice or out of time, or a grid that is larger than
                the budget; the session is as before.
        """
        old = self._state
        frame = as_frame(frame, old.frame_index, old.time_s)
        if old.frame_index == frame.index:
            raise InputError(
                f"frame {frame.index} comes twice in a row; number frames as they come, or call "
                "reset() before another stream"
            )
        time_s = steady_time(frame, old.time_s)
        state = replace(old, frame_index=frame.index, time_s=time_s)
        if old.due_s is not None and time_s < old.due_s:
            self._state = state
            return self._result(frame, False, old.watched.grids)
        origin = time_s if old.origin_s is None else old.origin_s
        # Frames that were chosen beforehand are looked at as they come.
        fps = self.config.fps if self.config.frames == "raster" else None
        state = replace(state, origin_s=origin, due_s=next_due(time_s, origin, fps))
        if old.size not in (None, frame.size):
            state = replace(self._flush(state), segment=state.segment + 1)
        pending = (*state.pending, replace(frame, time_s=time_s, model_image=None))
        state = replace(state, size=frame.size, pending=pending)
        if len(pending) == self.model.traits.frames_per_grid:
            state = self._flush(state)
        self._state = state
        return self._result(frame, True, old.watched.grids)

    def forget(self, start_s: float, end_s: float) -> int:
        """Forget all that was seen in a span of time, for good.

        Args:
            start_s: its beginning, seconds, inclusive.
            end_s: its end, seconds, inclusive. Grids that touch the span go whole.

        Returns:
            How many grids and waiting frames were forgotten.

        Raises:
            InputError: when the span ends before it starts.
        """
        old = self._state
        memory = old.memory.forget(start_s, end_s)
        pending = tuple(f for f in old.pending if not start_s <= f.time_s <= end_s)
        self._state = replace(old, memory=memory, pending=pending)
        gone = len(old.memory.entries) - len(memory.entries)
        return gone + len(old.pending) - len(pending)

    def usage(self) -> VideoUsage:
        """What is held between frames, to the byte."""
        usage, pending = self._state.memory.usage(), self._state.pending
        detail = {**usage.detail, "waiting frames": sum(f.image.nbytes for f in pending)}
        total = sum(detail.values())
        return replace(usage, entries=usage.entries + len(pending), bytes=total, detail=detail)

    # -- questions -----------------------------------------------------------------------------

    def ask(
        self,
        question: str | Question,
        *,
        at: float | None = None,
        scope: str = "auto",
        conversation: Conversation | None = None,
    ) -> Answer:
        """Answer a question from memory. The memory stays as it is.

        Args:
            question: text, or a question with options and instruction.
            at: seconds: answer as if asked then, from what is remembered of that time and
                before; None for now. A time after the newest frame means now.
            scope: ``auto``, or ``recent`` or ``all`` to take the decision from the gate.
            conversation: earlier turns; takes this one too.

        Returns:
            Text and the moments it rests on.

        Raises:
            InputError: for an empty question, an unknown scope, before the first frame, or when
                nothing is remembered from ``at`` or before.
        """
        return self.ask_stream(question, at=at, scope=scope, conversation=conversation).finish()

    @torch.inference_mode()
    def ask_stream(
        self,
        question: str | Question,
        *,
        at: float | None = None,
        scope: str = "auto",
        conversation: Conversation | None = None,
    ) -> AnswerStream:
        """As ``ask``, but the answer comes in pieces; the evidence is there at once.

        The stream may go on while pieces are taken: what is read was chosen when asked.
        """
        asked = Question(question) if isinstance(question, str) else question
        state = self._state
        entries, watched = self._held(state, at)
        if isinstance(self.model, MomentModel):
            if scope not in SCOPES:
                raise InputError(f"scope is {scope!r}; expected one of {', '.join(SCOPES)}")
            if scope == "recent":
                short = [e for e in entries if e.tier == SHORT]
                entries = short or entries[-state.memory.short_grids :]
            answer = self._found(self.model, asked, entries, at)
            return AnswerStream(None, answer, asked, conversation, self.model.traits.model_id)
        prompt = self.model.embed_question(asked)
        whole = self.config.retrieval.query == "prompt"
        query = unit(prompt.vectors[prompt.of_question | whole].float())
        recent = [e for e in entries if e.tier == SHORT] or entries[-state.memory.short_grids :]
        older = entries[: len(entries) - len(recent)]
        rules, carried = self.config.retrieval, self._gate.average
        found = retrieve(recent, older, query, rules, scope=scope, carried=carried)
        if rules.gate == "carried":
            self._gate.average = found.gate.carried
        context, mode = self._context(found.entries, watched)
        history = () if conversation is None else conversation.latest(self.config.history_turns)
        pieces = self.model.answer(
            context, asked, history=history, max_tokens=self.config.max_answer_tokens
        )
        answer = Answer(
            text=None,
            evidence=self._evidence(found),
            at_s=(state.time_s or 0.0) if at is None else at,
            scope="all" if found.gate.history else "recent",
            tokens_read=len(context.tokens),
            grids_read=len(context.grids),
            notes={
                "gate": asdict(found.gate),
                "scored": len(found.scores),
                "spread": found.spread,
                "older_read": found.count,
                "positions": mode,
            },
        )
        return AnswerStream(pieces, answer, asked, conversation, self.model.traits.model_id)

    # -- keeping -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The whole state. Its tensors are never changed, so the state stays as it was taken."""
        return {**self._state.state_dict(), "carried": self._gate.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was taken.

        Raises:
            ModelError: when the state is not one of a video memory; nothing is changed.
        """
        try:
            traits = self.model.traits
            made = StreamState.from_state(
                state, self.config.memory, traits.frames_per_grid, self.model.device
            )
            widths = {entry.features.shape[1] for entry in made.memory.entries}
            if widths - {traits.width} or len(made.pending) >= traits.frames_per_grid:
                raise ValueError(f"width {sorted(widths)} or frames of another model")
            carried = state["carried"]
            carried = None if carried is None else real(carried)
        except _NO_STATE as error:
            said = f" ({short(str(error), 60)})" if type(error) is ValueError else ""
            raise ModelError(f"this is not a whole state of a video memory{said}") from error
        self._state = made
        self._gate = self._shared_gate or GateHistory()
        self._gate.average = carried

    def snapshot(self, path: str | Path) -> None:
        """Write the state to one file, whole or not at all.

        Args:
            path: file name, ``.safetensors`` by custom.

        Raises:
            SinkError: when it cannot be written.
        """
        header = {"kind": "videoqa", "model_id": self.model.traits.model_id}
        save_snapshot(path, self.state_dict(), header | {"config": asdict(self.config)})

    @classmethod
    def resume(cls, path: str | Path, model: VideoLanguageModel) -> VideoMemorySession:
        """Continue a session from its snapshot, bit for bit on the same machine.

        Args:
            path: what ``snapshot`` wrote.
            model: the same model as then, or what took its place in this release.

        Returns:
            The session, with the settings it had.

        Raises:
            ModelError: for a damaged file, or one of another model; one line.
        """
        model = model_of(model, str(load_snapshot(path)[1].get("model_id")))
        state, given = load_session(path, "videoqa", model.traits.model_id)
        try:
            config = load_config(VideoQaConfig, None, dict(given), folder="videoqa")
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"snapshot {path} has settings this version cannot read") from error
        session = cls(model, config)
        try:
            session.load_state_dict(state)
        except ModelError as error:
            raise ModelError(f"snapshot {path}: {error}") from error
        return session

    # -- parts ---------------------------------------------------------------------------------

    def _flush(self, state: StreamState) -> StreamState:
        """The waiting frames as a grid in memory."""
        if not state.pending:
            return state
        settings, memory = self.config.salience, state.memory
        if memory.bank is None and settings.enabled and self.config.memory.rules == "tiers":
            tokens = [self.model.embed_text(text).float() for text in settings.questions]
            if sum(map(len, tokens)) == 0:
                raise InputError("the model knows no word of salience.questions; use other words")
            memory = replace(memory, bank=unit(torch.cat(tokens)))
        frames = state.pending
        entry = GridEntry.new(
            self.model.encode_grid(frames),
            index=state.watched.grids,
            frames=tuple(frame.index for frame in frames),
            start_s=frames[0].time_s,
            end_s=frames[-1].time_s,
            segment=state.segment,
        )
        watched = state.watched.after(entry)
        return replace(state, memory=memory.write(entry), watched=watched, pending=())

    def _result(self, frame: Frame, looked: bool, first: int) -> WatchResult:
        state = self._state
        wrote = tuple(range(first, state.watched.grids))
        tokens = state.memory.tokens
        return WatchResult(frame.index, frame.time_s, looked, wrote, state.segment, tokens)

    def _held(self, state: StreamState, at: float | None) -> tuple[Sequence[GridEntry], Watched]:
        """What may be read, and the extent of the video up to there."""
        if at is not None and not math.isfinite(at):
            raise InputError(f"at is {at}; expected a time in seconds")
        if state.frame_index is None:
            raise InputError("nothing was seen yet; step at least one frame before you ask")
        state = self._flush(state)
        entries = state.memory.read(at)
        if not entries:
            begin = min((entry.start_s for entry in state.memory.read()), default=None)
            if begin is None:
                raise InputError("everything was forgotten; there is nothing to answer from")
            raise InputError(
                f"nothing is remembered from {at:g} s or before; memory begins at {begin:g} s"
            )
        if at is None or at >= state.watched.last_s:
            return entries, state.watched
        last = entries[-1]
        return entries, replace(state.watched, grids=last.index + 1, last_s=last.start_s)

    def _context(self, entries: Sequence[GridEntry], watched: Watched) -> tuple[VisualContext, str]:
        traits = self.model.traits
        placed = place(
            entries, watched, self.config.positions, traits.tokens_per_second, traits.max_positions
        )
        spans, first = [], 0
        for e in entries:
            spans.append(GridSpan(e.index, e.segment, e.start_s, e.end_s, e.size, first, len(e)))
            first += len(e)
        context = VisualContext(
            tokens=torch.cat([entry.features for entry in entries]),
            positions=placed.ids,
            text_start=placed.text_start,
            grids=tuple(spans),
            extras={
                name: torch.cat([entry.extras[name] for entry in entries])
                for name in entries[0].extras
            },
            began_s=watched.first_s,
        )
        return context, placed.mode

    def _found(
        self, model: MomentModel, asked: Question, entries: Sequence[GridEntry], at: float | None
    ) -> Answer:
        """The answer of a model that finds moments itself."""
        rules, now = self.config.seen, self._state.time_s or 0.0
        query = model.search(asked)
        looks = score_looks(entries, query, model.unrelated(), rules)
        moments = [
            Moment(e.index, e.frames, e.start_s, e.end_s, score, e.tier, len(e), box)
            for e, score, box in zip(entries, looks.scores, looks.boxes, strict=True)
        ]
        remark = str(getattr(query, "remark", ""))
        period_s = 1.0 / self.config.fps if self.config.fps else 0.0
        end_s = max(now if at is None else min(at, now), entries[-1].end_s)
        found: tuple[Interval, ...] = ()
        if not query.unknown:
            found = find_intervals(moments, looks.threshold, period_s, rules.gap_s, end_s)
        # Of equal moments the later first.
        best = sorted(moments, key=lambda one: (one.score, one.grid), reverse=True)
        return Answer(
            text=None,
            evidence=() if query.unknown else tuple(best[: self.config.evidence]),
            at_s=now if at is None else at,
            scope="all",
            tokens_read=sum(len(entry) for entry in entries),
            grids_read=len(entries),
            found=bool(found),
            threshold=round(looks.threshold, 4),
            intervals=found,
            unknown=query.unknown,
            notes={"scored": len(moments)} | ({"remark": remark} if remark else {}),
        )

    def _evidence(self, found: Retrieved) -> tuple[Moment, ...]:
        """The best of what was read; of equal ones the later first."""
        scored = [(found.scores.get(e.index, 0.0), e.index, e) for e in found.entries]
        best = sorted(scored, key=lambda one: one[:2], reverse=True)[: self.config.evidence]
        return tuple(
            Moment(e.index, e.frames, e.start_s, e.end_s, score, e.tier, len(e))
            for score, _, e in best
        )
