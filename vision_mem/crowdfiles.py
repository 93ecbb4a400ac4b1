"""A generated benchmark of many objects on disk, in the layout of KITTI MOTS and KITTI tracking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vision_mem.crowds import CROWD_CLASSES, IGNORED, CrowdClip, CrowdFrame, CrowdSettings
from vision_mem.geometry.masks import mask_to_box
from vision_mem.io.lines import LineFile, make_folder, sink_error
from vision_mem.io.tracksinks import MotsPng, MotsText

CROWD_SET: tuple[CrowdSettings, ...] = (
    CrowdSettings(seed=1),
    CrowdSettings(seed=2, objects=10),
    CrowdSettings(seed=4, moving=True),
)
"""The default set: two clips of a camera that stands still, one of a camera that moves."""

_WORLD = "-1 -1 -1 -1000 -1000 -1000 -10"
_PARTLY, _LARGELY = 0.1, 0.5  # hidden shares at which KITTI's levels of occlusion begin


def write_crowd(
    root: str | Path,
    settings: Sequence[CrowdSettings] = CROWD_SET,
    *,
    on_frame: Callable[[str, int], None] = lambda name, frame: None,
) -> list[str]:
    """Render clips and write images and truth.

    Below ``root``: ``training/image_02/0000/000000.png``, truth as ``training/instances/0000/``
    (PNG), ``training/instances_txt/0000.txt`` and ``training/label_02/0000.txt`` (boxes), and the
    two lists ``evaluate_mots.seqmap.val`` and ``evaluate_tracking.seqmap.training``. Both
    ``kitti-mots`` and ``kitti-mot`` open it.

    Args:
        root: a folder; files of these names are replaced.
        settings: one for each sequence.
        on_frame: called with sequence and frame when it is written.

    Returns:
        Names of the sequences.

    Raises:
        SinkError: when something cannot be written.
    """
    root = Path(root)
    names = [f"{number:04d}" for number in range(len(settings))]
    for name, chosen in zip(names, settings, strict=True):
        _write_sequence(root / "training", name, CrowdClip(chosen, name), on_frame)
    lengths = list(zip(names, (chosen.frames for chosen in settings), strict=True))
    _write_list(
        root / "evaluate_mots.seqmap.val",
        [f"{name} empty 000000 {count - 1:06d}" for name, count in lengths],
    )
    _write_list(
        root / "evaluate_tracking.seqmap.training",
        [f"{name} empty 000000 {count:06d}" for name, count in lengths],
    )
    return names


def _write_sequence(
    place: Path, name: str, clip: CrowdClip, on_frame: Callable[[str, int], None]
) -> None:
    images = place / "image_02" / name
    make_folder(images)
    text = MotsText(place / "instances_txt" / f"{name}.txt")
    pictures = MotsPng(place / "instances" / name)
    labels = LineFile(place / "label_02" / f"{name}.txt")
    try:
        text.open(clip.info)
        pictures.open(clip.info)
        for index, frame in enumerate(clip):
            _write_image(images / f"{index:06d}.png", frame)
            records, ignored = frame.records(), frame.labels == IGNORED
            text.write(index, records, ignored)
            pictures.write(index, records, ignored)
            if lines := _labels(index, frame):
                labels.write(*lines)
            on_frame(name, index)
    finally:
        text.close()
        pictures.close()
        labels.close()


def _write_image(path: Path, frame: CrowdFrame) -> None:
    from PIL import Image

    try:
        Image.fromarray(frame.image).save(path, compress_level=1)
    except OSError as error:
        raise sink_error(path, error) from None


def _labels(index: int, frame: CrowdFrame) -> list[str]:
    """KITTI tracking labels of a frame: boxes of what is to be seen."""
    lines = []
    for each in frame.records():
        assert each.box is not None, "made with one"
        share = frame.hidden[each.object_id]
        occluded = (share > _PARTLY) + (share > _LARGELY)
        kind = CROWD_CLASSES[each.class_id].capitalize()
        place = " ".join(f"{value:.2f}" for value in each.box.tolist())
        cut = int(each.object_id in frame.cut)
        lines.append(f"{index} {each.object_id} {kind} {cut} {occluded} -10 {place} {_WORLD}")
    region = mask_to_box(frame.labels == IGNORED)
    if region.any():
        place = " ".join(f"{value:.2f}" for value in region.tolist())
        lines.append(f"{index} -1 DontCare -1 -1 -10 {place} {_WORLD}")
    return lines


def _write_list(path: Path, lines: list[str]) -> None:
    file = LineFile(path)
    file.write(*lines)
    file.close()
