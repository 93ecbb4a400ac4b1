"""Robots' logs: bags of ROS 1 and 2 and MCAP, with raw and packed pictures, tf and odometry."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from vision_mem.errors import InputError, SourceError
from vision_mem.geometry.poses import exponential, inverse, quaternion_from
from vision_mem.sources.rgbd import open_rgbd

rosbags = pytest.importorskip("rosbags", reason="needs rosbags: the extra [robot]")

from rosbags.rosbag1 import Writer as Writer1  # noqa: E402
from rosbags.rosbag2 import Writer as Writer2  # noqa: E402
from rosbags.typesys import Stores, get_typestore  # noqa: E402

STORES = {1: get_typestore(Stores.ROS1_NOETIC), 2: get_typestore(Stores.ROS2_HUMBLE)}
WIDTH, HEIGHT, COUNT = 32, 24, 5
# The camera looks along the body's x, as they are mounted.
MOUNT = np.eye(4)
MOUNT[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
POSES = [exponential([0.02 * k, 0.01 * k, 0, 0, 0.03 * k, 0]) for k in range(COUNT)]


def colour(k):
    return np.full((HEIGHT, WIDTH, 3), (40 * k, 90, 200), np.uint8)


def metres(k):
    depth = np.full((HEIGHT, WIDTH), 1.5 + 0.1 * k, np.float32)
    depth[:4] = 0
    depth[6:9, 3:20] += 0.3
    return depth


def rvl(depth):
    """Runs of zeros and differences as nibbles, written the slow way."""
    nibbles, flat, at, before = [], depth.ravel().astype(int), 0, 0

    def put(value):
        while True:
            nibble, value = value & 7, value >> 3
            nibbles.append(nibble | (8 if value else 0))
            if not value:
                return

    while at < len(flat):
        zeros = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        put(at - zeros)
        end = at
        while end < len(flat) and flat[end]:
            end += 1
        put(end - at)
        for value in flat[at:end]:
            step = int(value) - before
            put((step << 1) ^ (step >> 31))
            before = int(value)
        at = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = [sum(n << (28 - 4 * j) for j, n in enumerate(nibbles[i : i + 8]))
             for i in range(0, len(nibbles), 8)]  # fmt: skip
    return struct.pack("<ii", depth.shape[1], depth.shape[0]) + struct.pack(
        f"<{len(words)}I", *words
    )


class Log:
    """Messages of one kind of log, written with the packages that read them."""

    def __init__(self, path, kind):
        self.kind, self.ros = kind, 1 if kind in ("bag", "mcap1") else 2
        self.types, self.topics = STORES[self.ros].types, {}
        if kind == "bag":
            self.path, self.writer = path / "log.bag", Writer1(path / "log.bag")
            self.writer.open()
        elif kind in ("db3", "folder"):
            self.writer = Writer2(path / "log", version=8)
            self.writer.open()
            self.path = path / "log" / ("log.db3" if kind == "db3" else "")
        else:
            mcap = pytest.importorskip("mcap.writer", reason="needs mcap: the extra [robot]")
            self.path = path / "log.mcap"
            self.file = self.path.open("wb")
            self.writer = mcap.Writer(self.file)
            self.writer.start()

    def close(self):
        if self.kind.startswith("mcap"):
            self.writer.finish()
            self.file.close()
        else:
            self.writer.close()

    def make(self, kind, **fields):
        return self.types[kind](**fields)

    def header(self, time_s, frame):
        stamp = self.make("builtin_interfaces/msg/Time", sec=int(time_s),
                          nanosec=round(time_s % 1 * 1e9))  # fmt: skip
        more = {"seq": 0} if self.ros == 1 else {}
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame, **more)

    def put(self, topic, time_s, message, delay=0.01):
        store, kind = STORES[self.ros], message.__msgtype__
        pack = store.serialize_ros1 if self.ros == 1 else store.serialize_cdr
        content, logged = bytes(pack(message, kind)), round((time_s + delay) * 1e9)
        if self.kind.startswith("mcap"):
            if topic not in self.topics:
                text, _ = store.generate_msgdef(
                    kind, **({} if self.ros == 1 else {"ros_version": 2})
                )
                form = f"ros{self.ros}msg"
                name = kind.replace("/msg/", "/") if self.ros == 1 else kind
                schema = self.writer.register_schema(name, form, text.encode())
                coding = "ros1" if self.ros == 1 else "cdr"
                self.topics[topic] = self.writer.register_channel(topic, coding, schema)
            self.writer.add_message(self.topics[topic], logged, content, logged)
            return
        if topic not in self.topics:
            self.topics[topic] = self.writer.add_connection(topic, kind, typestore=store)
        self.writer.write(self.topics[topic], logged, content)

    def image(self, topic, time_s, array, encoding, frame):
        step = array.strides[0]
        self.put(topic, time_s, self.make(
            "sensor_msgs/msg/Image", header=self.header(time_s, frame), height=array.shape[0],
            width=array.shape[1], encoding=encoding, is_bigendian=0, step=step,
            data=np.frombuffer(array.tobytes(), np.uint8),
        ))  # fmt: skip

    def packed(self, topic, time_s, content, form, frame):
        self.put(topic, time_s, self.make(
            "sensor_msgs/msg/CompressedImage", header=self.header(time_s, frame), format=form,
            data=np.frombuffer(content, np.uint8),
        ))  # fmt: skip

    def info(self, topic, time_s, frame, focal=30.0, size=(WIDTH, HEIGHT)):
        k = np.array([focal, 0, size[0] / 2 - 0.5, 0, focal, size[1] / 2 - 0.5, 0, 0, 1.0])
        letters = str.upper if self.ros == 1 else str.lower
        region = self.make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0,
                           width=0, do_rectify=False)  # fmt: skip
        fields = {letters("d"): np.zeros(5), letters("k"): k, letters("r"): np.eye(3).ravel(),
                  letters("p"): np.zeros(12)}  # fmt: skip
        self.put(topic, time_s, self.make(
            "sensor_msgs/msg/CameraInfo", header=self.header(time_s, frame), height=size[1],
            width=size[0], distortion_model="plumb_bob", binning_x=0, binning_y=0, roi=region,
            **fields,
        ))  # fmt: skip

    def _turn(self, pose):
        w, x, y, z = quaternion_from(pose[:3, :3]).tolist()
        return self.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def tf(self, topic, time_s, parent, child, pose):
        place = self.make("geometry_msgs/msg/Vector3", **dict(zip("xyz", pose[:3, 3].tolist())))  # noqa: B905
        moved = self.make(
            "geometry_msgs/msg/Transform", translation=place, rotation=self._turn(pose)
        )
        one = self.make("geometry_msgs/msg/TransformStamped", header=self.header(time_s, parent),
                        child_frame_id=child, transform=moved)  # fmt: skip
        self.put(topic, time_s, self.make("tf2_msgs/msg/TFMessage", transforms=[one]), 0)

    def posed(self, topic, time_s, pose, child=None):
        place = self.make("geometry_msgs/msg/Point", **dict(zip("xyz", pose[:3, 3].tolist())))  # noqa: B905
        here = self.make("geometry_msgs/msg/Pose", position=place, orientation=self._turn(pose))
        header = self.header(time_s, "odom")
        if child is None:
            self.put(
                topic, time_s, self.make("geometry_msgs/msg/PoseStamped", header=header, pose=here)
            )
            return
        zero = self.make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
        still = self.make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
        none = np.zeros(36)
        self.put(topic, time_s, self.make(
            "nav_msgs/msg/Odometry", header=header, child_frame_id=child,
            pose=self.make("geometry_msgs/msg/PoseWithCovariance", pose=here, covariance=none),
            twist=self.make("geometry_msgs/msg/TwistWithCovariance", twist=still, covariance=none),
        ))  # fmt: skip


if "tf2_msgs/msg/TFMessage" not in STORES[1].types:
    from rosbags.typesys import get_types_from_msg

    STORES[1].register(get_types_from_msg(
        "geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"
    ))  # fmt: skip


def stamp(k):
    return 100 + 0.1 * k


def pictures(log, depth="16UC1", image="rgb8", *, late=0.0, frame="camera_optical"):
    base = "/camera/depth/image_raw"
    log.info("/camera/depth/camera_info", stamp(0), frame)
    for k in range(COUNT):
        millimetres = np.round(metres(k) * 1000).astype(np.uint16)
        if depth == "32FC1":
            log.image(base, stamp(k), metres(k), depth, frame)
        elif depth == "16UC1":
            log.image(base, stamp(k), millimetres, depth, frame)
        elif depth == "32FC1; compressedDepth png":
            a, b = 100.0, 0.5
            near = metres(k) > 0
            coded = np.zeros((HEIGHT, WIDTH), np.uint16)
            coded[near] = np.round(a * 100 / metres(k)[near] + b)
            body = struct.pack("<iff", 0, a * 100, b) + cv2.imencode(".png", coded)[1].tobytes()
            log.packed(f"{base}/compressedDepth", stamp(k), body, depth, frame)
        else:
            body = (
                rvl(millimetres)
                if "rvl" in depth
                else cv2.imencode(".png", millimetres)[1].tobytes()
            )
            body = struct.pack("<iff", 0, 0, 0) + body
            log.packed(f"{base}/compressedDepth", stamp(k), body, depth, frame)
        picture = colour(k)
        if image in ("jpeg", "png"):
            content = cv2.imencode(
                f".{image[:3] if image == 'png' else 'jpg'}", picture[..., ::-1]
            )[1]
            log.packed("/camera/color/image_raw/compressed", stamp(k) + late, content.tobytes(),
                       f"rgb8; {image} compressed bgr8", frame)  # fmt: skip
        else:
            made = picture[..., ::-1] if image.startswith("bgr") else picture
            log.image(
                "/camera/color/image_raw", stamp(k) + late, np.ascontiguousarray(made), image, frame
            )


def read(log, **options):
    log.close()
    source = open_rgbd(log.path, **options)
    return source, list(source)


@pytest.mark.parametrize(
    ("kind", "depth", "image"),
    [
        ("bag", "16UC1", "bgr8"),
        ("folder", "32FC1", "rgb8"),
        ("db3", "16UC1; compressedDepth", "jpeg"),
        ("mcap", "32FC1; compressedDepth png", "png"),
        ("mcap1", "16UC1; compressedDepth rvl", "rgb8"),
    ],
)
def test_each_kind_of_log_and_picture(tmp_path, kind, depth, image):
    log = Log(tmp_path, kind)
    pictures(log, depth, image)
    source, frames = read(log)
    assert [round(frame.time_s, 3) for frame in frames] == [100.0, 100.1, 100.2, 100.3, 100.4]
    assert not source.posed and source.camera.fx == 30 and source.camera.cx == WIDTH / 2
    for k, frame in enumerate(frames):
        np.testing.assert_allclose(frame.depth, metres(k), atol=2e-3)
        assert np.abs(frame.image.astype(int) - colour(k)).max() <= (12 if image == "jpeg" else 0)
    (one,) = open_rgbd(log.path, start=3, max_frames=1)
    assert one.index == 3 and np.array_equal(one.depth, frames[3].depth)


def tree(log):
    log.tf("/tf_static", 99.0, "base_link", "camera_optical", MOUNT)
    for k in range(-1, COUNT + 1):
        body = POSES[min(max(k, 0), COUNT - 1)] @ inverse(MOUNT)
        log.tf("/tf", stamp(k), "odom", "base_link", body)


def odometry(log):
    log.tf("/tf_static", 99.0, "base_link", "camera_optical", MOUNT)
    for k in range(COUNT):
        log.posed("/odom", stamp(k), POSES[k] @ inverse(MOUNT), "base_link")


def stamped(log):
    for k in range(COUNT):
        log.posed("/slam/pose", stamp(k), POSES[k])


def unmounted(log):
    for k in range(COUNT):
        log.posed("/odom", stamp(k), POSES[k], "base_link")


@pytest.mark.parametrize("kind", ["bag", "mcap"])
@pytest.mark.parametrize(
    ("add", "topics", "posed", "doubt"),
    [
        (tree, (), True, ""),
        (odometry, (), True, ""),
        (stamped, (), True, "taken as the camera's own"),
        (unmounted, (), False, "the log does not say where camera_optical sits on it: not used"),
        (unmounted, ("/odom",), True, "taken as the camera's own"),
    ],
)
def test_poses(tmp_path, kind, add, topics, posed, doubt):
    log = Log(tmp_path, kind)
    pictures(log)
    add(log)
    source, frames = read(log, topics=topics)
    assert source.posed == posed
    said = " ".join(source.doubts)
    assert doubt in said and (doubt or not any(w in said for w in ("camera's", "not used")))
    for frame, pose in zip(frames, POSES, strict=True):
        if posed:
            np.testing.assert_allclose(frame.pose, pose, atol=1e-6)
        else:
            assert frame.pose is None


def test_colour_of_another_camera_is_brought_to_the_depth(tmp_path):
    log = Log(tmp_path, "mcap")
    log.info("/d/camera_info", stamp(0), "depth_optical")
    log.info("/c/camera_info", stamp(0), "colour_optical", 60.0, (64, 48))
    beside = np.eye(4)
    beside[0, 3] = 0.1  # the colour camera sits 10 cm to the right
    log.tf("/tf_static", 99.0, "depth_optical", "colour_optical", beside)
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :, 0] = np.arange(64)
    for k in range(2):
        log.image(
            "/d/depth",
            stamp(k),
            np.full((HEIGHT, WIDTH), 2000, np.uint16),
            "16UC1",
            "depth_optical",
        )
        log.image("/c/rgb", stamp(k) + 0.012, picture, "rgb8", "colour_optical")
    _, (frame, _) = read(log)
    # 10 cm at 2 m are three pixels of the colour's 60.
    assert frame.image[10, 20, 0] in (2 * 20 + 1 - 3, 2 * 20 - 3) and frame.image[10, 0, 0] == 0


def test_what_is_missing_is_said(tmp_path, caplog):
    log = Log(tmp_path, "bag")
    log.image("/camera/color/image_raw", 1.0, colour(1), "rgb8", "optical")
    with pytest.raises(
        SourceError, match="no topic of depth images; it has /camera/color/image_raw"
    ):
        read(log)
    other = tmp_path / "other"
    other.mkdir()
    log = Log(other, "mcap")
    pictures(log, late=0.013)
    log.close()
    with pytest.raises(InputError, match="has no topic /none; expected one of /camera"):
        open_rgbd(log.path, topics=["/none"])
    with pytest.raises(InputError, match="robot's log, which can be read once it is closed"):
        open_rgbd(log.path, follow_for=1)
    open_rgbd(log.path)
    assert "13 ms apart" in caplog.text
    log.path.write_bytes(log.path.read_bytes()[:-400])
    with pytest.raises(SourceError, match="mcap recover"):
        open_rgbd(log.path)
    (tmp_path / "bad.bag").write_bytes(b"#ROSBAG V2.0\nnothing")
    with pytest.raises(SourceError, match="cannot be read as a bag"):
        open_rgbd(tmp_path / "bad.bag")
