"""All settings of a reconstruction session."""

from __future__ import annotations

from dataclasses import dataclass

from vision_mem.errors import InputError
from vision_mem.reconstruction.dynamic_objects import DynamicsConfig
from vision_mem.reconstruction.icp import OdometryConfig
from vision_mem.reconstruction.kernels.dispatch import CHOICES
from vision_mem.reconstruction.relocalization import BYTES_A_PLACE
from vision_mem.reconstruction.voxel_grid import StructureConfig, capacity_for


@dataclass(frozen=True)
class EvidenceConfig:
    """What says that a pixel moves.

    Attributes:
        free_space: whether places that key frames saw empty count.
        key_frames: key frames kept.
        every_s: seconds between them, and at most ``every_frames`` frames.
        every_frames: see ``every_s``.
        base, slope: a point must be nearer than what a key frame saw there by
            ``base + slope * depth`` metres; also what carving goes by.
        votes: key frames that must have seen the place empty for a pixel to be suspected.
        margin: standard deviations of the depth, as the stream itself shows them, that the limit
            of ``base`` and ``slope`` is at least.
        beside: degrees around the place that a key frame must have seen empty, without a hole,
            for it to count as sure: edges, poses and registration are off by less.
        sure_votes: such key frames that make a pixel's motion sure.
        close: metres, times 1 + depth, within which a surface counts as being where it was.
        jump: share of the depth by which neighbours on one surface may differ.
        whole_share: share of a surface that must move for all of it to move.
        awaited_share: the same for pixels where a moving thing should be by now.
        most_share: share of the image above which a surface never moves as a whole.
        grow: pixels around what moves that do not become structure either.
    """

    free_space: bool = True
    key_frames: int = 8
    every_s: float = 0.3
    every_frames: int = 15
    base: float = 0.06
    slope: float = 0.03
    votes: int = 1
    margin: float = 5.0
    beside: float = 1.5
    sure_votes: int = 2
    close: float = 0.012
    jump: float = 0.05
    whole_share: float = 0.05
    awaited_share: float = 0.5
    most_share: float = 0.35
    grow: int = 1

    def __post_init__(self) -> None:
        for name in ("key_frames", "every_frames", "votes", "sure_votes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not (self.every_s >= 0 and self.base > 0 and self.slope >= 0):
            raise InputError("every_s, base and slope must be 0 or more, base above 0")
        if not (self.margin >= 0 and self.beside >= 0):
            raise InputError("margin and beside must be 0 or more")


@dataclass(frozen=True)
class ReconstructionConfig:
    """Settings of a reconstruction session.

    Attributes:
        structure, dynamics, odometry, evidence: see there.
        budget_mb: MiB that both memories may hold together.
        max_side: pixels of the longer side that is worked on; larger frames are thinned out by
            whole numbers.
        far: metres beyond which a reading is not used.
        near: metres below which it is not used.
        kernels: ``auto``, ``numba`` or ``numpy``.

    Source: specs/mem4d.md section 4.4.
    """

    structure: StructureConfig = StructureConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    odometry: OdometryConfig = OdometryConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    budget_mb: float = 256.0
    max_side: int = 320
    far: float = 8.0
    near: float = 0.1
    kernels: str = "auto"

    def __post_init__(self) -> None:
        if not self.budget_mb > 0:
            raise InputError(f"budget_mb is {self.budget_mb}; expected MiB above 0")
        if self.max_side < 16:
            raise InputError(f"max_side is {self.max_side}; expected 16 or more pixels")
        if not 0 <= self.near < self.far:
            raise InputError(
                f"near is {self.near} and far {self.far}; expected metres, near below far"
            )
        if self.kernels not in CHOICES:
            raise InputError(f"kernels is {self.kernels!r}; expected one of {', '.join(CHOICES)}")

    @property
    def budget(self) -> int:
        """Bytes."""
        return int(self.budget_mb * 2**20)

    @property
    def most_places(self) -> int:
        """Places that are remembered for a lost camera, in at most 3 % of the budget."""
        return min(self.odometry.places, self.budget // 32 // BYTES_A_PLACE)

    def voxels_for(self, pixels: int) -> int:
        """Voxels that the budget has room for beside everything else.

        Args:
            pixels: of a frame as it is worked on.

        Raises:
            InputError: when it has none.
        """
        other = (
            self.evidence.key_frames * (pixels * 12 + 104)
            + self.dynamics.frames * min(self.dynamics.most_points, pixels) * 19
            + self.dynamics.most_tracks * 8 * 51
            + pixels * 5
            + self.most_places * BYTES_A_PLACE
        )
        capacity = capacity_for(self.budget - other)
        if capacity < 1024:
            raise InputError(
                f"budget_mb is {self.budget_mb:g}; frames of this size need at least "
                f"{(other + 2**17) / 2**20:.1f}"
            )
        return capacity
