"""What every session of every system promises. A new system joins by adding a row to SYSTEMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from vision_mem.config import load_config
from vision_mem.geometry.camera import Pinhole, RgbdFrame
from vision_mem.models.mem4d.config import (
    DecoderConfig,
    EncoderConfig,
    PersistentConfig,
    named_config,
)
from vision_mem.models.mem4d.network import Mem4DNetwork
from vision_mem.models.segmenters.embedded.config import EmbeddedConfig
from vision_mem.models.segmenters.embedded.segmenter import EmbeddedSegmenter
from vision_mem.models.segmenters.fake import FakeSegmenter
from vision_mem.models.vlm.fake import FakeVideoModel
from vision_mem.mots import MotsConfig, MotsSession
from vision_mem.navigation import NavigationConfig, NavigationSession, Observation, Sighting
from vision_mem.reconstruction import ReconstructionConfig, ReconstructionSession
from vision_mem.reconstruction.learned import LearnedSession, SegmentConfig, SegmentedSession
from vision_mem.stream_memory import StreamMemory
from vision_mem.tracking import TrackingConfig, TrackingSession
from vision_mem.types import Detections, Frame, Prompt
from vision_mem.videoqa import VideoMemorySession, VideoQaConfig


@dataclass(frozen=True)
class System:
    """How to try a system out.

    Attributes:
        model: makes the shared, unchanging part.
        session: makes a session on it.
        drive: steps a session over one frame, giving prompts or questions as the system needs.
        answer: what a result says, as values that can be compared.
        full_after: frames after which memory must not grow any more.
        watched: frames for which growth is watched after that.
        slack: factor by which memory may still differ then: objects come and go.
    """

    model: Callable[[], Any]
    session: Callable[[Any], Any]
    drive: Callable[[Any, Frame], Any]
    answer: Callable[[Any], Any]
    full_after: int = 30
    watched: int = 240
    slack: float = 1.0


def picture(t: int, width: int = 160, height: int = 120) -> Frame:
    """Two coloured squares on grey, one moving right, one moving down; the red one hides."""
    image = np.full((height, width, 3), 110, np.uint8)
    image[::7] += 6
    x, y = (20 + 2 * t) % 100, 12 + t % 60
    image[10 + y : 34 + y, 120:146] = (30, 60, 220)
    if not 18 <= t % 60 < 24:
        image[40:70, x : x + 34] = (220, 40, 30)
    return Frame(index=t, time_s=t / 25.0, image=image)


def track(session: TrackingSession, frame: Frame) -> Any:
    prompts = {
        0: [Prompt(object_id=1, box=(20, 40, 54, 70))],
        4: [Prompt(object_id=2, points=[(130, 30)])],
        9: [Prompt(object_id=1, points=[(20 + 18 + 15, 50), (5, 5)], labels=[1, 0])],
        26: [Prompt(box=(120, 48, 146, 72), name="second blue")],
    }
    if frame.index == 12:
        session.remove(2)
    return session.step(frame, prompts.get(frame.index, ()))


def tracked(result: Any) -> Any:
    objects = [
        (o.object_id, o.name, o.present, o.mask.tobytes(), o.box.tolist(), o.score, dict(o.diary))
        for o in result.objects
    ]
    return objects, result.events


def tracking(preset: str) -> System:
    config = load_config(TrackingConfig, preset, folder="tracking")
    return System(
        FakeSegmenter, lambda model: TrackingSession(model, config), track, tracked, full_after=60
    )


def embedded(preset: str) -> System:
    """Real features in a small window: slower than the fake, so less is watched."""
    config = load_config(TrackingConfig, preset, folder="tracking")
    small = EmbeddedConfig(window=96, scene_side=96)
    return System(
        lambda: EmbeddedSegmenter.load("cpu", config=small),
        lambda model: TrackingSession(model, config),
        track,
        tracked,
        full_after=45,
        watched=30,
        slack=1.001,  # pointers that entries share with the ring are held once: 52 bytes each
    )


def follow(session: MotsSession, frame: Frame) -> Any:
    """Detections are the squares, when they are to be seen and the detector looks; and edits."""
    t = frame.index
    width = frame.size[1]
    if t == 11:
        session.prompt(None, Prompt(box=(60, 90, 80, 110), name="ground"))
    if t == 14 and len(session.track_ids) > 2:
        session.delete(session.track_ids[-1])
    if t % 5 == 4:
        return session.step(frame, None)
    y = 12 + t % 60
    boxes = [(120, 10 + y, 146, 34 + y)] if 34 + y < 118 else []
    if not 18 <= t % 60 < 24:
        x = (20 + 2 * t) % 100
        boxes.append((x, 40, x + 34, 70))
    array = np.array(boxes, np.float32).reshape(-1, 4) * (width / 160)
    return session.step(frame, Detections(array))


def followed(result: Any) -> Any:
    tracks = [
        (o.object_id, o.name, o.state, o.present, o.mask.tobytes(), o.box.tolist(), o.score)
        for o in result.tracks
    ]
    return tracks, result.events


def many(preset: str) -> System:
    few = {"memory.max_tracks": 6, "gallery.size": 3}
    config = load_config(MotsConfig, preset, few, folder="mots")
    return System(
        FakeSegmenter,
        lambda model: MotsSession(model, config),
        follow,
        followed,
        # Where the pictures, which repeat, are at their fullest, and all tracks are taken.
        full_after=800 if preset == "probabilistic" else 300,
        slack=1.1,
    )


def converse(session: VideoMemorySession, frame: Frame) -> Any:
    """Questions now and then, also between the two frames of a grid, about now and before."""
    result = session.step(frame)
    if frame.index % 3 == 1:
        return result, session.ask("where is the red square?")
    if frame.index % 7 == 2:
        return result, session.ask("what was blue?", at=frame.time_s - 0.04)
    return result, None


def asking(preset: str) -> System:
    few = {"fps": None, "memory.budget": 300, "memory.short_frames": 4, "memory.mid_frames": 16}
    config = load_config(VideoQaConfig, preset, few, folder="videoqa")
    return System(
        FakeVideoModel,
        lambda model: VideoMemorySession(model, config),
        converse,
        lambda result: result,
        full_after=60,
        slack=1.1,
    )


def roam(session: NavigationSession, frame: Frame) -> Any:
    """A camera that turns in a room of 4 m; two things in it, one of them now and then hidden."""
    t = frame.index
    angle = 2 * np.pi * t / 24
    pose = np.eye(4)
    pose[:3, :3] = [
        [np.cos(angle), 0, np.sin(angle)],
        [0, 1, 0],
        [-np.sin(angle), 0, np.cos(angle)],
    ]
    pose[:3, 3] = (0.8 * np.cos(angle), 0, 0.8 * np.sin(angle))
    rays = np.mgrid[-6:7, -4:5].reshape(2, -1).T / 6.0
    rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
    world = rays @ pose[:3, :3].T + 1e-12
    ends = np.where(world > 0, 2 - pose[:3, 3], -2 - pose[:3, 3]) / world
    things = {"door": (1.9, 0.1, 0.3), "lamp": (-0.4, -0.9, -1.7)}
    seen = []
    for number, (name, position) in enumerate(things.items()):
        local = pose[:3, :3].T @ (np.array(position) - pose[:3, 3])
        if local[2] > 0.2 and (number == 0 or t % 30 > 6):
            seen.append(Sighting(local, name, 0.05, np.eye(8)[number] + 0.01 * (t % 5)))
    points = rays * ends.min(axis=1)[:, None]
    return session.step(Observation(frame.time_s, pose, points=points, sightings=seen))


def roaming(preset: str) -> System:
    few = {"octree.leaf": 0.25, "octree.kernels": "numpy", "short.capacity": 2}
    config = load_config(NavigationConfig, preset, few, folder="navigation")
    return System(
        lambda: None, lambda model: NavigationSession(config=config), roam, lambda result: result
    )


def rebuild(session: ReconstructionSession, frame: Frame) -> Any:
    """The squares stand out before a wall with a step in it; some poses are given."""
    height, width = frame.size
    depth = np.full(frame.size, 2.5, np.float32)
    depth[: height // 2, width // 2 :] = 2.0
    depth[2 * height // 3 :] = np.linspace(2.2, 1.6, height - 2 * height // 3)[:, None]
    depth[np.ptp(frame.image, axis=2) > 40] = 1.4
    camera = Pinhole.from_field_of_view(60, width, height)
    pose = np.eye(4) if frame.index % 4 else None
    return session.step(RgbdFrame(frame.index, frame.time_s, frame.image, depth, camera, pose))


def rebuilt(result: Any) -> Any:
    tracks = [(t.track_id, t.state, t.centre.tolist()) for t in result.tracks]
    parts = (result.pose.tobytes(), result.labels.tobytes(), result.moving_points.points.tobytes())
    return parts, result.pose_source, tracks, result.events


def depth_camera(preset: str) -> System:
    few = {"budget_mb": 4.0}
    config = load_config(ReconstructionConfig, preset, few, folder="reconstruction")
    return System(
        lambda: None,
        lambda model: ReconstructionSession(config),
        rebuild,
        rebuilt,
        full_after=60,
        slack=1.1,
    )


PRESETS = ("samurai", "samurai-official", "sam2", "dam4sam", "none")


def pictures_alone(session: Any = LearnedSession, full_after: int = 2) -> System:
    """The learned reconstruction, with a small network of random weights."""
    small = replace(
        named_config("nano-48"),
        size=24,
        encoder=EncoderConfig(16, 1, 2),
        decoder=DecoderConfig(16, 2, 2, coordinates=True),
        persistent=PersistentConfig(capacity=12, confident=1.0),
    )

    def network() -> Mem4DNetwork:
        torch.manual_seed(0)
        return Mem4DNetwork(small).eval()

    def seen(result: Any) -> Any:
        parts = (result.pose, result.points_world, result.labels, result.conf_world)
        return [part.tobytes() for part in parts], result.pose_source, dict(result.stats)

    return System(
        model=network,
        session=session,
        drive=lambda session, frame: session.step(frame),
        answer=seen,
        full_after=full_after,
    )


def in_segments(network: Any) -> SegmentedSession:
    """Segments of seven frames, of which two are shared; two earlier maps are kept."""
    return SegmentedSession(network, segments=SegmentConfig(7, 2, 2))


def watch_all(session: StreamMemory, frame: Frame) -> Any:
    """The squares again, smaller, with depth and some poses; one is pointed at, then corrected."""
    frame = Frame(frame.index, frame.time_s, frame.image[::2, ::2].copy())
    height, width = frame.size
    depth = np.full(frame.size, 2.5, np.float32)
    depth[: height // 2, width // 2 :] = 2.0
    depth[np.ptp(frame.image, axis=2) > 40] = 1.4
    camera = Pinhole.from_field_of_view(60, width, height)
    pose = np.eye(4) if frame.index % 4 else None
    deep = RgbdFrame(frame.index, frame.time_s, frame.image, depth, camera, pose)
    prompts = {
        0: [Prompt(box=(10, 20, 27, 35), name="red square")],
        9: [Prompt(points=[(26, 25)], name="red square")],
    }
    result = session.step(deep, prompts.get(frame.index, ()))
    return result, session.ask("where is the red square?"), session.where("red square")


def watched_all(result: Any) -> Any:
    seen, answer, hits = result
    objects = tracked(seen.followed)
    spots = [(hit.node, hit.label, hit.position.tolist(), hit.count, hit.age_s) for hit in hits]
    parts = (seen.looked, rebuilt(seen.scene), seen.mapped, seen.placed, seen.held, seen.removed)
    return objects, parts, answer, spots


def all_together() -> System:
    asked = load_config(
        VideoQaConfig, "default",
        {"fps": 5.0, "memory.budget": 300, "memory.short_frames": 4, "memory.mid_frames": 16},
        folder="videoqa",
    )  # fmt: skip
    space = {"octree.leaf": 0.25, "octree.kernels": "numpy", "short.capacity": 2}
    space |= {"store.ram": 4.0}
    mapped = load_config(NavigationConfig, "indoor", space, folder="navigation")
    scene = load_config(
        ReconstructionConfig, "default", {"budget_mb": 4.0}, folder="reconstruction"
    )
    return System(
        lambda: (FakeSegmenter(), FakeVideoModel()),
        lambda models: StreamMemory(
            objects=TrackingSession(models[0]), ask=VideoMemorySession(models[1], asked),
            reconstruct=ReconstructionSession(scene), navigate=NavigationSession(config=mapped),
            budget="32MB",
        ),
        watch_all,
        watched_all,
        full_after=60,
        watched=60,
        slack=1.1,
    )  # fmt: skip


SYSTEMS = {f"tracking {preset}": tracking(preset) for preset in PRESETS}
SYSTEMS |= {f"mots {name}": many(name) for name in ("default", "official", "probabilistic")}
RIVALS = ("recent-only", "fifo", "uniform", "similarity-only")
SYSTEMS |= {f"videoqa {name}": asking(name) for name in ("default", "official", *RIVALS)}
SYSTEMS |= {f"navigation {name}": roaming(name) for name in ("indoor", "paper")}
SYSTEMS |= {f"depth {name}": depth_camera(name) for name in ("default", "fuse-everything")}
SYSTEMS["pictures alone"] = pictures_alone()
SYSTEMS["pictures in segments"] = pictures_alone(in_segments, 20)
SYSTEMS["all together"] = all_together()
SYSTEMS["embedded samurai"] = embedded("samurai")
SYSTEMS["embedded dam4sam"] = embedded("dam4sam")


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> System:
    return SYSTEMS[request.param]


def watch(system: System, session: Any, frames: range) -> list[Any]:
    return [system.answer(system.drive(session, picture(t))) for t in frames]


def test_same_frames_same_answers(system):
    first, second = (system.session(system.model()) for _ in range(2))
    assert watch(system, first, range(30)) == watch(system, second, range(30))


def test_reset_equals_a_new_session(system):
    model = system.model()
    used, new = system.session(model), system.session(model)
    watch(system, used, range(14))
    used.reset()
    assert used.usage().bytes == 0 and used.usage().entries == 0
    assert watch(system, used, range(20)) == watch(system, new, range(20))


def test_two_sessions_on_one_model_do_not_meet(system):
    model = system.model()
    alone = watch(system, system.session(model), range(20))
    one, other = system.session(model), system.session(model)
    mixed = []
    watch(system, other, range(5))
    for t in range(20):
        mixed.append(system.answer(system.drive(one, picture(t))))
        system.drive(other, picture(t + 5))
    assert mixed == alone


CUTS = (3, 4, 9, 12, 13, 20, 27)


def test_saved_and_loaded_continues_identically(system):
    model = system.model()
    session = system.session(model)
    states, wanted = {}, []
    for t in range(40):
        if t in CUTS:
            states[t] = session.state_dict()
        wanted += watch(system, session, range(t, t + 1))
    for at, state in states.items():
        loaded = system.session(model)
        loaded.load_state_dict(state)
        # The last one to the end, the others as long as a memory needs to turn over.
        rest = range(at, 40 if at == CUTS[-1] else at + 12)
        assert watch(system, loaded, rest) == wanted[rest.start : rest.stop], f"cut at {at}"


def test_memory_stops_growing(system):
    session = system.session(system.model())
    sizes = []
    for t in range(system.full_after + system.watched):
        system.drive(session, picture(t))
        usage = session.usage()
        assert usage.bytes == sum(usage.detail.values())
        sizes.append(usage.bytes)
    middle = system.full_after + system.watched // 2
    early, late = sizes[:middle], sizes[middle:]
    assert max(late) <= system.slack * max(early)


def test_another_frame_size_is_a_clear_matter(system):
    """Either it goes on, or it says in one line that it cannot; it never breaks."""
    session = system.session(system.model())
    watch(system, session, range(6))
    try:
        system.answer(system.drive(session, picture(6, width=200, height=150)))
    except ValueError as error:
        assert "\n" not in str(error)
