"""Logs of robots: colour, depth, intrinsics and poses in ROS bags and MCAP files."""

from __future__ import annotations

import logging
import struct
import weakref
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError, MissingExtra, NotThere, SourceError
from vision_mem.formats.rgbd_folders import StoredCamera
from vision_mem.formats.ros_images import holds_depth, packed_picture, raw_picture
from vision_mem.geometry.camera import Pinhole, colour_seen
from vision_mem.geometry.poses import exponential, inverse, logarithm, make_pose, rotation_of
from vision_mem.sources.rgbd_layouts import FrameFiles, Layout, matched

log = logging.getLogger(__name__)

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO = "sensor_msgs/msg/CameraInfo"
_TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
_POSES = (
    "nav_msgs/msg/Odometry", "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped", "geometry_msgs/msg/TransformStamped",
)  # fmt: skip
_APART_S = (0.02, 0.05)
"""Seconds by which colour may be away from depth: at least, and at most half its own interval."""
_GAP_S, _BEYOND_S = 1.5, 0.1
"""Seconds between two poses that are filled in, and from the first and last one."""


@dataclass(frozen=True, eq=False)
class LoggedPicture:
    """A picture in a log, read when it is wanted.

    Attributes:
        log: the log.
        topic: of the picture.
        logged: nanoseconds at which it was written to the log.
    """

    log: Any
    topic: str
    logged: int

    def __str__(self) -> str:
        return f"{self.log.path} {self.topic} at {self.logged / 1e9:.3f} s"

    def read(self) -> NDArray[np.generic]:
        """As ``raw_picture``.

        Raises:
            SourceError: for what cannot be read.
        """
        for topic, _, content in self.log.messages([self.topic], self.logged, self.logged + 1):
            try:
                return _picture(self.log.decode(topic, content))
            except SourceError as error:
                raise SourceError(f"{self}: {error}") from None
        raise SourceError(f"{self} is not there")


def _picture(message: Any) -> NDArray[np.generic]:
    return packed_picture(message) if hasattr(message, "format") else raw_picture(message)


