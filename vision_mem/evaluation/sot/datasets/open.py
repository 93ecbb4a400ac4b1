"""The one way in: which benchmarks there are, and opening a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vision_mem.config import nearest
from vision_mem.errors import InputError, VisionMemError
from vision_mem.evaluation.sot.datasets.davis import open_davis2016, open_davis2017
from vision_mem.evaluation.sot.datasets.folder import open_folder
from vision_mem.evaluation.sot.datasets.got10k import open_test, open_validation
from vision_mem.evaluation.sot.datasets.lasot import open_lasot, open_lasot_ext
from vision_mem.evaluation.sot.datasets.nfs import open_nfs
from vision_mem.evaluation.sot.datasets.otb import open_otb
from vision_mem.evaluation.sot.datasets.trackingnet import open_trackingnet
from vision_mem.evaluation.sot.datasets.uav123 import open_uav123
from vision_mem.evaluation.sot.datasets.vot import open_vot
from vision_mem.evaluation.sot.records import Benchmark

BENCHMARKS: Mapping[str, tuple[str, str]] = {
    "lasot": ("LaSOT", "airplane/airplane-1/{img/,groundtruth.txt}; testing_set.txt"),
    "lasot-ext": ("LaSOT_ext", "atv/atv-1/{img/,groundtruth.txt}"),
    "got10k-val": ("GOT-10k val", "val/{list.txt,GOT-10k_Val_000001/}"),
    "got10k-test": ("GOT-10k test", "test/{list.txt,GOT-10k_Test_000001/}"),
    "trackingnet": ("TrackingNet", "TEST/{anno/NAME.txt,frames/NAME/0.jpg}"),
    "otb100": ("OTB100", "Basketball/{img/,groundtruth_rect.txt}"),
    "nfs": ("NFS", "airboard_1/30/{airboard_1.txt,airboard_1/} or anno/ and sequences/"),
    "uav123": ("UAV123", "{anno,data_seq}/UAV123/"),
    "davis2016": ("DAVIS 2016", "{JPEGImages,Annotations}/480p/NAME/; ImageSets/2016/val.txt"),
    "davis2017": ("DAVIS 2017", "{JPEGImages,Annotations}/480p/NAME/; ImageSets/2017/val.txt"),
    "vot": ("VOT", "sequences/{list.txt,NAME/{color/,groundtruth.txt}}"),
    "folder": ("any folder", "NAME/ with images and groundtruth*.txt or Annotations/*.png"),
}
"""Title of each benchmark, and what its root must look like, by its word on the command line."""

_READERS: Mapping[str, Callable[..., Benchmark]] = {
    "lasot": open_lasot,
    "lasot-ext": open_lasot_ext,
    "got10k-val": open_validation,
    "got10k-test": open_test,
    "trackingnet": open_trackingnet,
    "otb100": open_otb,
    "nfs": open_nfs,
    "uav123": open_uav123,
    "davis2016": open_davis2016,
    "davis2017": open_davis2017,
    "vot": open_vot,
    "folder": open_folder,
}


def open_benchmark(key: str, root: Path, *, need_frames: bool = True) -> Benchmark:
    """Open a copy of a benchmark: find its sequences and read their truth.

    Images are listed, not read. What is odd in the copy (sequences of a list that are not there,
    other numbers of images than of truth) is told in ``Benchmark.notes``.

    Args:
        key: one of ``BENCHMARKS``.
        root: the copy's folder; for LaSOT's truth also the toolkit's folder or a ZIP of it.
        need_frames: False for scoring: the truth suffices, images may be absent.

    Raises:
        InputError: an unknown key; a root that does not look as ``BENCHMARKS`` says; a file that
            cannot be read, with the line that is wrong and what was expected.
    """
    reader = _READERS.get(key)
    if reader is None:
        hint = nearest(key, list(BENCHMARKS))
        raise InputError(f"no benchmark {key!r}; expected one of {', '.join(BENCHMARKS)}{hint}")
    try:
        return reader(Path(root).expanduser(), need_frames=need_frames)
    except VisionMemError:
        raise
    except OSError as error:
        place: Any = error.filename or root
        raise InputError(f"{place} cannot be read: {error.strerror or error}") from None
