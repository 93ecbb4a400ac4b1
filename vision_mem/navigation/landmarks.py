"""Things that can be named: where they are, how sure that is, and from where they were seen.

What was seen is kept in the frame of the place it was seen from. So a correction of the places
moves every landmark with them, exactly, without reading the journal again (specification 1.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from vision_mem.errors import InputError
from vision_mem.navigation.graph.topology import Pose, Topology
from vision_mem.navigation.mean_directions import UnitSums, row_dots
from vision_mem.navigation.spatial_hash import Nearby

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class LandmarkConfig:
    """When two sightings are of one thing.

    Attributes:
        radius: metres between them at most; or ``sigmas`` standard deviations, whichever is more.
        sigmas: see there.
        cosine: likeness that is needed where both have embeddings, -1 to 1.
        seen, missed: log-odds of existence that a sighting adds, and that looking through takes.
        gone_below: a landmark whose log-odds of existence fall below this is gone.
        surest: existence stops here.
        last: journal ids kept with each landmark.
        least_sigma: metres; no sighting counts as more exact.
    """

    radius: float = 0.5
    sigmas: float = 2.0
    cosine: float = 0.35
    seen: float = 0.85
    missed: float = 0.40
    gone_below: float = -1.0
    surest: float = 3.5
    last: int = 4
    least_sigma: float = 0.01

    def __post_init__(self) -> None:
        if not (self.radius > 0 and self.sigmas >= 0 and self.least_sigma > 0 and self.last >= 1):
            raise InputError(
                "landmark settings: radius and least_sigma must be above 0, sigmas 0 or more, "
                "last 1 or more"
            )


@dataclass
class PlaceView:
    """What was seen of a landmark from one place, summed up, in the place's frame.

    Attributes:
        count: sightings.
        weight: ``(3, 3)`` sum of inverse covariances.
        pull: ``(3,)`` sum of inverse covariance times position.
        bearing: degrees of the latest sighting, in the place's frame: 0 ahead, right positive.
        distance: metres of the latest sighting from the place.
    """

    count: int
    weight: Matrix
    pull: Matrix
    bearing: float
    distance: float


@dataclass
class Landmark:
    """A thing that can be named.

    Attributes:
        landmark_id: from the map's own sequence.
        row: in the store of embeddings; 0 when it has none.
        votes: weight of each name, by name.
        count: sightings.
        existence: log-odds that it is still there.
        first_s, last_s: seconds of the first and latest sighting.
        best: score of the best sighting.
        best_seq: journal id of it.
        last: journal ids of the latest sightings, oldest first.
        views: by place id.
        track: an outer identity that always means this landmark; empty for none.
        weight, pull: sums over all views in the map's frame, see ``View``.
        position, covariance: ``(3,)`` metres and ``(3, 3)``, worked out from those.
    """

    landmark_id: int
    row: int = 0
    votes: dict[str, float] = field(default_factory=dict)
    count: int = 0
    existence: float = 0.0
    first_s: float = 0.0
    last_s: float = 0.0
    best: float = -1.0
    best_seq: int = 0
    last: tuple[int, ...] = ()
    views: dict[int, PlaceView] = field(default_factory=dict)
    track: str = ""
    weight: Matrix = field(default_factory=lambda: np.zeros((3, 3)))
    pull: Matrix = field(default_factory=lambda: np.zeros(3))
    position: Matrix = field(default_factory=lambda: np.zeros(3))
    covariance: Matrix = field(default_factory=lambda: np.eye(3))

    @property
    def label(self) -> str:
        """The name with the most votes, the first in the alphabet of equals; "" for none."""
        return min(self.votes, key=lambda name: (-self.votes[name], name), default="")

    def fuse(self, topology: Topology) -> None:
        """Work out position and covariance from all views, with the places where they are now."""
        self.weight, self.pull = np.zeros((3, 3)), np.zeros(3)
        for place_id, view in self.views.items():
            pose = topology.places[place_id].pose
            turned = pose[:3, :3] @ view.weight @ pose[:3, :3].T
            self.weight += turned
            self.pull += pose[:3, :3] @ view.pull + turned @ pose[:3, 3]
        self.solve()

    def tally(self, seen: LandmarkView, seq: int, time_s: float, config: LandmarkConfig) -> None:
        """Count a sighting: all but where it is."""
        if seen.label:
            self.votes[seen.label] = self.votes.get(seen.label, 0.0) + seen.score
        self.count += 1
        self.existence = min(self.existence + config.seen, config.surest)
        self.last_s = max(self.last_s, time_s)
        if seen.score > self.best:
            self.best, self.best_seq = seen.score, seq
        self.last = (*self.last, seq)[-config.last :]

    def solve(self) -> None:
        """Work out position and covariance from the sums."""
        self.covariance = np.asarray(np.linalg.inv(self.weight), np.float64)
        self.position = self.covariance @ self.pull


@dataclass(frozen=True, eq=False)
class LandmarkView:
    """One sighting, see ``Sighting``.

    Attributes:
        local: ``(3,)`` metres in the frame of the place it was seen from.
        local_covariance: ``(3, 3)`` there.
        position: ``(3,)`` metres in the map's frame.
        covariance: ``(3, 3)`` there.
    """

    local: Matrix
    local_covariance: Matrix
    position: Matrix
    covariance: Matrix
    embedding: NDArray[np.float32] | None
    label: str
    score: float
    track: str = ""


class Landmarks:
    """All landmarks of a map.

    Attributes:
        by_id: landmarks.
        vectors: the store of their embeddings.
        owner: which landmark a row of the store belongs to.
        changed: ids to be stored.
        changed_views: pairs of landmark and place to be stored.
    """

    def __init__(self, config: LandmarkConfig | None = None) -> None:
        self.config = config or LandmarkConfig()
        self.by_id: dict[int, Landmark] = {}
        self.vectors = UnitSums()
        self.owner: dict[int, int] = {}
        self.changed: set[int] = set()
        self.changed_views: set[tuple[int, int]] = set()
        self._nearby = Nearby(max(self.config.radius, 0.05))
        self._tracks: dict[str, int] = {}
        self._words: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def nbytes(self) -> int:
        """Bytes held, about: 200 a landmark, 120 a view, and the embeddings."""
        views = sum(len(each.views) for each in self.by_id.values())
        return 200 * len(self.by_id) + 120 * views + self.vectors.nbytes

    def put(self, landmark: Landmark) -> None:
        """Store a landmark whose position is worked out, as when a map is read."""
        self.by_id[landmark.landmark_id] = landmark
        self._nearby.put(landmark.landmark_id, landmark.position)
        if landmark.row:
            self.owner[landmark.row] = landmark.landmark_id
        if landmark.track:
            self._tracks[landmark.track] = landmark.landmark_id
        for name in landmark.votes:
            for word in words(name):
                self._words.setdefault(word, set()).add(landmark.landmark_id)

    def drop(self, landmark_id: int) -> None:
        """Forget a landmark."""
        gone = self.by_id.pop(landmark_id, None)
        if gone is None:
            return
        self._nearby.drop(landmark_id)
        self._tracks.pop(gone.track, None)
        for name in gone.votes:
            for word in words(name):
                self._words.get(word, set()).discard(landmark_id)
        if gone.row:
            self.owner.pop(gone.row, None)
            self.vectors.clear(np.array([gone.row]))
        self.changed.add(landmark_id)
        self.changed_views |= {(landmark_id, place_id) for place_id in gone.views}

    def reanchor(self, place_id: int, other_id: int, topology: Topology) -> None:
        """Keep what was seen from a place that is to be forgotten, as if seen from another."""
        there = np.linalg.inv(topology.places[other_id].pose) @ topology.places[place_id].pose
        turn, shift = there[:3, :3], there[:3, 3]
        for landmark in self.by_id.values():
            view = landmark.views.pop(place_id, None)
            if view is None:
                continue
            weight = turn @ view.weight @ turn.T
            pull = turn @ view.pull + weight @ shift
            view = replace(view, weight=weight, pull=pull)
            if (old := landmark.views.get(other_id)) is not None:
                view = replace(
                    old, count=old.count + view.count, weight=old.weight + weight,
                    pull=old.pull + pull,
                )  # fmt: skip
            landmark.views[other_id] = view
            self.changed_views |= {(landmark.landmark_id, each) for each in (place_id, other_id)}

    def around(
        self, position: Matrix, radius: float
    ) -> tuple[NDArray[np.int64], Matrix, NDArray[np.float64]]:
        """Ids, metres and positions ``(n, 3)`` of landmarks within a radius, nearest first."""
        return self._nearby.within(position, radius)

    def named(self, word: str) -> set[int]:
        """Ids of landmarks with a word in one of their names."""
        return self._words.get(word, set())

    @property
    def vocabulary(self) -> list[str]:
        """All words in names, sorted."""
        return sorted(word for word, ids in self._words.items() if ids)

    def associate(self, seen: Sequence[LandmarkView]) -> list[int | None]:
        """Which landmark each sighting of one moment is of; None for a new one.

        The likeliest pairs are made first, and a landmark takes one sighting a moment.
        """
        found: list[int | None] = [None] * len(seen)
        taken: set[int] = set()
        pairs = []
        for number, each in enumerate(seen):
            known = self._tracks.get(each.track) if each.track else None
            if known is not None:
                found[number] = known
                taken.add(known)
                continue
            for candidate, likeness, distance in self._candidates(each):
                pairs.append((-likeness, distance, number, candidate))
        for _, _, number, candidate in sorted(pairs):
            if found[number] is None and candidate not in taken:
                found[number] = candidate
                taken.add(candidate)
        return found

    def _candidates(self, seen: LandmarkView) -> Iterable[tuple[int, float, float]]:
        """Id, likeness and metres of each landmark that a sighting may be of, all at once."""
        config = self.config
        spread = float(np.sqrt(max(np.linalg.eigvalsh(seen.covariance)[-1], 0.0)))
        reach = max(config.radius, config.sigmas * spread)
        ids, metres, where = self._nearby.around(seen.position, reach)
        marks = [self.by_id[i] for i in ids.tolist()]
        # Another outer identity: two different things.
        good = np.array([not (seen.track and mark.track) for mark in marks], bool)
        if len(far := np.flatnonzero(good & (metres > config.radius))):
            away = seen.position - where[far]
            both = np.array([marks[i].covariance for i in far.tolist()]) + seen.covariance
            solved = np.linalg.solve(both, away[:, :, None])[:, :, 0]
            good[far] = row_dots(away, solved) <= config.sigmas**2
        rows = np.array([mark.row for mark in marks], np.int64)
        likeness = np.full(len(marks), -np.inf)
        looks = good & (rows > 0) if seen.embedding is not None else np.zeros(len(marks), bool)
        if seen.embedding is not None and looks.any():
            likeness[looks] = row_dots(self.vectors.means(rows[looks]), seen.embedding)
            likeness[likeness < config.cosine] = -np.inf
        if seen.label:
            for i in np.flatnonzero(good & ~looks).tolist():
                likeness[i] = 1.0 if seen.label in marks[i].votes else -np.inf
        kept = likeness > -np.inf
        return zip(ids[kept].tolist(), likeness[kept].tolist(), metres[kept].tolist(), strict=True)

    def add(
        self,
        landmark_id: int,
        seen: LandmarkView,
        seq: int,
        time_s: float,
        place_id: int,
        topology: Topology,
    ) -> Landmark:
        """Take in one sighting of a landmark, or of a new one with that id, seen from a place."""
        landmark = self.by_id.get(landmark_id) or Landmark(landmark_id, first_s=time_s)
        if seen.embedding is not None:
            if not landmark.row:
                landmark.row = int(self.vectors.new(1, len(seen.embedding))[0])
            self.vectors.add(np.array([landmark.row]), seen.embedding[None])
        landmark.track = landmark.track or seen.track
        landmark.tally(seen, seq, time_s, self.config)
        self._view(landmark, seen, place_id, topology.places[place_id].pose)
        landmark.solve()
        self.put(landmark)
        self.changed.add(landmark_id)
        self.changed_views.add((landmark_id, place_id))
        return landmark

    def _view(self, landmark: Landmark, seen: LandmarkView, place_id: int, pose: Pose) -> None:
        turn, local = pose[:3, :3], seen.local
        covariance = seen.local_covariance + self.config.least_sigma**2 * np.eye(3)
        weight = np.asarray(np.linalg.inv(covariance), np.float64)
        turned = turn @ weight @ turn.T
        landmark.weight = landmark.weight + turned
        landmark.pull = landmark.pull + turned @ seen.position
        old = landmark.views.get(place_id) or PlaceView(0, np.zeros((3, 3)), np.zeros(3), 0.0, 0.0)
        bearing = float(np.degrees(np.arctan2(local[0], local[2])))
        landmark.views[place_id] = PlaceView(
            old.count + 1,
            old.weight + weight,
            old.pull + weight @ local,
            bearing,
            float(np.linalg.norm(local)),
        )

    def relocate(
        self, landmark_id: int, seen: LandmarkView, place_id: int, topology: Topology
    ) -> Landmark:
        """Believe one sighting alone of where a landmark is: it has moved, what it was stays."""
        landmark = self.by_id[landmark_id]
        self.changed_views |= {(landmark_id, each) for each in (*landmark.views, place_id)}
        landmark.views = {}
        landmark.weight, landmark.pull = np.zeros((3, 3)), np.zeros(3)
        self._view(landmark, seen, place_id, topology.places[place_id].pose)
        landmark.solve()
        self.put(landmark)
        self.changed.add(landmark_id)
        return landmark

    def miss(self, landmark_id: int) -> bool:
        """One looked through where it should be; returns whether it is gone with that."""
        landmark = self.by_id[landmark_id]
        was = landmark.existence
        landmark.existence = max(was - self.config.missed, -self.config.surest)
        if landmark.existence != was:
            self.changed.add(landmark_id)
        return was >= self.config.gone_below > landmark.existence

    def gone(self, landmark: Landmark) -> bool:
        """Whether it is believed not to be there any more."""
        return landmark.existence < self.config.gone_below

    def refuse(self, topology: Topology, places: Iterable[int]) -> None:
        """Move the landmarks seen from places that were corrected."""
        moved = set(places)
        for landmark in self.by_id.values():
            if not moved.isdisjoint(landmark.views):
                landmark.fuse(topology)
                self.put(landmark)
                self.changed.add(landmark.landmark_id)


def words(text: str) -> list[str]:
    """Words of a name or a question: small letters and digits, in order."""
    kept = "".join(c if c.isalnum() else " " for c in text.casefold())
    return kept.split()