class _Bag:
    """A ROS bag, of either kind, or an MCAP file.

    Attributes:
        path: the log.
        kinds: type of each topic, as ROS 2 spells it.
        counts: messages of each topic.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError:
            raise MissingExtra(
                f'{path} is a robot\'s log, which needs rosbags; pip install "vision-mem[robot]"'
            ) from None
        try:
            self._reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
            weakref.finalize(self, self._reader.close)
        except Exception as error:  # readers of damaged files raise many kinds
            raise SourceError(f"{path} cannot be read as a bag: {_said(error)}") from None
        for each in self._reader.connections:
            self.kinds[each.topic] = each.msgtype
            self.counts[each.topic] = self.counts.get(each.topic, 0) + each.msgcount

    def messages(
        self, topics: Sequence[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        """Topic, nanoseconds and content of messages, in order of their time in the log."""
        wanted = [each for each in self._reader.connections if each.topic in topics]
        if not wanted:
            return
        try:
            for link, logged, content in self._reader.messages(wanted, start, stop):
                yield link.topic, logged, bytes(content)
        except Exception as error:
            raise SourceError(f"{self.path} breaks off: {_said(error)}") from None

    def decode(self, topic: str, content: bytes) -> Any:
        """A message with its fields."""
        try:
            return self._reader.deserialize(content, self.kinds[topic])
        except Exception as error:
            raise SourceError(
                f"{self.path}: a message of {topic} is damaged: {_said(error)}"
            ) from None

    @property
    def first_ros(self) -> bool:
        """Whether messages are laid out as in ROS 1."""
        return not self._reader.is2


class _Mcap(_Bag):
    """An MCAP file: messages of ROS 1 or 2."""

    def __init__(self, path: Path) -> None:
        self.path, self.kinds, self.counts = path, {}, {}
        try:
            from mcap.exceptions import McapError
            from mcap.reader import SeekingReader
            from rosbags.typesys import Stores, get_types_from_msg, get_typestore
        except ImportError:
            raise MissingExtra(
                f'{path} is a robot\'s log, which needs mcap; pip install "vision-mem[robot]"'
            ) from None
        try:
            with path.open("rb") as file:  # mapped, so that nothing stays open
                self._mcap = SeekingReader(cast(Any, mmap(file.fileno(), 0, access=ACCESS_READ)))
            summary = self._mcap.get_summary()
        except (McapError, OSError, ValueError, struct.error, EOFError) as error:
            raise SourceError(
                f"{path} is no whole MCAP file ({_said(error)}); was it cut off? mcap recover "
                "mends it"
            ) from None
        if summary is None or not summary.channels:
            raise SourceError(
                f"{path} has no index: it was cut off, or nothing was logged; mcap recover mends it"
            )
        self._store = get_typestore(Stores.EMPTY)
        counts = summary.statistics.channel_message_counts if summary.statistics else {}
        others, self._first, types = set(), True, {}
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            if schema is None or schema.encoding not in ("ros1msg", "ros2msg"):
                others.add(schema.encoding if schema else channel.message_encoding)
                continue
            self._first = schema.encoding == "ros1msg"
            kind = schema.name if "/msg/" in schema.name else schema.name.replace("/", "/msg/", 1)
            self.kinds[channel.topic] = kind
            self.counts[channel.topic] = counts.get(channel.id, 0)
            try:
                types.update(get_types_from_msg(schema.data.decode(errors="replace"), kind))
            except Exception as error:
                raise SourceError(f"{path}: type {kind} cannot be read: {_said(error)}") from None
        if not self.kinds:
            raise SourceError(
                f"{path} has messages of kind {', '.join(sorted(map(str, others)))}; expected "
                "those of ROS 1 or 2 (ros1msg, ros2msg)"
            )
        self._store.register({k: v for k, v in types.items() if k not in self._store.fielddefs})

    def messages(
        self, topics: Sequence[str], start: int | None = None, stop: int | None = None
    ) -> Iterator[tuple[str, int, bytes]]:
        wanted = [each for each in topics if each in self.kinds]
        try:
            for _, channel, message in self._mcap.iter_messages(
                wanted, starting_at=start, ending_before=stop
            ):
                yield channel.topic, message.log_time, message.data
        except Exception as error:
            raise SourceError(f"{self.path} breaks off: {_said(error)}") from None

    def decode(self, topic: str, content: bytes) -> Any:
        kind = self.kinds[topic]
        try:
            if self._first:
                return self._store.deserialize_ros1(content, kind)
            return self._store.deserialize_cdr(content, kind)
        except Exception as error:
            raise SourceError(
                f"{self.path}: a message of {topic} is damaged: {_said(error)}"
            ) from None

    @property
    def first_ros(self) -> bool:
        return self._first


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or "it is damaged"


def open_log(path: Path) -> _Bag:
    """Open a robot's log: ``.bag``, ``.mcap``, ``.db3``, or a folder with ``metadata.yaml``.

    Raises:
        SourceError: for what is missing or none.
        MissingExtra: without the packages that read it.
    """
    if not path.exists():
        raise NotThere(f"{path}: no such log; check the path")
    if path.name.endswith(".bag.active"):
        raise SourceError(f"{path} is still being written, or was cut off; rosbag reindex mends it")
    return _Mcap(path) if path.suffix.lower() == ".mcap" else _Bag(path)


def log_layout(path: Path, topics: Sequence[str] = ()) -> Layout:
    """Colour, depth, intrinsics and poses of a log.

    Args:
        path: as ``open_log``.
        topics: to take in place of those that would be chosen: of depth, colour, intrinsics or
            poses, as their messages say.

    Raises:
        SourceError: for a log without depth or colour, which lists what it has.
        InputError: for a topic that it does not have.
    """
    bag = open_log(path)
    for topic in topics:
        if topic not in bag.kinds:
            near = ", ".join(sorted(bag.kinds)[:12])
            raise InputError(f"{path} has no topic {topic}; expected one of {near}")
    views = _views(bag, topics)
    depth = _best(bag, [v for v in views if v.depth], topics, "depth", None)
    colour = _best(bag, [v for v in views if not v.depth], topics, "colour", depth)
    notes, doubts = [f"{path}: depth of {depth.topic}, colour of {colour.topic}"], list[str]()
    info = _intrinsics(bag, depth, topics)
    stamps = {each: _stamps(bag, each) for each in (depth.topic, colour.topic)}
    pairs = _together(stamps[depth.topic], stamps[colour.topic], path, notes)
    times = [stamps[depth.topic][one][0] for one, _ in pairs]
    poses = _poses(bag, topics, depth.frame or colour.frame, times, notes, doubts)
    moments = [
        FrameFiles(
            times[k],
            LoggedPicture(bag, colour.topic, stamps[colour.topic][other][1]),
            LoggedPicture(bag, depth.topic, stamps[depth.topic][one][1]),
            poses[k],
        )
        for k, (one, other) in enumerate(pairs)
    ]
    camera = None if info is None else _stored(info, depth.topic)
    fit = None
    if info is not None:
        fit = _registration(bag, depth, colour, info, topics, doubts)
    return Layout(
        "robot log", moments, _unit(bag, depth), camera, None, tuple(notes), tuple(doubts), fit
    )


@dataclass(frozen=True)
class _PictureTopic:
    """A topic of pictures, as its first message says."""

    topic: str
    depth: bool
    frame: str
    size: tuple[int, int]
    grey: bool


def _views(bag: _Bag, topics: Sequence[str]) -> list[_PictureTopic]:
    found, why = [], list[str]()
    for topic, kind in sorted(bag.kinds.items()):
        if kind not in _IMAGES or not bag.counts[topic]:
            continue
        for _, _, content in bag.messages([topic]):
            try:
                message = bag.decode(topic, content)
                picture = _picture(message)
            except SourceError as error:
                why.append(f"{topic}: {error}")
                break
            word = str(getattr(message, "encoding", "") or getattr(message, "format", ""))
            named = "depth" in topic.lower() or topic in topics
            depth = picture.ndim == 2 and (
                named or (holds_depth(word) and word.lower() not in ("mono16", "16uc1"))
            )
            if picture.ndim == 3 or depth:
                size = (picture.shape[1], picture.shape[0])
                frame = str(message.header.frame_id).lstrip("/")
                grey = word.lower() in ("mono8", "8uc1")
                found.append(_PictureTopic(topic, depth, frame, size, grey))
            break
    if why:
        log.warning("%s: a topic of pictures cannot be read: %s", bag.path, why[0])
    return found


def _best(
    bag: _Bag,
    views: Sequence[_PictureTopic],
    topics: Sequence[str],
    what: str,
    beside: _PictureTopic | None,
) -> _PictureTopic:
    def worth(view: _PictureTopic) -> tuple[Any, ...]:
        name = view.topic.lower()
        registered = any(word in name for word in ("aligned", "registered", "rect"))
        together = beside is not None and view.frame == beside.frame and view.frame != ""
        alike = _shared(view.topic, beside.topic) if beside is not None else 0
        coloured = not view.grey and not any(w in name for w in ("infra", "/ir", "left", "right"))
        return (
            view.topic in topics, coloured, together, registered,
            any(w in name for w in ("color", "colour", "rgb")), alike, bag.counts[view.topic],
        )  # fmt: skip

    if not views:
        images = [each for each, kind in sorted(bag.kinds.items()) if kind in _IMAGES]
        there = ", ".join(images[:8]) or ", ".join(
            f"{each} ({kind})" for each, kind in sorted(bag.kinds.items())[:6]
        )
        raise SourceError(
            f"{bag.path} has no topic of {what} images; it has {there or 'no messages'}"
            + ("; name one with --topic if its pictures are depth" if images else "")
        )
    return max(views, key=worth)


def _shared(one: str, other: str) -> int:
    """Letters at the beginning that two names have in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))


