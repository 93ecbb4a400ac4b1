"""Run a video memory on a set of questions: which frames it sees, what it is asked, what is kept.

Work is done by the runner of all evaluations (``evaluation.engine.runner``): one job is one
video with all its questions. Its result file is one the set's official scorer reads.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.engine.folder import EvaluationFolder
from vision_mem.evaluation.engine.frames import Clock
from vision_mem.evaluation.engine.run import write_scores
from vision_mem.evaluation.engine.runner import Advanced
from vision_mem.evaluation.file_tree import read_text
from vision_mem.evaluation.scores import Rules
from vision_mem.evaluation.selection import Shard, choose_sequences
from vision_mem.evaluation.videoqa import frame_protocol
from vision_mem.evaluation.videoqa.datasets.open import open_videoqa_benchmark, set_of, video_of
from vision_mem.evaluation.videoqa.records import Query, VideoQaBenchmark, VideoQueries
from vision_mem.evaluation.videoqa.results import VideoQaResults
from vision_mem.evaluation.videoqa.scores import score_answers
from vision_mem.models.vlm.protocol import Question, VideoLanguageModel
from vision_mem.runs.tally import count
from vision_mem.types import Frame
from vision_mem.videoqa import Answer, GateHistory, VideoMemorySession, VideoQaConfig

_LEAST_OVO = 4  # frames of a clip


class Asked(Protocol):
    """What sees frames and is asked: ``VideoMemorySession``, or what behaves like it."""

    def reset(self) -> None:
        """Forget everything."""

    def step(self, frame: Frame) -> Any:
        """Look at the next frame."""

    def ask(self, question: Question, *, scope: str = "auto") -> Answer:
        """Answer from what was seen."""


@dataclass(frozen=True)
class VideoQaWorker:
    """What questions run on.

    Attributes:
        session: looks at every frame it is given.
        model: labels the results: ``traits`` with ``model_id`` and ``extra``, and a ``device``.
    """

    session: Asked
    model: Any

    @classmethod
    def around(
        cls,
        model: VideoLanguageModel,
        config: VideoQaConfig | None = None,
        gate_history: GateHistory | None = None,
    ) -> VideoQaWorker:
        """A worker with a session of its own; ``fps`` of settings is the protocol's business.

        Raises:
            InputError: for a model that does not speak.
        """
        if not model.traits.speaks:
            raise InputError(
                f"{model.traits.model_id} finds moments and gives no words; questions of a "
                "benchmark need a model that answers"
            )
        chosen = replace(config or VideoQaConfig(), fps=None)
        return cls(VideoMemorySession(model, chosen, gate_history), model)


@dataclass(frozen=True)
class AskedJob:
    """One video to run, see ``runner.Job``.

    Attributes:
        video: its questions.
        key: word of the set.
        root: the set's folder.
        protocol: how questions are asked.
    """

    video: VideoQueries
    key: str
    root: Path
    protocol: frame_protocol.FrameProtocol

    @property
    def name(self) -> str:
        """Of the video."""
        return self.video.name

    @property
    def length(self) -> int:
        """Frames to look at, about: the video is not opened for it."""
        p = self.protocol
        ends = [at_s for query in self.video.queries for at_s in query.moments]
        if p.mode == "stream":
            return max(1, math.ceil(max(ends) * p.fps))
        window = math.inf if p.window_s is None else p.window_s
        each = (min(end, window) * p.fps for end in ends)
        return sum(round(min(max(n, p.min_frames), p.max_frames)) for n in each)

    @property
    def file(self) -> str:
        """The result file's name."""
        return f"{self.name}.json"

    def is_whole(self, results: Path, log: Path) -> bool:
        """Say whether each question has its entry in the result file."""
        path = results / self.file
        if not path.is_file():
            return False
        try:
            said = {each.name for each in set_of(self.key).replies(read_text(path), str(path), "")}
        except InputError:
            return False
        return said == {query.name for query in self.video.queries}

    def run(
        self, session: VideoQaWorker, tell: Callable[[Advanced], None], log: dict[str, Any]
    ) -> dict[str, bytes]:
        """Ask all questions, see ``runner.Job``. One that fails has no answer, and the next comes.

        Raises:
            InputError: when the video is not there.
            SourceError: when it cannot be read.
        """
        clock = Clock(torch.device(session.model.device))
        said: dict[str, Any] = {query.name: None for query in self.video.queries}
        done: set[str] = set()
        log |= {"frames": 0, "mode": self.protocol.mode, "questions": []}

        def put(query: Query, question: Question, seen: int, at_s: float) -> str | None:
            answer, entry = self._put(session.session, clock, query, question, seen)
            log["questions"].append({**entry, "time_s": at_s})
            if "error" in entry:
                log["warnings"].append(f"question {query.name}: {entry['error']}")
            if query.poll is None:
                said[query.name] = answer
            elif answer is not None:
                turns = (("user", question.text), ("assistant", answer))
                told = [{"role": who, "content": words, "time": at_s} for who, words in turns]
                said[query.name] = [*(said[query.name] or []), *told]
            return answer

        for query, at_s, seen in self._asked(session.session, clock, tell, log, done):
            answer = put(query, query.question, seen, at_s)
            if query.poll is None:
                done.add(query.name)
            elif answer is not None and "yes" in answer.lower():
                done.add(query.name)
                put(query, query.poll.then, seen, at_s)
        log |= clock.report(log["frames"])
        content = set_of(self.key).result_file(self.video.queries, said)
        return {self.file: (json.dumps(content, indent=1) + "\n").encode()}

    def _put(
        self, session: Asked, clock: Clock, query: Query, question: Question, seen: int
    ) -> tuple[str | None, dict[str, Any]]:
        """The answer to one question, None where the model failed; and what is logged of it."""
        started = time.perf_counter()
        entry: dict[str, Any] = {"name": query.name, "task": query.task, "frames": seen}
        text = None
        try:
            with clock:
                answer = session.ask(question, scope=self.protocol.scope_of(query.group))
            text = answer.text
            entry |= {
                "at_s": answer.at_s, "scope": answer.scope, "tokens_read": answer.tokens_read,
                "grids_read": answer.grids_read, "cut": answer.cut,
            }  # fmt: skip
        except VisionMemError as error:
            entry["error"] = " ".join(str(error).split())
        entry |= {"answer": text, "truth": query.truth}
        return text, entry | {"seconds": round(time.perf_counter() - started, 3)}

    def _asked(
        self,
        session: Asked,
        clock: Clock,
        tell: Callable[[Advanced], None],
        log: dict[str, Any],
        done: Collection[str],
    ) -> Iterator[tuple[Query, float, int]]:
        """Each question when it is to be asked, that time, and the frames that were seen by then.

        Questions whose names are in ``done`` are not asked again.
        """

        def look(frame: Frame) -> None:
            with clock:
                session.step(frame)
            log["frames"] += 1
            tell(Advanced(self.name, log["frames"]))

        if self.protocol.mode == "stream":
            yield from self._streamed(session, look, done)
            return
        extents: dict[Path, tuple[int, float]] = {}
        for query in self.video.queries:
            for at_s in query.moments:
                if query.name in done:
                    break
                session.reset()
                number = 0
                for frame in self._clip(replace(query, time_s=at_s), extents):
                    look(frame)
                    number += 1
                yield query, at_s, number

    def _streamed(
        self, session: Asked, look: Callable[[Frame], None], done: Collection[str]
    ) -> Iterator[tuple[Query, float, int]]:
        path = video_of(self.root, self.video.queries[0], self.key, cut=False)
        if path is None:
            raise self._lacking("")
        session.reset()
        moments = [(at_s, query) for query in self.video.queries for at_s in query.moments]
        waiting = deque(sorted(moments, key=lambda each: each[0]))
        seen = 0
        for frame in frame_protocol.paced_frames(path, self.protocol.fps, waiting[-1][0]):
            # What is asked before the first frame is asked after it: there must be something.
            while seen and waiting and waiting[0][0] < frame.time_s - 1e-6:
                at_s, query = waiting.popleft()
                if query.name not in done:
                    yield query, at_s, seen
            look(frame)
            seen += 1
        for at_s, query in waiting:
            if query.name not in done:
                yield query, at_s, seen

    def _clip(self, query: Query, extents: dict[Path, tuple[int, float]]) -> Iterator[Frame]:
        """The frames before a question, from the whole video or from its ready-cut clip."""
        end: float | None = self.protocol.end_of(query.time_s)
        start, path = query.start_s, video_of(self.root, query, self.key, cut=False)
        if path is None:
            end, start, path = None, 0.0, video_of(self.root, query, self.key, cut=True)
        if path is None:
            raise self._lacking(" nor its ready-cut clips")
        if path not in extents:
            extents[path] = frame_protocol.extent_of(path)
        wanted = frame_protocol.chosen_frames(
            *extents[path], self.protocol, end_s=end, start_s=start
        )
        return frame_protocol.read_frames(path, wanted)

    def _lacking(self, more: str) -> InputError:
        layout = set_of(self.key).dataset.layout
        return InputError(
            f"{self.root} has not the video {self.video.video}{more}; expected {layout}"
        )


