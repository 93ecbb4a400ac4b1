"""Real media for tests: videos, images and results made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vision_mem.types import Event, ObjectResult, TrackingResult


def picture(index: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A textured picture with its index as eight black or white blocks along the top."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy()
    image = np.roll(image, 3 * index, axis=1)
    for bit in range(8):
        image[:12, 12 * bit : 12 * bit + 12] = 255 * (index >> bit & 1)
    return image


def index_of(image: np.ndarray) -> int:
    """The index that ``picture`` was told, read back from a decoded frame."""
    blocks = (image[4:8, 12 * bit + 4 : 12 * bit + 8].mean() > 128 for bit in range(8))
    return sum(int(on) << bit for bit, on in enumerate(blocks))


def encode(
    path: Path,
    count: int = 30,
    *,
    height: int = 96,
    width: int = 128,
    fps: int = 25,
    rotation: int = 0,
    gop: int = 12,
    faststart: bool = True,
) -> Path:
    """Write an H.264 video with B-frames, so that decode order differs from display order."""
    import av

    options = {"movflags": "faststart"} if faststart and path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options = {"g": str(gop), "bf": "2", "crf": "12", "preset": "veryfast"}
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, height, width), format="rgb24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def encode_audio(path: Path) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 44100), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def decode(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def seen(object_id: int, box: tuple[int, int, int, int], size: tuple[int, int], **more: object):
    """An object that fills its box."""
    mask = np.zeros(size, dtype=bool)
    x1, y1, x2, y2 = box
    mask[y1:y2, x1:x2] = True
    name = str(more.pop("name", f"object-{object_id}"))
    diary = more.pop("diary", {})
    return ObjectResult(
        object_id, name, True, mask, np.array(box, np.float32), 0.875, 3.5, diary=diary
    )


def absent(object_id: int, size: tuple[int, int]) -> ObjectResult:
    mask = np.zeros(size, dtype=bool)
    return ObjectResult(
        object_id, f"object-{object_id}", False, mask, np.zeros(4, np.float32), 0.1, -4.0
    )


def result(
    index: int, *objects: ObjectResult, size: tuple[int, int] = (96, 128), fps: float = 25.0
) -> TrackingResult:
    events = (Event("lost", objects[0].object_id, index, index / fps),) if objects else ()
    return TrackingResult(index, index / fps, size, tuple(objects), events)