def _intrinsics(bag: _Bag, view: _PictureTopic, topics: Sequence[str]) -> Any:
    """The best CameraInfo of a picture; None without one."""
    best, rank = None, (False, False, 0)
    for topic, kind in sorted(bag.kinds.items()):
        if kind != _INFO:
            continue
        for _, _, content in bag.messages([topic]):
            info = bag.decode(topic, content)
            same = (int(info.width), int(info.height)) == view.size
            mine = bool(view.frame) and str(info.header.frame_id).lstrip("/") == view.frame
            shared = _shared(topic, view.topic)
            worth = (mine or not view.frame, same, shared + 1000 * (topic in topics))
            if worth > rank and _matrix(info)[0, 0] > 0:
                best, rank = info, worth
            break
    return best


def _matrix(info: Any) -> NDArray[np.float64]:
    return np.asarray(info.K if hasattr(info, "K") else info.k, np.float64).reshape(3, 3)


def _stored(info: Any, topic: str) -> StoredCamera:
    m = _matrix(info)
    size = (int(info.width), int(info.height))
    numbers = (float(m[0, 0]), float(m[1, 1]), float(m[0, 2]), float(m[1, 2]))
    return StoredCamera(numbers, f"CameraInfo of {topic}", size if min(size) > 0 else None)


def _unit(bag: _Bag, view: _PictureTopic) -> float:
    """Metres of one unit; RealSense's own logs say it."""
    for topic, kind in bag.kinds.items():
        if kind == "std_msgs/msg/Float32" and "depth_units" in topic.lower().replace(" ", "_"):
            for _, _, content in bag.messages([topic]):
                value = float(bag.decode(topic, content).data)
                if 0 < value < 1:
                    return value
    return 0.001


