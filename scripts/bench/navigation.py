"""Time the spatial memory: space beside OctoMap, a long journal, search over many landmarks.

    pip install numba pyoctomap faiss-cpu
    python scripts/bench/navigation.py
    python scripts/bench/navigation.py --rgbd FOLDER        # depth PNG and pose files of 7-Scenes
    python scripts/bench/navigation.py --observations 1000000

All kinds of insertion see the same frames in the same run, in turn. OctoMap is called through
pyoctomap with ``discretize`` (rays to distinct cells, as ours) and with the same log-odds; it also
keeps inner nodes, which we work out when asked. Prints one JSON object.

Measured on a machine with six other jobs on its two cores, so only ratios and sizes mean something:
``--only insertion --rgbd`` 40 frames of 7-Scenes, every 2nd pixel: OctoMap takes 2.5 times as long
as ours with numba at 0.10 m and 4.3 times at 0.05 m, and calls no compared leaf otherwise (8,995
and 40,000). ``--only journal --observations 1000000 --sightings 40``, up to 500,000: file 585 bytes
an observation; a question takes 0.9 to 1.1 ms by words and 0.16 to 0.19 ms by looks at 50,000 and
at 500,000 alike.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from vision_mem.navigation import NavigationConfig, NavigationSession, Observation, Sighting
from vision_mem.navigation.ann_index import Neighbours
from vision_mem.navigation.config import OctreeConfig, StoreConfig
from vision_mem.navigation.graph.topology import Place, Topology, Way
from vision_mem.navigation.landmarks import LandmarkConfig
from vision_mem.navigation.mean_directions import UnitSums
from vision_mem.navigation.space.kernels import choose
from vision_mem.navigation.space.octree import Octree


def have(name):
    return importlib.util.find_spec(name) is not None


def generated(count, width, height, seed=0):
    """(sensor, points) of a camera in a room of 8 x 3 x 8 m with boxes in it."""
    random = np.random.default_rng(seed)
    # Walls off the borders of cells: on them the last bit of a product decides.
    low, high = np.array([-4.013, -1.517, -4.029]), np.array([4.037, 1.531, 4.019])
    middles = random.uniform([-3.5, 0.2, -3.5], [3.5, 1.0, 3.5], (12, 3))
    halves = random.uniform(0.15, 0.5, (12, 3))
    v, u = np.mgrid[:height, :width]
    rays = np.stack([(u - width / 2) / width * 1.2, (v - height / 2) / width * 1.2,
                     np.ones(u.shape)], -1).reshape(-1, 3)  # fmt: skip
    for number in range(count):
        angle = 2 * np.pi * number / count
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        sensor = np.array([0.3 * s, 0.0, 0.3 * c])
        ways = rays @ turn.T + 1e-12
        reach = np.where(ways > 0, (high - sensor) / ways, (low - sensor) / ways).min(axis=1)
        for middle, half in zip(middles, halves, strict=True):
            if (np.abs(sensor - middle) < half).all():
                continue
            one, two = (middle - half - sensor) / ways, (middle + half - sensor) / ways
            enter, leave = np.minimum(one, two).max(axis=1), np.maximum(one, two).min(axis=1)
            reach = np.where((enter < leave) & (enter > 0), np.minimum(reach, enter), reach)
        yield sensor, sensor + ways * reach[:, None]


def filmed(root, step):
    """(sensor, points) of the frames of a 7-Scenes folder; every ``step``-th pixel each way."""
    import cv2

    camera = np.loadtxt(root / "camera-intrinsics.txt")
    for path in sorted(root.glob("*.depth.png")):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::step, ::step].astype(float) / 1000
        pose = np.loadtxt(str(path).replace(".depth.png", ".pose.txt"))
        good = (depth > 0) & (depth < 65)
        v, u = np.nonzero(good)
        z = depth[good]
        local = np.stack([(u * step - camera[0, 2]) / camera[0, 0] * z,
                          (v * step - camera[1, 2]) / camera[1, 1] * z, z], 1)  # fmt: skip
        yield pose[:3, 3], local @ pose[:3, :3].T + pose[:3, 3]


def octomap(leaf):
    import pyoctomap

    tree = pyoctomap.OcTree(leaf)
    for setter, odds in (("setProbHit", 0.85), ("setProbMiss", -0.4),
                         ("setClampingThresMin", -2.0), ("setClampingThresMax", 3.5)):  # fmt: skip
        getattr(tree, setter)(1 / (1 + np.exp(-odds)))
    return tree


def insertion(frames, leaf):
    names = ["numpy", *(["numba"] if have("numba") else [])]
    trees = {n: Octree(OctreeConfig(leaf=leaf, kernels=n, max_range=0.0)) for n in names}
    if "numba" in trees:  # compile before the clock runs
        Octree(OctreeConfig(leaf=leaf, kernels="numba", max_range=0.0)).insert(*frames[0])
    theirs = octomap(leaf) if have("pyoctomap") else None
    spent = {name: [] for name in [*names, "octomap"]}
    for sensor, points in frames:
        for name, tree in trees.items():
            begun = time.perf_counter()
            tree.insert(sensor, points)
            spent[name].append(time.perf_counter() - begun)
        if theirs is not None:
            cloud = np.ascontiguousarray(points)
            begun = time.perf_counter()
            theirs.insertPointCloud(cloud, sensor, -1.0, False, True)
            spent["octomap"].append(time.perf_counter() - begun)
    first = trees[names[-1]]
    leaves = first.level(0)
    updates = first.stats.hits + first.stats.misses
    found = {
        "frames": len(frames), "points_a_frame": len(frames[0][1]), "leaf_m": leaf,
        "leaves": len(leaves), "occupied": int(leaves.occupied.sum()),
        "memory_bytes": first.nbytes,
        "median_ms": {n: 1e3 * float(np.median(s)) for n, s in spent.items() if s},
        "leaf_updates_a_second": {n: updates / sum(spent[n]) for n in names},
        "equal_numpy_numba": len(names) == 2 and all(
            bool((getattr(trees["numpy"].level(0), k) == getattr(leaves, k)).all())
            for k in ("codes", "log_odds", "hits")),
    }  # fmt: skip
    if theirs is not None:
        some = np.random.default_rng(0).permutation(len(leaves))[:40_000]
        unknown = different = 0
        for centre, full in zip(leaves.centres[some], leaves.occupied[some], strict=True):
            node = theirs.search(centre.tolist())
            unknown += node is None
            different += node is not None and bool(theirs.isNodeOccupied(node)) != bool(full)
        found["octomap"] = {
            "memory_bytes": theirs.memoryUsage(),
            "compared": len(some), "unknown_there": unknown, "different": different,
            "times_slower_than_numba": found["median_ms"]["octomap"]
            / found["median_ms"][names[-1]],
        }  # fmt: skip
    points = np.random.default_rng(1).uniform(-4, 4, (1_000_000, 3))
    for tree in trees.values():
        tree.log_odds(points[:1000])
    begun = time.perf_counter()
    first.log_odds(points)
    found["lookups_a_second"] = 1e6 / (time.perf_counter() - begun)
    return found


def session_steps(frames, folder):
    """A whole step, the file included."""
    config = NavigationConfig(octree=OctreeConfig(max_range=0.0))
    path = Path(folder) / "frames.vmem"
    spent = []
    with NavigationSession(path, config) as session:
        for number, (sensor, points) in enumerate(frames):
            pose = np.eye(4)
            pose[:3, 3] = sensor
            begun = time.perf_counter()
            session.step(Observation(float(number), pose, points=points - sensor))
            spent.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    closing = time.perf_counter() - begun
    begun = time.perf_counter()
    NavigationSession(path).close()
    return {
        "median_step_ms": 1e3 * float(np.median(spent)), "worst_step_ms": 1e3 * max(spent),
        "close_ms": 1e3 * closing, "open_ms": 1e3 * (time.perf_counter() - begun),
        "file_bytes": path.stat().st_size,
    }  # fmt: skip


def long_journal(total, per_step, things, width, folder):
    """Many observations of a fixed world: what grows, and what does not."""
    random = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(things)))
    where = np.stack([np.arange(things) % side * 2.0, np.zeros(things),
                      np.arange(things) // side * 2.0], 1)  # fmt: skip
    looks = random.standard_normal((things, width)).astype(np.float32)
    config = NavigationConfig(
        octree=OctreeConfig(leaf=0.5), landmark=LandmarkConfig(radius=0.8),
        store=StoreConfig(commit_every=1),
    )  # fmt: skip
    path = Path(folder) / "long.vmem"
    rows, done, number, spent = [], 0, 0, 0.0
    marks = [total // 20, total // 10, total // 4, total // 2, total]
    with NavigationSession(path, config) as session:
        while done < total:
            pose = np.eye(4)
            centre = where[random.integers(things)]
            pose[:3, 3] = centre + random.normal(0, 0.3, 3) * (1, 0, 1)
            near = np.argsort(((where - centre) ** 2).sum(axis=1))[:per_step]
            local = where[near] - pose[:3, 3] + random.normal(0, 0.05, (per_step, 3))
            noisy = looks[near] + 0.3 * random.standard_normal((per_step, width))
            seen = [
                Sighting(p, f"thing {i}", 0.1, e, 0.9)
                for p, i, e in zip(local, near.tolist(), noisy, strict=True)
            ]
            begun = time.perf_counter()
            session.step(Observation(number * 0.1, pose, sightings=seen))
            spent += time.perf_counter() - begun
            done, number = done + per_step, number + 1
            if marks and done >= marks[0]:
                marks.pop(0)
                rows.append(measured(session, looks, done, number, spent))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    begun = time.perf_counter()
    NavigationSession(path).close()
    return {"things": things, "width": width, "growth": rows,
            "open_s": time.perf_counter() - begun}  # fmt: skip


def measured(session, looks, done, number, spent):
    def median(call, times=20):
        took = []
        for each in range(times):
            begun = time.perf_counter()
            call(each)
            took.append(time.perf_counter() - begun)
        return 1e3 * float(np.median(took))

    usage = session.usage()
    return {
        "observations": done, "landmarks": len(session.state.landmarks),
        "places": len(session.state.topology.places), "seconds": spent,
        "step_ms": 1e3 * spent / number, "file_mb": usage.file_bytes / 1e6,
        "memory_mb": usage.bytes / 1e6,
        "process_mb": psutil.Process().memory_info().rss / 1e6,
        "where_text_ms": median(lambda i: session.where(f"thing {i}")),
        "where_look_ms": median(lambda i: session.where(looks[i])),
        "where_near_ms": median(lambda i: session.where(looks[i], near=(3.0, 0, 3.0))),
        "recall_last_10_ms": median(lambda i: session.recall(f"landmark:{2 + i}", limit=10)),
        "memories_of_first_hit_ms": median(
            lambda i: session.memories(session.where(looks[i])[0].seqs)),
    }  # fmt: skip


def search(width=64):
    """Exact search by size; beyond 50,000 what an approximate index gives."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((2000, width))
    found = []
    for count in (1_000, 10_000, 50_000, 80_000):
        store = UnitSums()
        vectors = centres[random.integers(2000, size=count)] + 0.5 * random.standard_normal(
            (count, width)
        )
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        store.add(store.new(count, width), vectors.astype(np.float32))
        row = {"landmarks": count}
        engines = ["exact", *(e for e in ("faiss", "usearch") if have(e) and count > 50_000)]
        for engine in engines:
            index = Neighbours(store, 50_000, engine)
            begun = time.perf_counter()
            index.search(store.sums[1], 10)
            row[f"{engine}_first_s"] = time.perf_counter() - begun
            begun = time.perf_counter()
            for query in store.sums[1:101]:
                index.search(query, 10)
            row[f"{engine}_ms"] = 10 * (time.perf_counter() - begun)
            if index.recall is not None:
                row[f"{engine}_recall"], row[f"{engine}_used"] = index.recall, index.used
        found.append(row)
    return found


