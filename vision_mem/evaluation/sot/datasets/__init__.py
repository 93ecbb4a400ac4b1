"""The one way in: which benchmarks there are, and opening a copy of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vision_mem.errors import InputError
from vision_mem.evaluation.registry import Dataset, known_dataset, look_up, open_copy

if TYPE_CHECKING:
    from vision_mem.evaluation.sot.records import Benchmark

BENCHMARKS: dict[str, Dataset] = {
    word: Dataset(title, layout, f"{__name__}.{read}")
    for word, title, layout, read in (
        ("lasot", "LaSOT", "airplane/airplane-1/{img/,groundtruth.txt}; testing_set.txt",
         "lasot:open_lasot"),
        ("lasot-ext", "LaSOT_ext", "atv/atv-1/{img/,groundtruth.txt}", "lasot:open_lasot_ext"),
        ("got10k-val", "GOT-10k val", "val/{list.txt,GOT-10k_Val_000001/}",
         "got10k:open_validation"),
        ("got10k-test", "GOT-10k test", "test/{list.txt,GOT-10k_Test_000001/}", "got10k:open_test"),
        ("trackingnet", "TrackingNet", "TEST/{anno/NAME.txt,frames/NAME/0.jpg}",
         "trackingnet:open_trackingnet"),
        ("otb100", "OTB100", "Basketball/{img/,groundtruth_rect.txt}", "otb:open_otb"),
        ("nfs", "NFS", "airboard_1/30/{airboard_1.txt,airboard_1/} or anno/ and sequences/",
         "nfs:open_nfs"),
        ("uav123", "UAV123", "{anno,data_seq}/UAV123/", "uav123:open_uav123"),
        ("davis2016", "DAVIS 2016", "{JPEGImages,Annotations}/480p/NAME/; ImageSets/2016/val.txt",
         "davis:open_davis2016"),
        ("davis2017", "DAVIS 2017", "{JPEGImages,Annotations}/480p/NAME/; ImageSets/2017/val.txt",
         "davis:open_davis2017"),
        ("vot", "VOT", "sequences/{list.txt,NAME/{color/,groundtruth.txt}}", "vot:open_vot"),
        ("folder", "any folder", "NAME/ with images and groundtruth*.txt or Annotations/*.png",
         "folder:open_folder"),
    )
}  # fmt: skip
"""The sets by their words on the command line. A set of one's own is a row more; its function is
called as ``read(root: Path, need_frames: bool)`` and returns a ``Benchmark``. Images are listed,
not read; without ``need_frames``, for scoring, the truth suffices."""


def open_benchmark(key: str, root: str | Path, *, need_frames: bool = True) -> Benchmark:
    """Open a copy of a benchmark: find its sequences and read their truth.

    Images are listed, not read. What is odd in the copy (sequences of a list that are not there,
    other numbers of images than of truth) is told in ``Benchmark.notes``.

    Args:
        key: one of ``BENCHMARKS``, or the ``module:function`` that opens a set of one's own.
        root: the copy's folder; for LaSOT's truth also the toolkit's folder or a ZIP of it.
        need_frames: False for scoring: the truth suffices, images may be absent.

    Raises:
        InputError: an unknown key; a root that does not look as ``BENCHMARKS`` says; a file that
            cannot be read, with the line that is wrong and what was expected.
    """
    from vision_mem.evaluation.sot.records import Benchmark

    function = look_up(key if ":" in key else known_dataset(BENCHMARKS, key).read)
    found = open_copy(lambda place: function(place, need_frames=need_frames), root)
    if not isinstance(found, Benchmark):
        raise InputError(f"{key} returned {type(found).__name__}; expected a Benchmark")
    return found