def _stamps(bag: _Bag, topic: str) -> list[tuple[float, int]]:
    """Seconds by the camera's clock, and nanoseconds in the log, of each message of a topic."""
    rows: list[tuple[float, int]] = []
    form, skip = ("<II", 4) if bag.first_ros else ("<iI", 4)  # a sequence number; CDR's own head
    for _, logged, content in bag.messages([topic]):
        seconds, nanos = struct.unpack_from(form, content, skip) if len(content) >= 12 else (0, 0)
        stamp = seconds + nanos * 1e-9 if seconds or nanos else logged * 1e-9
        if not rows or stamp > rows[-1][0]:
            rows.append((stamp, logged))
    return rows


def _together(
    depth: Sequence[tuple[float, int]], colour: Sequence[tuple[float, int]], path: Path,
    notes: list[str],
) -> list[tuple[int, int]]:  # fmt: skip
    one, other = [t for t, _ in depth], [t for t, _ in colour]
    gap = float(np.median(np.diff(other))) if len(other) > 1 else 0.0
    apart = min(max(_APART_S[0], gap / 2), _APART_S[1])
    pairs = matched(one, other, apart)
    if not pairs:
        raise SourceError(
            f"{path}: no colour within {apart:.3g} s of depth (from {other[0]:.2f} and "
            f"{one[0]:.2f} s); are they of one clock?"
        )
    off = np.array([abs(one[a] - other[b]) for a, b in pairs])
    if len(pairs) < len(one):
        notes.append(
            f"{path}: {len(one) - len(pairs)} of {len(one)} depth maps have no colour within "
            f"{apart:.3g} s; they are left out"
        )
    if off.max() > 1e-3:
        notes.append(
            f"{path}: colour and depth are not of one moment: {np.median(off) * 1000:.0f} ms "
            f"apart, {off.max() * 1000:.0f} at most; matched by time"
        )
    return pairs


@dataclass
class _Motion:
    """How one frame lies in another, over time."""

    parent: str
    times: list[float] = field(default_factory=list)
    poses: list[NDArray[np.float64]] = field(default_factory=list)
    fixed: bool = False

    def add(self, time_s: float, pose: NDArray[np.float64]) -> None:
        if not self.times or time_s > self.times[-1]:
            self.times.append(time_s)
            self.poses.append(pose)

    def at(self, time_s: float) -> NDArray[np.float64] | None:
        """The pose at a time, between those known; None where none is near."""
        if self.fixed or not self.times:
            return self.poses[-1] if self.poses else None
        k = bisect_right(self.times, time_s)
        if k in (0, len(self.times)):
            near = self.times[0] if k == 0 else self.times[-1]
            return self.poses[max(k - 1, 0)] if abs(near - time_s) <= _BEYOND_S else None
        before, after = self.times[k - 1], self.times[k]
        if after - before > _GAP_S:
            return None
        share = (time_s - before) / (after - before)
        step = logarithm(inverse(self.poses[k - 1]) @ self.poses[k])
        return np.asarray(self.poses[k - 1] @ exponential(share * step))


def _pose_of(place: Any, turn: Any) -> NDArray[np.float64]:
    quaternion = np.array([turn.w, turn.x, turn.y, turn.z], np.float64)
    if not np.linalg.norm(quaternion) > 1e-6:
        quaternion = np.array([1.0, 0.0, 0.0, 0.0])
    return make_pose(rotation_of(quaternion), (place.x, place.y, place.z))


def _time(header: Any, logged: int) -> float:
    stamp = header.stamp
    seconds = float(stamp.sec) + float(stamp.nanosec) * 1e-9
    return seconds if seconds else logged * 1e-9


def _tree(bag: _Bag) -> dict[str, _Motion]:
    tree: dict[str, _Motion] = {}
    topics = [topic for topic, kind in bag.kinds.items() if kind in _TF]
    for topic, logged, content in bag.messages(topics) if topics else ():
        for each in bag.decode(topic, content).transforms:
            child, parent = (
                str(name).lstrip("/") for name in (each.child_frame_id, each.header.frame_id)
            )
            known = tree.setdefault(child, _Motion(parent))
            if known.parent != parent:
                continue
            pose = _pose_of(each.transform.translation, each.transform.rotation)
            if "static" in topic:
                known.fixed, known.times, known.poses = True, [0.0], [pose]
            else:
                known.add(_time(each.header, logged), pose)
    return tree


def _chain(tree: dict[str, _Motion], frame: str, top: str | None = None) -> list[_Motion] | None:
    """Motions from a frame up to ``top``, or as far as they go; None where it is not above."""
    chain, seen = [], {frame}
    while frame != top and frame in tree:
        chain.append(tree[frame])
        frame = tree[frame].parent
        if frame in seen:
            break
        seen.add(frame)
    return chain if top is None or frame == top else None


