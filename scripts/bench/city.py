"""What a memory of streets is worth, in a generated city: the controlled table.

    python scripts/bench/city.py                                # 3 cities, 60 tasks each, 3 seeds
    python scripts/bench/city.py --cities 1 --episodes 20 --seeds 1
    python scripts/bench/city.py --tour 0 300 1000 3000         # what a longer first walk brings
    python scripts/bench/city.py --missed 0.2 0.35 0.5          # better and worse detectors
    python scripts/bench/city.py --reach 12 15 20 --field 360

One follower of instructions everywhere; only what it remembers differs. "no memory" looks at the
present view, "short only" at the latest six, "long" also at what an earlier walk through the city
left in a file, "long + planning" also at the ways walked then. The controls have the memory of
another city, or the right one with landmarks in each other's places. Measures are of the family
"outdoor", intervals are 95 % by paired bootstrap over tasks within each city.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

from vision_mem.evaluation.vln.city_experiment import CityExperiment, run_city_experiment
from vision_mem.runs.tally import machine
from vision_mem.synthetic.city import DetectorConfig


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cities", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=60, help="tasks of each kind")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--navigator", default="touchdown", help="touchdown or velma")
    parser.add_argument("--tour", type=int, nargs="+", default=[3000], help="steps")
    parser.add_argument("--missed", type=float, nargs="+", default=[0.35])
    parser.add_argument("--reach", type=float, nargs="+", default=[15.0], help="metres")
    parser.add_argument("--field", type=float, nargs="+", default=[240.0], help="degrees")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    asked = parser.parse_args()
    found = []
    settings = itertools.product(asked.tour, asked.missed, asked.reach, asked.field)
    for tour, missed, reach, field in settings:
        experiment = CityExperiment(
            cities=asked.cities, episodes=asked.episodes, seeds=asked.seeds, tour=tour,
            navigator=asked.navigator,
            detector=DetectorConfig(reach_m=reach, field=field, missed=missed),
        )  # fmt: skip
        table = run_city_experiment(experiment, say=lambda line: print(line, file=sys.stderr))
        title = f"tour {tour}, missed {missed:g}, reach {reach:g} m, field {field:g} degrees"
        print("\n".join([title, *table.lines()]), flush=True)
        rows = [row.as_dict() for row in table.rows]
        found.append({"setting": title, "coverage": table.coverage, "rows": rows})
    if asked.out is not None:
        value = {"command": " ".join(sys.argv), **machine(), "tables": found}
        asked.out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
