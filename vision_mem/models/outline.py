"""From votes at a stride of 8 to an outline that follows the picture's edges.

Votes are as coarse as the tokens. The guided filter (He, Sun and Tang, 2010) says them again as
a linear function of colour around each place, and that function is then asked at each pixel;
fitting it on a smaller picture is the authors' fast variant (He and Sun, 2015).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_SHRINK = 2
"""How much smaller than the window the picture is on which the functions are fitted."""


def follow_edges(
    votes: NDArray[np.float32], picture: NDArray[np.uint8], radius: int, smoothness: float
) -> NDArray[np.float32]:
    """Bring votes to the picture's size, along its edges.

    Args:
        votes: ``(t, t)`` in [0, 1].
        picture: ``(s, s, 3)`` uint8, s even.
        radius: of the neighbourhood in which votes are a function of colour, in pixels of the
            picture at half its size.
        smoothness: colour variance (channels in [0, 1]) below which there is no edge.

    Returns:
        ``(s, s)`` float32 in [0, 1].
    """
    side = picture.shape[0]
    small = (side // _SHRINK, side // _SHRINK)

    def mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        width = 2 * radius + 1
        return np.asarray(cv2.blur(plane, (width, width), borderType=cv2.BORDER_REFLECT_101))

    # Planes, not pixels: each fits a core's cache, and the arithmetic runs at full width. Double
    # precision, because the colours of a grey picture are all but dependent.
    guide = cv2.resize(picture, small, interpolation=cv2.INTER_AREA) * (1 / 255)
    r, g, b = cv2.split(guide)
    vote = cv2.resize(votes, small, interpolation=cv2.INTER_LINEAR).astype(np.float64)
    mr, mg, mb, mv = mean(r), mean(g), mean(b), mean(vote)
    # Covariance of the colours, symmetric: only the six parts that differ.
    rr, rg, rb = mean(r * r) - mr * mr + smoothness, mean(r * g) - mr * mg, mean(r * b) - mr * mb
    gg, gb, bb = mean(g * g) - mg * mg + smoothness, mean(g * b) - mg * mb, mean(b * b) - mb * mb
    bb += smoothness
    vr, vg, vb = mean(r * vote) - mr * mv, mean(g * vote) - mg * mv, mean(b * vote) - mb * mv
    # Slopes by Cramer's rule.
    crr, crg, crb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    cgg, cgb, cbb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1 / (rr * crr + rg * crg + rb * crb)
    sr = (crr * vr + crg * vg + crb * vb) * scale
    sg = (crg * vr + cgg * vg + cgb * vb) * scale
    sb = (crb * vr + cgb * vg + cbb * vb) * scale
    rest = mean(mv - sr * mr - sg * mg - sb * mb)

    def whole(plane: NDArray[np.float64]) -> NDArray[np.float32]:
        coarse = plane.astype(np.float32)
        return np.asarray(cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))

    said = whole(rest)
    for slope, plane in zip((sr, sg, sb), cv2.split(picture), strict=True):
        said += whole(mean(slope) / 255) * plane
    return np.asarray(np.clip(said, 0, 1, out=said), np.float32)