@dataclass(frozen=True)
class QuestionRun:
    """What an evaluation on a set of questions is to run.

    Attributes:
        benchmark: the whole set, or its tasks that are wanted.
        jobs: one a video.
        protocol: how questions are asked.
    """

    benchmark: VideoQaBenchmark
    jobs: tuple[AskedJob, ...]
    protocol: frame_protocol.FrameProtocol

    @property
    def identity(self) -> dict[str, Any]:
        """JSON-ready values that all results in a folder have in common."""
        tasks = self.benchmark.tasks
        return {"protocol": asdict(self.protocol), "tasks": None if tasks is None else list(tasks)}

    @property
    def notes(self) -> list[str]:
        """What a user should know before it starts."""
        questions = sum(len(job.video.queries) for job in self.jobs)
        lines = [f"{count(questions, 'question')} about {count(len(self.jobs), 'video')}"]
        if self.protocol.scope == "benchmark":
            lines.append("scope chosen by the benchmark: recent for real-time tasks, else all")
        late = sum(
            query.time_s > (self.protocol.window_s or math.inf)
            for job in self.jobs
            for query in job.video.queries
        )
        if self.protocol.mode == "clips" and late:
            lines.append(
                f"{count(late, 'question')} later than {self.protocol.window_s:g} s: the beginning "
                "of those videos is not seen"
            )
        return lines

    def sum_up(self, folder: EvaluationFolder, model: str) -> list[str]:
        """Score all that is there, see ``Family.sum_up``; questions without an answer are said."""
        with VideoQaResults(folder.results, self.benchmark, model) as results:
            score = score_answers(self.benchmark, results)
        return write_scores(folder, score, Rules(), self.benchmark.notes)