def _along(chain: Sequence[_Motion], time_s: float) -> NDArray[np.float64] | None:
    pose = np.eye(4)
    for motion in chain:
        step = motion.at(time_s)
        if step is None:
            return None
        pose = step @ pose
    return pose


def _poses(
    bag: _Bag, topics: Sequence[str], frame: str, times: Sequence[float], notes: list[str],
    doubts: list[str],
) -> list[NDArray[np.float64] | None]:  # fmt: skip
    """The camera's pose at each time: by the tree of frames, or by a topic of poses."""
    tree, none = _tree(bag), [None] * len(times)
    kinds = sorted(
        (k for k in bag.kinds.items() if k[1] in _POSES), key=lambda k: _POSES.index(k[1])
    )
    asked = [each for each in kinds if each[0] in topics]
    chain = _chain(tree, frame) or []
    if not asked and any(not motion.fixed and len(motion.times) > 1 for motion in chain):
        found = [_along(chain, time_s) for time_s in times]
        if any(pose is not None for pose in found):
            notes.append(
                f"{bag.path}: poses of {frame} in {chain[-1].parent}, by the tree of frames"
            )
            return found
    why = ""
    for topic, kind in asked or kinds:
        motion, child = _moved(bag, topic, kind)
        mount = _chain(tree, frame, child) if child else []
        if mount is None:
            if topic not in topics:
                why = (
                    f"{bag.path}: poses of {topic} are those of {child}, and the log does not say "
                    f"where {frame or 'the camera'} sits on it: not used (--topic {topic} takes "
                    "them as the camera's)"
                )
                continue
            mount = []
        if child != frame and not mount:
            doubts.append(f"{bag.path}: poses of {topic} are taken as the camera's own")
        else:
            notes.append(f"{bag.path}: poses of {topic}")
        return [_along([*mount, motion], time_s) for time_s in times]
    if why:
        doubts.append(why)
    return list(none)


def _moved(bag: _Bag, topic: str, kind: str) -> tuple[_Motion, str]:
    """Poses of a topic over time, and the frame that they are of; "" where it is not said."""
    motion, child = _Motion(""), ""
    for _, logged, content in bag.messages([topic]):
        message = bag.decode(topic, content)
        child = str(getattr(message, "child_frame_id", "")).lstrip("/")
        if kind.endswith("TransformStamped"):
            pose = _pose_of(message.transform.translation, message.transform.rotation)
        else:
            held = message.pose.pose if hasattr(message.pose, "pose") else message.pose
            pose = _pose_of(held.position, held.orientation)
        motion.add(_time(message.header, logged), pose)
    return motion, child


def _registration(
    bag: _Bag,
    depth: _PictureTopic,
    colour: _PictureTopic,
    info: Any,
    topics: Sequence[str],
    doubts: list[str],
) -> Any:
    """What brings colour to the pixels of depth, where it is of another camera; else None."""
    name = depth.topic.lower()
    if (depth.frame and depth.frame == colour.frame) or "aligned" in name or "registered" in name:
        return None
    other = _intrinsics(bag, colour, topics)
    if other is None or (
        np.allclose(_matrix(other), _matrix(info), atol=0.5) and colour.size == depth.size
    ):
        return None
    tree, pose = _tree(bag), np.eye(4)
    mine, its = (_chain(tree, each) or [] for each in (depth.frame, colour.frame))
    tops = {each[-1].parent if each else v.frame for each, v in ((mine, depth), (its, colour))}
    legs = [_apart(mine, its), _apart(its, mine)]
    if len(tops) == 1 and all(motion.fixed for leg in legs for motion in leg):
        a, b = (_along(leg, 0.0) for leg in legs)
        pose = pose if a is None or b is None else inverse(b) @ a
    else:
        doubts.append(
            f"{bag.path}: colour and depth are of two cameras, {colour.frame or colour.topic} and "
            f"{depth.frame or depth.topic}; where they sit is not said, and taken as one place"
        )
    m, (width, height) = _matrix(other), colour.size
    camera = Pinhole.from_centres(m[0, 0], m[1, 1], m[0, 2], m[1, 2], width, height)
    return partial(colour_seen, other=camera, pose=pose)


def _apart(one: Sequence[_Motion], other: Sequence[_Motion]) -> list[_Motion]:
    """The beginning of a chain, up to what it shares with another one."""
    return [motion for motion in one if not any(motion is each for each in other)]
