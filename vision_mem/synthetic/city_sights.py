"""What is to be seen in a generated city, as files tell it: words, or features of views."""

from __future__ import annotations

import numpy as np

from vision_mem.formats.street_words import PanoramaFeatures, SeenWord
from vision_mem.synthetic.city import City
from vision_mem.vln.graph import bearing_of, turn_between
from vision_mem.vln.word_vectors import WIDTH, word_vector

VIEWS = 8
"""Views of a panorama, 45 degrees from one to the next, as VELMA's five span 180."""
FIELD = 60.0
"""Degrees across a view (spec 2.2)."""
ENCODER = f"names#{WIDTH}"
"""Names the space of ``word_vector``, for maps."""


def city_words(city: City, reach_m: float = 15.0) -> dict[str, tuple[SeenWord, ...]]:
    """Names of the landmarks within reach of each panorama, with bearing and range."""
    found = {}
    for name, at in zip(city.graph.ids, city.graph.position, strict=True):
        marks = city.near(at, reach_m)
        found[name] = tuple(
            (m.name, bearing_of(m.position - at), float(np.hypot(*(m.position - at))))
            for m in marks
        )
    return found


def city_features(
    city: City, seed: int = 0, *, reach_m: float = 15.0, noise: float = 0.5
) -> PanoramaFeatures:
    """Features of views, such as an embedder of pictures would give (spec 5.1, b).

    Args:
        city: the city.
        seed: of the noise.
        reach_m: farther landmarks are not seen.
        noise: length of the noise beside features of length 1; views of nothing are noise only,
            and short, as they are of no direction.

    Returns:
        Features in the space of ``word_vector``: of each view the sum of the names in it, nearer
        ones counting more.
    """
    rng = np.random.default_rng([seed, 23])
    bearings = np.arange(VIEWS) * 360.0 / VIEWS
    features = np.zeros((len(city.graph), VIEWS, WIDTH))
    for place, at in enumerate(city.graph.position):
        for mark in city.near(at, reach_m):
            bearing = bearing_of(mark.position - at)
            away = max(float(np.hypot(*(mark.position - at))), 1.0)
            for view in range(VIEWS):
                if abs(turn_between(bearing, float(bearings[view]))) <= FIELD / 2:
                    features[place, view] += word_vector(mark.name) / away
    lengths = np.linalg.norm(features, axis=2, keepdims=True)
    features = np.divide(features, lengths, out=features, where=lengths > 0)
    spread = rng.standard_normal(features.shape) * noise / np.sqrt(WIDTH)
    features += np.where(lengths > 0, spread, 0.0)
    return PanoramaFeatures(
        tuple(city.graph.ids), features.astype(np.float32),
        np.tile(bearings, (len(city.graph), 1)), ENCODER,
    )  # fmt: skip
