"""Walks on street graphs: three families of measures, public benchmarks, a controlled experiment.

>>> from vision_mem.evaluation.navigation import Family
>>> Family("outdoor").measures
('TC', 'SPD', 'nDTW', 'sDTW', 'SED', 'CLS', 'KPA')
"""

from vision_mem.evaluation.navigation.city import CityExperiment, CityTable, run_city_experiment
from vision_mem.evaluation.navigation.evaluate import StreetReport, StreetRequest, evaluate_street
from vision_mem.evaluation.navigation.families import Family, WalkScore, average, table_lines

__all__ = [
    "CityExperiment",
    "CityTable",
    "Family",
    "StreetReport",
    "StreetRequest",
    "WalkScore",
    "average",
    "evaluate_street",
    "run_city_experiment",
    "table_lines",
]
