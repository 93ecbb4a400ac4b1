"""How results for depth, poses and points are compared."""

from __future__ import annotations

from dataclasses import dataclass

from vision_mem.errors import InputError
from vision_mem.evaluation.reconstruction.metrics.depth import ALIGNMENTS, SOLVERS


@dataclass(frozen=True)
class SceneRules:
    """How results are compared.

    Attributes:
        align: of depth, the first is the main one; of ``ALIGNMENTS``.
        compat: how scale and shift are found, of ``SOLVERS``.
        strict: without the quirks of the peers' code.
        partial: frames without a result are left out of the comparison.
        cloud: axes of clouds without pixels: of the first ``camera``, or of the set's ``world``.
    """

    align: tuple[str, ...] = ("scale",)
    compat: str = "irls"
    strict: bool = False
    partial: bool = False
    cloud: str = "camera"

    def __post_init__(self) -> None:
        wrong = [each for each in self.align if each not in ALIGNMENTS]
        if wrong or not self.align:
            raise InputError(
                f"align is {'+'.join(self.align)!r}; expected one of {', '.join(ALIGNMENTS)}, or "
                "several with + between"
            )
        if self.compat not in SOLVERS:
            raise InputError(f"compat is {self.compat!r}; expected one of {', '.join(SOLVERS)}")
        if self.cloud not in ("camera", "world"):
            raise InputError(f"cloud is {self.cloud!r}; expected camera or world")
