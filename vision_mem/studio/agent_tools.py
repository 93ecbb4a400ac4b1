"""What agents may ask of memories, maps and streams: plain functions that answer with JSON.

They know nothing of the protocol that carries them; ``pipelines/mcp.py`` does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vision_mem.errors import InputError, NotFoundError
from vision_mem.navigation import Hit, NavigationSession
from vision_mem.sinks.masks import strict_json
from vision_mem.studio.commands import StudioCommand, parse_command
from vision_mem.studio.frames import encode_jpeg
from vision_mem.studio.registry import Stream
from vision_mem.text import short
from vision_mem.videoqa.evidence import ThumbnailSession, spans_of

PICTURES = "pictures"
"""Key of an answer under which JPEGs lie; they go beside the JSON, not into it."""
_MOST, _LONGEST = 50, 500
_WAIT_S = 30.0


class AgentTools:
    """Ask, moments, objects, where, route, follow: over a memory file, a map and a stream.

    Calls may come from several threads; they are answered one after the other.

    Args:
        memory: path of a memory file, and what opens it; read anew when it has grown.
        map_: a map open for reading; it follows whoever writes to it.
        stream: that is watched now.
    """

    def __init__(
        self,
        memory: tuple[Path, Callable[[], ThumbnailSession]] | None = None,
        map_: NavigationSession | None = None,
        stream: Stream | None = None,
    ) -> None:
        self._memory, self._map, self._stream = memory, map_, stream
        self._watching: ThumbnailSession | None = None
        self._seen: tuple[Any, ...] = ()
        self._lock = threading.RLock()

    @property
    def tools(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """All of them by name; those that lack their part say what it is."""
        return {
            "ask": self.ask,
            "moments": self.moments,
            "objects": self.objects,
            "where": self.where,
            "route": self.route,
            "follow": self.follow,
        }

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            self._let_go()
            if self._map is not None:
                self._map.close()
            if self._stream is not None:
                self._stream.close()

    # -- what was seen -------------------------------------------------------------------------

    def ask(self, question: str, scope: str = "auto", at_s: float | None = None) -> dict[str, Any]:
        """Answer a question about what was watched, with the moments the answer rests on.

        Args:
            question: such as "when did the red car leave?".
            scope: auto, or recent or all of the memory.
            at_s: answer as of this second; leave it out for now.
        """
        with self._lock:
            if self._memory is None and self._stream is not None:
                return self._ask_stream(question)
            watching = self._opened()
            session = watching.session
            answer = session.ask(_question(question), at=at_s, scope=scope)
            spans = spans_of(answer.evidence, 1.5 / (session.config.fps or 1e9), watching.files)
            speaks = session.model.traits.speaks
            return strict({
                "question": question, "answer": answer.text if speaks else None,
                "at_s": answer.at_s, "moments": [asdict(span) for span in spans],
                "note": "" if speaks else _SILENT,
            })  # fmt: skip

    def moments(self, query: str, most: int = 5, pictures: bool = False) -> dict[str, Any]:
        """Find the moments that a query is about, best first, with their times and scores.

        Args:
            query: what to look for, in words.
            most: moments at most, up to 50.
            pictures: send a small picture of each too.
        """
        with self._lock:
            if self._memory is None and self._stream is not None:
                found = self._ask_stream(query)
                kept, jpegs = found["moments"][: _amount(most)], found.pop(PICTURES, [])
            else:
                watching = self._opened()
                session = watching.session
                answer = session.ask(_question(query))
                fps = session.config.fps or 1e9
                spans = spans_of(answer.evidence, 1.5 / fps, watching.files)[: _amount(most)]
                kept = [asdict(span) for span in spans]
                seen = [watching.picture(span.grid) for span in spans] if pictures else []
                jpegs = [encode_jpeg(picture) for picture in seen if picture is not None]
            answered = strict({"query": query, "moments": kept})
            return answered | ({PICTURES: jpegs[: len(kept)]} if pictures else {})

    def _ask_stream(self, question: str) -> dict[str, Any]:
        assert self._stream is not None
        if self._stream.memory is None:
            raise InputError(
                "nothing watches this stream for questions; install 'vision-mem[offline]', or "
                "start the server with --ask MODEL"
            )
        found = self._stream.memory.ask(_question(question))
        evidence: Sequence[Mapping[str, Any]] = found["evidence"]
        pictures = [each["picture"] for each in evidence if each["picture"] is not None]
        kept = [{k: v for k, v in each.items() if k != "picture"} for each in evidence]
        speaks = found["text"] is not None
        return strict({
            "question": question, "answer": found["text"], "at_s": found["at_s"], "moments": kept,
            "note": "" if speaks else _SILENT,
        }) | {PICTURES: pictures}  # fmt: skip

    def _opened(self) -> ThumbnailSession:
        if self._memory is None:
            raise InputError("there is no memory here; start the server with --memory FILE.vmem")
        path, opened = self._memory
        now = _marks(path)
        if self._watching is None or now != self._seen:
            fresh = opened()
            self._let_go()
            self._watching, self._seen = fresh, now
        if self._watching.session.seen is None:
            raise InputError(f"{path} has not seen anything yet; ask again when it has")
        return self._watching

    def _let_go(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None and watching.file is not None:
            watching.file.close()

    # -- what is where -------------------------------------------------------------------------

    def objects(self, name: str = "", most: int = _MOST, picture: bool = False) -> dict[str, Any]:
        """List what is followed in the stream now, and what the map remembers.

        Args:
            name: only those with this in their name.
            most: of each at most, up to 50.
            picture: send the newest frame of the stream too, to point at things with follow.
        """
        with self._lock:
            if self._map is None and self._stream is None:
                raise InputError(
                    "there is neither map nor stream here; start the server with --map FILE.map "
                    "or --stream ADDRESS"
                )
            made: dict[str, Any] = {}
            jpegs: list[bytes] = []
            if self._stream is not None:
                made["stream"], jpeg = self._followed(name, _amount(most))
                jpegs = [jpeg] if picture and jpeg is not None else []
            if self._map is not None:
                made["map"] = self._remembered(name, _amount(most))
            return strict(made) | ({PICTURES: jpegs} if jpegs else {})

    def _followed(self, name: str, most: int) -> tuple[dict[str, Any], bytes | None]:
        assert self._stream is not None
        actor = self._stream.actor
        if actor.problem:
            raise InputError(f"the stream has ended: {actor.problem}")
        status = actor.status
        frame = status.get("head")
        rows = {} if frame is None else actor.store.rows(frame)
        found: list[dict[str, Any]] = []
        for each in status.get("objects", []):
            if name.casefold() not in each["name"].casefold() or len(found) >= most:
                continue
            row = rows.get(each["id"])
            found.append({
                "id": each["id"], "name": each["name"],
                "state": "not reached yet" if row is None else row.state,
                "box": None if row is None or not row.present else _xywh(row.box),
                "score": None if row is None else round(row.score, 3),
            })  # fmt: skip
        about = {
            "source": self._stream.source, "frame": frame, "width": status["width"],
            "height": status["height"], "ended": status.get("ended"), "objects": found,
        }  # fmt: skip
        return about, None if frame is None else actor.picture(frame)

    def _remembered(self, name: str, most: int) -> dict[str, Any]:
        assert self._map is not None
        self._map.nearest_words(name)  # a question takes in what others have written since
        state = self._map.state
        found: list[dict[str, Any]] = []
        for landmark in state.landmarks.by_id.values():
            if name.casefold() not in landmark.label.casefold() or len(found) >= most:
                continue
            found.append({
                "key": f"landmark:{landmark.landmark_id}", "name": landmark.label,
                "position": [round(float(v), 3) for v in landmark.position],
                "seen": landmark.count, "last_s": landmark.last_s,
                "gone": state.landmarks.gone(landmark),
            })  # fmt: skip
        return {"objects": found, "all": len(state.landmarks)}

    def where(
        self, query: str, near: str = "", at_s: float | None = None, most: int = 5
    ) -> dict[str, Any]:
        """Say where remembered things are in the map, in metres, best first.

        Args:
            query: words, such as "red sofa".
            near: x,y,z or a name: prefer what is near there.
            at_s: as it was known at this second; leave it out for now.
            most: answers at most, up to 50.
        """
        with self._lock:
            map_ = self._opened_map()
            spot = map_.resolve(near, "near").position if near else None
            hits = map_.where(_question(query), near=spot, at=at_s, k=_amount(most))
            if not hits:
                close = map_.nearest_words(query)
                hint = f"; near in spelling: {short(', '.join(close), 200)}" if close else ""
                raise NotFoundError(f"nothing remembered is called {short(query)!r}{hint}")
            return strict({"query": query, "hits": [self._hit(hit) for hit in hits]})

    def route(self, to: str, start: str = "", places: bool = False) -> dict[str, Any]:
        """Say how to get somewhere in the map: length, directions and points in metres.

        Args:
            to: x,y,z in metres, a name, or a key such as landmark:3 or place:3.
            start: likewise; leave it out for where the observer was last.
            places: along ways that were walked, instead of over the open floor.
        """
        with self._lock:
            map_ = self._opened_map()
            plan = map_.plan if places else map_.route
            way = plan(to, start or None)
            return strict({
                "to": to, "on": way.on, "length_m": round(way.length, 3),
                "directions": list(way.directions), "points": way.points.round(3).tolist(),
                "places": list(way.places),
            })  # fmt: skip

    def _opened_map(self) -> NavigationSession:
        if self._map is None:
            raise InputError("there is no map here; start the server with --map FILE.map")
        return self._map

    def _hit(self, hit: Hit) -> dict[str, Any]:
        return {
            "key": f"landmark:{hit.node}", "name": hit.label,
            "position": hit.position.round(3).tolist(), "sigma_m": round(hit.sigma, 3),
            "score": round(hit.score, 4), "seen": hit.count, "age_s": round(hit.age_s, 3),
            "gone": hit.gone,
        }  # fmt: skip

    # -- the stream ----------------------------------------------------------------------------

    def follow(
        self,
        name: str = "",
        point: list[float] | None = None,
        box: list[float] | None = None,
        frame: int | None = None,
    ) -> dict[str, Any]:
        """Begin to follow an object of the stream, at a point on it or in a box around it.

        Args:
            name: what to call it.
            point: x, y in pixels.
            box: left, top, width, height in pixels.
            frame: number of the frame that was pointed at, as objects said; the newest if left out.
        """
        with self._lock:
            if self._stream is None:
                raise InputError("there is no stream here; start the server with --stream ADDRESS")
            if (point is None) == (box is None):
                raise InputError(
                    "give a point (x, y) on the object, or a box (x, y, w, h) around it"
                )
            actor = self._stream.actor
            at = actor.status.get("head") if frame is None else frame
            if at is None:
                raise InputError("no frame has come yet; wait a moment")
            said: dict[str, Any] = {"command": "prompt", "frame": at}
            said |= {"points": [point], "labels": [1]} if point is not None else {"box": box}
            said |= {"name": name} if name else {}
            done = actor.submit(parse_command(said, "follow")).result(_WAIT_S)
            actor.submit(StudioCommand("play")).result(_WAIT_S)
            return {"id": done["object"], "name": name or f"object-{done['object']}", "frame": at}


_SILENT = "the model finds moments and does not talk: the answer is in them"


def strict(answer: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready, without numbers that JSON does not have."""
    made: dict[str, Any] = strict_json(answer)
    return made


def _question(text: str) -> str:
    text = text.strip()
    if not text or len(text) > _LONGEST:
        raise InputError(f"the question is empty, or longer than {_LONGEST} letters")
    return text


def _amount(most: int) -> int:
    if not 1 <= most <= _MOST:
        raise InputError(f"most is {most}; expected 1 to {_MOST}")
    return most


def _xywh(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in box)
    return [round(value, 1) for value in (x1, y1, x2 - x1, y2 - y1)]


def _marks(path: Path) -> tuple[Any, ...]:
    """What changes when a memory file does: sizes and times of it and its log."""
    marks: list[Any] = []
    for place in (path, path.with_name(f"{path.name}-wal")):
        try:
            found = place.stat()
            marks += [found.st_mtime_ns, found.st_size, found.st_ino]
        except OSError:
            marks.append(0)
    return tuple(marks)