def plan_questions(
    key: str,
    root: Path,
    *,
    tasks: str | None = None,
    videos: str | None = None,
    limit: int | None = None,
    shard: Shard | None = None,
    protocol: frame_protocol.FrameProtocol | None = None,
) -> QuestionRun:
    """What there is to run on a set of questions: all that ``vision-mem eval`` needs of it.

    Tasks and videos are words or patterns, commas between; ``limit`` and ``shard`` are of videos,
    see ``choose_sequences``; without a protocol it is that of the published numbers.

    Raises:
        InputError: when the set cannot be opened, or nothing fits.
    """
    benchmark = open_videoqa_benchmark(key, root, tasks=tasks)
    if benchmark.root is None or not benchmark.queries:
        raise InputError(f"{root} has no questions of {benchmark.title} to ask")
    chosen = choose_sequences(benchmark.videos, names=videos, limit=limit, shard=shard)
    asking = protocol or usual_protocol(key)
    jobs = tuple(AskedJob(video, key, benchmark.root, asking) for video in chosen)
    return QuestionRun(benchmark, jobs, asking)


def usual_protocol(key: str) -> frame_protocol.FrameProtocol:
    """How the published numbers of a set were made: the last 256 s, one frame a second.

    Generated streams have no published numbers: they are seen once, from their beginning.
    """
    if key == "streams":
        return frame_protocol.FrameProtocol(mode="stream")
    if key == "ovo-bench":
        return frame_protocol.FrameProtocol(min_frames=_LEAST_OVO, whole_seconds=True)
    return frame_protocol.FrameProtocol()
