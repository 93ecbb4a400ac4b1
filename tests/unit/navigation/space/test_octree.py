"""Space: Morton codes, rays, carving, queries; numba, numpy, a slow oracle and OctoMap agree."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from vision_mem.errors import InputError, MissingExtra, ModelError
from vision_mem.navigation.space import kernels, morton
from vision_mem.navigation.space.octree import FREE, OCCUPIED, UNKNOWN, Octree, OctreeConfig
from vision_mem.navigation.space.raycasting import FrameUpdate

HAVE_NUMBA = kernels.choose("auto").name == "numba"
NAMES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not HAVE_NUMBA, reason="[nav]"))]


@pytest.fixture(params=NAMES)
def kernel(request):
    return request.param


def tree(kernel="numpy", leaf=1.0, **more):
    return Octree(OctreeConfig(leaf=leaf, kernels=kernel, max_range=0.0, **more))


def codes_of(octree, states):
    """Leaf cells by state, as sets of tuples."""
    found = octree.level(0)
    cells = morton.decode(found.codes)
    return {tuple(c) for c in cells[found.occupied == states].tolist()}


# -- codes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "cell"),
    [
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((-0.0, -0.0, 0.0), (0, 0, 0)),
        ((1.0, 2.0, 3.0), (1, 2, 3)),  # on faces: the upper cell
        ((0.999, 1.999, -0.001), (0, 1, -1)),
        ((-1.0, -1.5, -2.0), (-1, -2, -2)),  # flooring, not cutting off
        ((morton.HALF - 0.5, -morton.HALF, 0), (morton.HALF - 1, -morton.HALF, 0)),
    ],
)
def test_points_lie_in_their_cells(point, cell):
    cells, inside = morton.quantise([point], 1.0)
    assert inside[0] and tuple(cells[0]) == cell


@pytest.mark.parametrize(
    "point",
    [(np.nan, 0, 0), (0, np.inf, 0), (0, 0, -np.inf), (morton.HALF, 0, 0), (0, -morton.HALF - 1, 0),
     (1e300, 0, 0)],
)  # fmt: skip
def test_what_has_no_cell_is_dropped_and_counted(point, kernel):
    assert not morton.quantise([point], 1.0)[1][0]
    octree = tree(kernel)
    octree.insert((0.5, 0.5, 0.5), [point, (3.5, 0.5, 0.5)])
    assert octree.stats.dropped == 1 and octree.stats.hits == 1
    assert codes_of(octree, True) == {(3, 0, 0)}


def test_codes_are_the_interleaved_bits():
    random = np.random.default_rng(0)
    cells = random.integers(-morton.HALF, morton.HALF, (200, 3))
    for cell, code in zip(cells.tolist(), morton.encode(cells).tolist(), strict=True):
        slow = sum(
            (value + morton.HALF >> bit & 1) << (3 * bit + axis)
            for axis, value in enumerate(cell)
            for bit in range(21)
        )
        assert slow == code
    assert (morton.decode(morton.encode(cells)) == cells).all()
    assert len(set(morton.encode(cells).tolist())) == 200


def test_code_zero_is_a_leaf_like_any_other(kernel):
    octree = tree(kernel)
    corner = np.full(3, -morton.HALF + 0.5)
    assert octree.state([corner])[0] == UNKNOWN
    octree.insert(corner, [corner])
    assert octree.level(0).codes.tolist() == [0]
    assert octree.state([corner, -corner])[0] == OCCUPIED
    assert octree.state([-corner])[0] == UNKNOWN


# -- rays ------------------------------------------------------------------------------------


def oracle(start, end):
    """Cells of a ray, in exact fractions: borders crossed in order, x before y before z."""
    cell = [int(np.floor(v)) for v in start]
    last = [int(np.floor(v)) for v in end]
    begin = [Fraction(v) for v in start]
    way = [Fraction(2 * e + 1, 2) - b for e, b in zip(last, begin, strict=True)]
    crossings = []
    for axis in range(3):
        step = 1 if last[axis] > cell[axis] else -1
        for border in range(abs(last[axis] - cell[axis])):
            face = cell[axis] + (border + 1 if step > 0 else -border)
            crossings.append(((face - begin[axis]) / way[axis], axis, step))
    cells = []
    for _, axis, step in sorted(crossings):
        cells.append(tuple(cell))
        cell[axis] += step
    return cells, tuple(cell)


def test_rays_pass_exactly_the_cells_they_should(kernel):
    random = np.random.default_rng(1)
    for _ in range(40):
        start, end = random.uniform(-12, 12, (2, 3))
        octree = tree(kernel)
        octree.insert(start, [end])
        passed, last = oracle(start, end)
        assert codes_of(octree, True) == {last}
        assert codes_of(octree, False) == set(passed) - {last}


@pytest.mark.skipif(not HAVE_NUMBA, reason="needs the extra [nav]")
@pytest.mark.parametrize("leaf", [0.3, 0.01])  # the second reaches too far for a dense box
def test_numba_and_numpy_agree_bit_for_bit(leaf):
    random = np.random.default_rng(2)
    trees = [tree(name, leaf) for name in ("numba", "numpy")]
    for number in range(2):
        scale = 1.0 if leaf > 0.1 else 0.4
        sensor = random.uniform(-1, 1, 3) * scale
        points = sensor + random.standard_normal((60, 3)) * 5 * scale
        extras = {
            "colours": random.integers(0, 256, (60, 3)).astype(np.uint8),
            "labels": random.integers(0, 4, 60),
            "embeddings": random.standard_normal((5, 6)),
            "embedding_of": random.integers(-1, 5, 60),
        }
        for octree in trees:
            octree.insert(sensor, points, **extras)
        assert number or len(trees[0].bricks)
    one, other = (octree.level(0) for octree in trees)
    for name in ("codes", "log_odds", "hits", "tick", "colours", "labels"):
        assert (getattr(one, name) == getattr(other, name)).all()
    for a, b in zip(one.embedding, other.embedding, strict=True):
        assert (trees[0].embedding(a) == trees[1].embedding(b)).all() and (a > 0) == (b > 0)


def test_dense_and_sorted_carving_agree(monkeypatch, kernel):
    random = np.random.default_rng(3)
    points = random.standard_normal((300, 3)) * 5
    octree = tree(kernel, 0.2)
    dense = octree.look((0.1, 0.2, 0.3), points, labels=random.integers(0, 3, 300))
    random = np.random.default_rng(3)
    random.standard_normal((300, 3))
    monkeypatch.setattr("vision_mem.navigation.space.raycasting._DENSEST", 0)
    monkeypatch.setattr("vision_mem.navigation.space.kernels._ROOM", 500)
    apart = octree.look((0.1, 0.2, 0.3), points, labels=random.integers(0, 3, 300))
    for name in ("bricks", "state", "hits", "labels"):
        assert (getattr(dense, name) == getattr(apart, name)).all()


def test_one_hit_and_one_miss_a_leaf_and_frame(kernel):
    octree = tree(kernel, hit=0.85, miss=0.4)
    # Two points in one leaf; many rays through (1, 0, 0); a ray ends where others pass.
    octree.insert(
        (0.5, 0.5, 0.5), [(4.2, 0.5, 0.5), (4.8, 0.6, 0.5), (4.5, 0.5, 0.5), (2.5, 0.5, 0.5)]
    )
    found = dict(zip(map(tuple, morton.decode(octree.level(0).codes).tolist()),
                     octree.level(0).log_odds.tolist(), strict=True))  # fmt: skip
    cells = [found[x, 0, 0] for x in (4, 1, 2)]
    assert cells == pytest.approx([0.85, -0.4, 0.85], abs=1e-6)
    assert octree.level(0).hits.sum() == 2


@pytest.mark.parametrize(
    ("sensor", "point", "hits", "misses", "dropped"),
    [
        ((0.5, 0.5, 0.5), (0.6, 0.5, 0.5), 1, 0, 0),  # of length 0: hit only
        ((0.5, 0.5, 0.5), (9.5, 0.5, 0.5), 0, 5, 0),  # further than the range: carves only
        ((0.5, 0.5, 0.5), (4.5, 0.5, 0.5), 1, 4, 0),
        ((2.0**22, 0, 0), (4.5, 0.5, 0.5), 0, 0, 1),  # begins outside the grid
    ],
)
def test_odd_rays(kernel, sensor, point, hits, misses, dropped):
    octree = Octree(OctreeConfig(leaf=1.0, kernels=kernel, max_range=5.0))
    octree.insert(sensor, [point])
    stats = octree.stats
    assert (stats.hits, stats.misses, stats.dropped) == (hits, misses, dropped)


def test_no_points_change_nothing(kernel):
    octree = tree(kernel)
    octree.insert((0, 0, 0), np.empty((0, 3)), colours=np.empty((0, 3), np.uint8),
                  labels=np.empty(0, int))  # fmt: skip
    assert len(octree.level(0)) == 0 and octree.stats.frames == 1


@pytest.mark.parametrize("sensor", [(np.nan, 0, 0), (0, np.inf, 0), (0, 0)])
def test_a_sensor_that_is_nowhere_is_refused(sensor):
    with pytest.raises(InputError, match="3 finite numbers"):
        tree().insert(sensor, [(1, 1, 1)])


def test_evidence_adds_up_stops_and_turns(kernel):
    octree = tree(kernel)
    for _ in range(9):
        octree.insert((0.5, 0.5, 0.5), [(3.5, 0.5, 0.5)])
    assert octree.log_odds([(3.5, 0.5, 0.5), (1.5, 0.5, 0.5)]).tolist() == [3.5, -2.0]
    for _ in range(8):  # what moved away is carved free: 3.5 - 8 * 0.4 > 0 still
        octree.insert((0.5, 0.5, 0.5), [(6.5, 0.5, 0.5)])
    assert octree.state([(3.5, 0.5, 0.5)])[0] == OCCUPIED
    octree.insert((0.5, 0.5, 0.5), [(6.5, 0.5, 0.5)])
    assert octree.state([(3.5, 0.5, 0.5)])[0] == FREE


def test_counts_do_not_run_over():
    octree = tree()
    update = octree.look((0.5, 0.5, 0.5), [(0.5, 0.5, 0.5)])
    octree.apply(update)
    octree.bricks.hits[octree.bricks.hits > 0] = 65534
    for _ in range(3):
        octree.apply(update)
    assert octree.level(0).hits.tolist() == [65535]


# -- what leaves carry -----------------------------------------------------------------------


def test_colours_labels_and_embeddings_are_means_and_majorities(kernel):
    octree = tree(kernel)
    looks = [((10, 20, 30), 3), ((20, 20, 40), 3), ((60, 20, 50), 5)]
    for colour, label in looks:
        octree.insert((0.5, 0.5, 0.5), [(3.5, 0.5, 0.5)] * 2, colours=np.uint8([colour] * 2),
                      labels=[label, label], embeddings=[[3.0, 0, 0], [0, 0.5, 0]],
                      embedding_of=[int(label == 5)] * 2)  # fmt: skip
    leaf = octree.radius((3.5, 0.5, 0.5), 0.1)
    assert leaf.colours.tolist() == [[30, 20, 40]] and leaf.labels.tolist() == [3]
    mean = octree.embedding(int(leaf.embedding[0]))
    assert mean == pytest.approx(np.array([2, 1, 0]) / np.sqrt(5), abs=1e-6)


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        ({"colours": np.zeros((1, 3), np.uint8)}, r"expected \(2, 3\)"),
        ({"labels": [1, 70000]}, "0 to 65535"),
        ({"labels": [1.0, 2.0]}, "whole numbers"),
        ({"embeddings": np.ones((1, 4)), "embedding_of": [0, 1]}, "a row for each number"),
    ],
)
def test_extras_that_do_not_fit_are_refused(extras, words):
    octree = tree()
    with pytest.raises(InputError, match=words):
        octree.insert((0, 0, 0), [(1, 1, 1), (2, 2, 2)], **extras)
    assert octree.stats.frames == 0


# -- reading ---------------------------------------------------------------------------------


def cloud(kernel="numpy"):
    octree = tree(kernel, 0.25)
    random = np.random.default_rng(5)
    for _ in range(3):
        octree.insert(random.uniform(-1, 1, 3), random.uniform(-6, 6, (200, 3)))
    return octree


def test_box_and_radius_find_what_a_scan_finds(kernel):
    octree = cloud(kernel)
    every = octree.level(0)
    for low, high in [((-1, -1, -1), (1, 1, 1)), ((-9, 2, -9), (9, 3, 9)), ((2, 2, 2), (1, 1, 1))]:
        inside = ((every.centres >= low) & (every.centres <= high)).all(axis=1)
        assert octree.box(low, high).codes.tolist() == every.codes[inside].tolist()
    whole = octree.box((-np.inf,) * 3, (np.inf,) * 3)
    assert whole.codes.tolist() == every.codes.tolist()
    near = np.linalg.norm(every.centres - (1, 2, 0), axis=1) <= 1.7
    assert octree.radius((1, 2, 0), 1.7).codes.tolist() == every.codes[near].tolist()


@pytest.mark.parametrize("level", [1, 3, 5, 21])
def test_any_level_sums_up_its_leaves(level):
    octree = cloud()
    leaves, cells = octree.level(0), octree.level(level)
    parents = leaves.codes >> np.uint64(3 * level)
    assert cells.codes.tolist() == sorted(set(parents.tolist()))
    for code, odds, known, hits in zip(
        cells.codes, cells.log_odds, cells.known, cells.hits, strict=True
    ):
        mine = parents == code
        assert odds == leaves.log_odds[mine].max() and known == mine.sum()
        assert hits == leaves.hits[mine].sum()
    first = np.abs(leaves.centres - cells.centres[np.searchsorted(cells.codes, parents)])
    assert first.max() < 0.25 * 2**level / 2


def test_rays_are_answered(kernel):
    octree = tree(kernel)
    octree.insert((0.5, 0.5, 0.5), [(6.5, 0.5, 0.5)])
    hit = octree.ray((0.5, 0.5, 0.5), (2.0, 0, 0), 20.0)
    assert hit.position == (6.5, 0.5, 0.5) and hit.distance == 6.0 and not hit.through_unknown
    assert octree.ray((0.5, 0.5, 0.5), (1, 0, 0), 5.0) is None
    assert octree.ray((0.5, 0.5, 0.5), (0, 1, 0), 20.0) is None
    assert octree.ray((0.5, 0.5, 0.5), (0, 1, 0), 20.0, unknown=True).distance == 1.0
    assert octree.ray((0.5, 2.5, 0.5), (6, -2, 0), 20.0).through_unknown
    assert octree.ray((2.0**22, 0, 0), (-1, 0, 0), 5.0) is None
    edge = morton.HALF - 2.0
    assert octree.ray((edge, 0.5, 0.5), (1, 0, 0), 50.0) is None
    with pytest.raises(InputError, match="length 0"):
        octree.ray((0, 0, 0), (0, 0, 0), 1.0)


def test_forgotten_space_is_unknown_again(kernel):
    octree = cloud(kernel)
    before = len(octree.level(0))
    gone = octree.forget((-2, -2, -2), (2, 2, 2))
    assert gone > 0 and len(octree.level(0)) == before - gone
    assert len(octree.box((-2, -2, -2), (2, 2, 2))) == 0


# -- storing ---------------------------------------------------------------------------------


def test_a_stored_look_changes_what_the_look_itself_changes():
    random = np.random.default_rng(6)
    one, other = tree(leaf=0.2), tree(leaf=0.2)
    for _ in range(3):
        update = one.insert(
            random.uniform(-1, 1, 3), np.append(random.uniform(-4, 4, (99, 3)), [[np.nan] * 3], 0),
            colours=random.integers(0, 256, (100, 3)).astype(np.uint8),
            labels=random.integers(0, 9, 100), embeddings=random.standard_normal((4, 5)),
            embedding_of=random.integers(-1, 4, 100),
        )  # fmt: skip
        other.apply(FrameUpdate.from_bytes(update.to_bytes()))
    assert one.stats == other.stats and one.stats.dropped == 3
    a, b = one.level(0), other.level(0)
    for name in ("codes", "log_odds", "hits", "tick", "colours", "labels", "embedding"):
        assert (getattr(a, name) == getattr(b, name)).all()
    assert (one.vectors.sums == other.vectors.sums).all()
    for broken in (b"", update.to_bytes()[:-9]):
        with pytest.raises(ModelError, match="damaged"):
            FrameUpdate.from_bytes(broken)


def test_packed_bricks_come_back_whole(kernel):
    octree, back = cloud(kernel), tree(kernel, 0.25)
    bricks = octree.bricks
    blobs = [bricks.pack(row) for row in range(len(bricks))]
    back.bricks.unpack(bricks.codes, blobs)
    a, b = octree.level(0), back.level(0)
    for name in ("codes", "log_odds", "hits", "tick"):
        assert (getattr(a, name) == getattr(b, name)).all()
    with pytest.raises(ModelError, match="damaged"):
        back.bricks.unpack(bricks.codes[:1], [blobs[0][:-5]])


# -- others ----------------------------------------------------------------------------------


def test_without_numba_one_line_says_what_to_install(monkeypatch):
    def missing():
        raise ImportError("numba")

    monkeypatch.setattr(kernels, "_compiled", missing)
    assert kernels.choose("auto").name == "numpy"
    with pytest.raises(MissingExtra, match=r"vision-mem\[nav\]"):
        kernels.choose("numba")
    with pytest.raises(InputError, match="one of auto"):
        kernels.choose("cuda")


@pytest.mark.parametrize(
    "settings", [{"leaf": 0.0}, {"hit": -1.0}, {"lowest": 1.0}, {"max_range": np.nan}]
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError):
        OctreeConfig(**settings)


def test_occupancy_agrees_with_octomap(kernel):
    pyoctomap = pytest.importorskip("pyoctomap", reason="compares with OctoMap: pip pyoctomap")
    random = np.random.default_rng(7)
    ours, theirs = tree(kernel, 0.2), pyoctomap.OcTree(0.2)
    for setter, value in (("setProbHit", 0.85), ("setProbMiss", -0.4),
                          ("setClampingThresMin", -2.0), ("setClampingThresMax", 3.5)):  # fmt: skip
        getattr(theirs, setter)(1 / (1 + np.exp(-value)))
    for _ in range(3):
        sensor = random.uniform(-1, 1, 3)
        away = random.standard_normal((400, 3))
        points = sensor + away / np.linalg.norm(away, axis=1, keepdims=True) * random.uniform(2, 5)
        ours.insert(sensor, points)
        theirs.insertPointCloud(points, sensor, -1.0, False, True)
    found = ours.level(0)
    wrong = 0
    for centre, occupied in zip(found.centres, found.occupied, strict=True):
        node = theirs.search(centre.tolist())
        wrong += node is None or bool(theirs.isNodeOccupied(node)) != bool(occupied)
    assert len(found) > 3000 and wrong <= 0.005 * len(found)
