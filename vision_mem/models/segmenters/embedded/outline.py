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

    def mean(plane: NDArray[np.floating]) -> NDArray[np.float32]:
        width = (2 * radius + 1, 2 * radius + 1)
        return np.asarray(cv2.blur(plane, width, borderType=cv2.BORDER_REFLECT_101), np.float32)

    # Planes, not pixels: each fits a core's cache, and the arithmetic runs at full width.
    # Differences to grey: what is small has more digits.
    guide = cv2.resize(picture, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    scaled = (guide - 128) * np.float32(1 / 255)
    r, g, b = (np.asarray(plane, np.float32) for plane in cv2.split(scaled))
    vote = np.asarray(cv2.resize(votes, small, interpolation=cv2.INTER_LINEAR), np.float32)
    mr, mg, mb, mv = mean(r), mean(g), mean(b), mean(vote)
    # Covariance of the colours, symmetric: only the six parts that differ.
    rr, rg, rb = mean(r * r) - mr * mr + smoothness, mean(r * g) - mr * mg, mean(r * b) - mr * mb
    gg, gb, bb = mean(g * g) - mg * mg + smoothness, mean(g * b) - mg * mb, mean(b * b) - mb * mb
    bb += smoothness
    vr, vg, vb = mean(r * vote) - mr * mv, mean(g * vote) - mg * mv, mean(b * vote) - mb * mv
    # Slopes by Cholesky's decomposition without roots. The colours of a grey picture are all but
    # dependent, which determinants in single precision do not survive and pivots do.
    low = np.float32(smoothness / 2)
    one = np.maximum(rr, low)
    lg, lb = rg / one, rb / one
    two = np.maximum(gg - lg * rg, low)
    gb -= lg * rb
    lgb = gb / two
    three = np.maximum(bb - lb * rb - lgb * gb, low)
    vg -= lg * vr
    sb = (vb - lb * vr - lgb * vg) / three
    sg = vg / two - lgb * sb
    sr = vr / one - lg * sg - lb * sb
    rest = mean(mv - sr * mr - sg * mg - sb * mb)

    def whole(plane: NDArray[np.floating]) -> NDArray[np.float32]:
        made = cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.asarray(made, np.float32)

    slopes = [mean(slope) * np.float32(1 / 255) for slope in (sr, sg, sb)]
    said = whole(rest - 128 * (slopes[0] + slopes[1] + slopes[2]))
    for slope, plane in zip(slopes, cv2.split(picture), strict=True):
        said += whole(slope) * plane
    return np.asarray(np.clip(said, 0, 1, out=said), np.float32)