def paths(side=172):
    """Shortest path on a grid of about 30,000 places."""
    graph = Topology()
    for number in range(side * side):
        pose = np.eye(4)
        pose[:3, 3] = (10.0 * (number % side), 0, 10.0 * (number // side))
        graph.put(Place(number + 1, pose, None, 1, 0.0, 0.0))
        for other in (number + 1 - (number % side == 0) * 10**9 - 1, number + 1 - side):
            if other >= 1 and other != number + 1:
                graph.put_way(Way(number + 1, other))
                graph.put_way(Way(other, number + 1))
    begun = time.perf_counter()
    graph.path(1, 2)
    first = time.perf_counter() - begun
    begun = time.perf_counter()
    for _ in range(10):
        graph.path(1, side * side)
    return {"places": side * side, "first_ms": 1e3 * first,
            "ms": 100 * (time.perf_counter() - begun)}  # fmt: skip


def nearby(steps=40, seen=4):
    """A step that sees a few of many landmarks near by, and looks through others.

    Of the later half: until one that is looked through is as surely gone as can be, after 18 steps,
    each of them changes its row in the file.
    """
    random = np.random.default_rng(0)
    v, u = np.mgrid[-20:20, -26:26] / 20
    wall = np.stack([u * 4, v * 4, np.full(u.shape, 4.0)], -1).reshape(-1, 3)
    found = []
    for count in (10, 800, 3_000, 10_000):
        side = int(np.ceil(count ** (1 / 3)))
        where = np.stack(np.unravel_index(np.arange(count), (side,) * 3), 1) * (7.7 / side) - 3.85
        spent = []
        with NavigationSession() as session:
            things = [Sighting(p, f"thing {i}", 0.02, track=f"t{i}") for i, p in enumerate(where)]
            session.step(Observation(0.0, np.eye(4), sightings=things))
            for number in range(1, steps + 1):
                some = random.choice(count, seen, replace=False).tolist()
                things = [Sighting(where[i] + 0.01, f"thing {i}", 0.02) for i in some]
                begun = time.perf_counter()
                session.step(Observation(float(number), np.eye(4), wall, sightings=things))
                spent.append(time.perf_counter() - begun)
        later = 1e3 * float(np.median(spent[steps // 2 :]))
        found.append({"landmarks": count, "median_step_ms": later})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rgbd", type=Path, help="folder of depth PNG and pose files, 7-Scenes")
    parser.add_argument("--pixels", type=int, default=2, help="of --rgbd, every so many-th")
    parser.add_argument("--frames", type=int, default=20, help="generated")
    parser.add_argument("--leaf", type=float, nargs="+", default=[0.10, 0.05])
    parser.add_argument("--observations", type=int, default=50_000, help="in the long journal")
    parser.add_argument("--sightings", type=int, default=20, help="a step of it")
    parser.add_argument("--only", nargs="*", help="of: insertion steps journal search paths nearby")
    args = parser.parse_args()
    wanted = args.only or ["insertion", "steps", "journal", "search", "paths", "nearby"]
    found = {"kernels": choose("auto").name, "python": platform.python_version(),
             "numpy": np.__version__}  # fmt: skip
    frames = list(filmed(args.rgbd, args.pixels)) if args.rgbd else None
    frames = frames or list(generated(args.frames, 320, 240))
    with tempfile.TemporaryDirectory() as folder:
        if "insertion" in wanted:
            found["insertion"] = [insertion(frames, leaf) for leaf in args.leaf]
        if "steps" in wanted:
            found["steps"] = session_steps(frames, folder)
        if "journal" in wanted:
            found["journal"] = long_journal(args.observations, args.sightings, 2000, 64, folder)
        if "search" in wanted:
            found["search"] = search()
        if "paths" in wanted:
            found["paths"] = paths()
        if "nearby" in wanted:
            found["nearby"] = nearby()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
